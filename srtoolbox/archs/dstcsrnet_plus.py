"""DSTC-SRNet+: our own network with the five stages of DSTC-SRNet."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.attention import CrossLayer, EnhancementGroup, SpatialBlock
from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3
from srtoolbox.archs.layers.burst.bayer import demosaic
from srtoolbox.archs.layers.burst.memory import MTMS, SampleMemory, fine_samples, num_plane
from srtoolbox.archs.layers.burst.motion import estimate_motion
from srtoolbox.archs.layers.residual import residual_blocks, scaled_kaiming_
from srtoolbox.archs.layers.upsample import bicubic_upsample, check_scale
from srtoolbox.errors import UserError, check_choice
from srtoolbox.registry import ARCH_REGISTRY

_IMAGE_GAIN = 0.1
"""Factor on the output of every convolution that predicts an image. Adam changes all weights by
similar amounts, which add up in such a convolution: without this factor, one step at a high
learning rate shifts the whole image visibly."""


@ARCH_REGISTRY.register()
class DSTCSRNetPlus(nn.Module):
    """DSTC-SRNet+: super-resolution of a burst by a temporal and a spatial stream. Ours.

    It has the five stages of DSTC-SRNet (MinjieWan/DTSC-SRNet, © 2026 Minjie Wan, MIT licence): two
    parallel streams, a multi-scale temporal memory stream (`MTMS`) and a dynamic receptive-field
    spatial stream (`DRSS`); bidirectional cross-attention fusion of both (`BCAF`); multi-level
    feature enhancement (`MLFE`); a progressive decoder (`ProgressiveDecoder`). The idea of these
    stages is its authors'. **The contents of the stages are ours**, as are the label-free
    alignment, the shift-and-add memory and the sum with the enlarged reference. The authors'
    network is `DSTCSRNet`; weights of one network do not fit the other.

    The other frames influence the output from the first training step: by samples of all frames on
    the fine grid (input of the memory and of the last convolution), and by the mean of the aligned
    frames. Without these paths training tends to end as a single-image network. At the start the
    network interpolates all samples by normalised convolution; all other contributions are small.

    ==================  ======================  ==============================================
    stage               shape                   content
    ==================  ======================  ==============================================
    input               (N, T, B, h, w)         reference first, the others in order (RAW: B = 4)
    motion              (N, T, 2, 3)            Gauss-Newton on the mean of the bands, no gradients
    shift-and-add       (N, 2B + 1, h·s, w·s)   samples on the fine grid, weights, mean (RAW: 9)
    shallow features    (N, T, C, h, w)         convolution, residual blocks, for each frame
    MTMS                (N, C, h/2^l, w/2^l)    per level: align, embed, GRU from both ends, mean
    DRSS                (N, C, h, w)            selective kernels on the reference
    BCAF                (N, C, h, w)            windowed attention in both directions, gate
    MLFE                (N, C, h, w)            attentive residual groups, coarse context
    ProgressiveDecoder  (N, B, h·s, w·s)        ×2 (or ×3) and an image in each stage
    ==================  ======================  ==============================================

    B is the number of bands: 3 for RGB, any other for spectral images. For RAW the output is RGB.

    Time and memory of every part are linear in pixels and in frames. T can be any number ≥ 1; train
    with the number of frames of the application, or with a varying number. The defaults are preset
    B; presets S and L are in ``options/_base_/networks``.

    Args:
        scale: 2, 3 or 4; for packed RAW, whose frames have half the size of the sensor, 4, 6 or 8.
        num_feat: Channels C, divisible by ``num_head`` and by 2.
        num_block: Residual blocks of the shallow features.
        num_level: Pyramid levels of the temporal memory; each has half the size of the previous.
        memory_kernel: Kernel size of the recurrent memory; 1 avoids most of its cost.
        num_block_spatial: Blocks of the spatial stream.
        num_layer_fusion: Layers of cross attention.
        num_head: Attention heads.
        window_size: Height and width of the attention windows.
        num_group: Groups of the feature enhancement.
        num_block_group: Residual blocks in each group.
        num_block_decoder: Residual blocks in each stage of the decoder.
        reference: Index of the reference frame in the input.
        alignment: ``"global"`` motion, ``"residual"`` learned offsets, both, or ``"none"``. Without
            global motion there is no shift-and-add memory.
        streams: The streams to build.
        fusion: Fusion of two streams: `BCAF`, `ConcatFusion` or their sum.
        mlfe: Whether to build the feature enhancement.
        decoder: ``"plain"`` has no intermediate images.
        channels: 3 for images of bands; 4 for RAW packed as R, G beside R, G beside B, B, whose
            output is RGB. Images of four bands have ``num_in_ch: 4`` instead.
        max_frame: Maximum number of frames to use: the reference and its nearest neighbours.
        num_in_ch: Bands of the input; it has no meaning for RAW.
        num_out_ch: Bands of the output, equal to ``num_in_ch``, since the result is added to the
            input; None: ``num_in_ch``.
    """

    paper = "ours, after the five stages of DSTC-SRNet (Wan, MinjieWan/DTSC-SRNet, 2026)"
    scales = (2, 3, 4)
    num_frame = None

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 4,
        num_level: int = 3,
        memory_kernel: int = 3,
        num_block_spatial: int = 10,
        num_layer_fusion: int = 2,
        num_head: int = 4,
        window_size: int = 8,
        num_group: int = 4,
        num_block_group: int = 3,
        num_block_decoder: int = 2,
        reference: int = 0,
        alignment: Literal["global+residual", "global", "residual", "none"] = "global+residual",
        streams: Literal["both", "temporal", "spatial"] = "both",
        fusion: Literal["bcaf", "concat", "sum"] = "bcaf",
        mlfe: Literal["on", "off"] = "on",
        decoder: Literal["progressive", "plain"] = "progressive",
        channels: Literal[3, 4] = 3,
        max_frame: int | None = None,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        if max_frame is not None and max_frame < 1:
            raise UserError(f"DSTCSRNetPlus: max_frame must be at least 1, got {max_frame}")
        check_choice("DSTCSRNetPlus: fusion", fusion, ("bcaf", "concat", "sum"))
        check_choice("DSTCSRNetPlus: channels", channels, (3, 4))
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch, equal=True)
        self.max_frame, self.raw = max_frame, channels == 4
        if self.raw and num_in_ch != 3:
            raise UserError(
                f"DSTCSRNetPlus: channels: 4 means packed RAW, but num_in_ch is {num_in_ch}; for "
                f"images of {num_in_ch} bands leave channels out, for RAW leave num_in_ch out"
            )
        if self.raw:
            self.channels = 4
            self.scales = tuple(2 * factor for factor in type(self).scales)
        self.scale = check_scale(self, scale)
        self.reference = reference
        self.use_motion = "global" in alignment and streams != "spatial"
        self.head = nn.Sequential(
            conv3(self.channels, num_feat), residual_blocks(num_block, num_feat)
        )
        planes = num_plane(self.channels, self.raw) if self.use_motion else 0
        memory = num_feat, num_level, memory_kernel, "residual" in alignment
        self.temporal = MTMS(*memory) if streams != "spatial" else None
        self.samples = SampleMemory(scale, num_feat, planes) if self.use_motion else None
        self.spatial = DRSS(num_feat, num_block_spatial) if streams != "temporal" else None
        self.fusion = None
        if streams == "both" and fusion == "bcaf":
            self.fusion = BCAF(num_feat, num_layer_fusion, num_head, window_size)
        elif streams == "both" and fusion == "concat":
            self.fusion = ConcatFusion(num_feat)
        self.enhance = MLFE(num_feat, num_group, num_block_group) if mlfe == "on" else nn.Identity()
        steps = {2: (2,), 3: (3,), 4: (2, 2), 6: (2, 3), 8: (2, 2, 2)}[scale]
        progressive = decoder == "progressive"
        self.decoder = ProgressiveDecoder(
            num_feat, steps, num_block_decoder, progressive, planes, self.out_channels
        )
        costly = ("temporal.levels", "spatial.blocks", "enhance.groups", "decoder.stages")
        built = {name for name, _ in self.named_modules()}
        self.checkpoint_blocks = ("head", *(name for name in costly if name in built))

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, T, B, h, w) in [0, 1] to (N, B, h·scale, w·scale); RAW (B = 4) to RGB."""
        lq = lq[:, self._frames(lq.shape[1])]
        if self.raw:
            base = bicubic_upsample(demosaic(lq[:, 0]), self.scale // 2)
        else:
            base = bicubic_upsample(lq[:, 0], self.scale)
        n, t = lq.shape[:2]
        feat = self.head(lq.flatten(0, 1) - 0.5).unflatten(0, (n, t))

        motion = fine = None
        if self.use_motion:
            motion = estimate_motion(lq)
            fine = fine_samples(lq, motion, base, self.scale)
        parts = []
        if self.temporal is not None:
            memory = self.temporal(feat, motion)
            if self.samples is not None:
                memory = memory + self.samples(fine)
            parts.append(memory)
        if self.spatial is not None:
            parts.append(self.spatial(feat[:, 0]))
        deep = torch.stack(parts).sum(0) if self.fusion is None else self.fusion(*parts)
        return self.decoder(self.enhance(deep), base, fine)

    def _frames(self, num_frame: int) -> list[int]:
        """Returns the indices of the frames to use: the reference first, the others in order."""
        first, *others = sorted(range(num_frame), key=lambda t: abs(t - self.reference))
        limit = 1 if self.temporal is None else self.max_frame or num_frame
        return [first, *sorted(others[: limit - 1])]


class DRSS(nn.Module):
    """Dynamic receptive-field spatial stream: maps (N, C, h, w) to the same shape."""

    def __init__(self, num_feat: int, num_block: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(SpatialBlock(num_feat) for _ in range(num_block)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.blocks(x)


class BCAF(nn.Module):
    """Bidirectional cross-attention fusion of two maps (N, C, h, w) into one.

    In each layer both streams attend to each other; at the end a gate weighs them for each pixel.
    """

    def __init__(self, num_feat: int, num_layer: int, num_head: int, window_size: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(CrossLayer(num_feat, num_head, window_size) for _ in range(2))
            for _ in range(num_layer)
        )
        self.gate = nn.Conv2d(2 * num_feat, num_feat, 1)
        self.join = conv3(2 * num_feat, num_feat)

    def forward(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        for layer in self.layers:
            to_temporal, to_spatial = layer.children()
            temporal, spatial = to_temporal(temporal, spatial), to_spatial(spatial, temporal)
        both = torch.cat([temporal, spatial], 1)
        return torch.lerp(spatial, temporal, torch.sigmoid(self.gate(both))) + self.join(both)


class ConcatFusion(nn.Module):
    """Simple alternative to `BCAF`: the sum of both streams and of a convolution over both."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.join = conv3(2 * num_feat, num_feat)

    def forward(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        return temporal + spatial + self.join(torch.cat([temporal, spatial], 1))


class MLFE(nn.Module):
    """Multi-level feature enhancement: maps (N, C, h, w) to the same shape.

    Groups of residual blocks with attention, and a 1×1 convolution over the outputs of all groups.
    """

    def __init__(self, num_feat: int, num_group: int, num_block: int) -> None:
        super().__init__()
        self.groups = nn.ModuleList(EnhancementGroup(num_feat, num_block) for _ in range(num_group))
        self.gather = scaled_kaiming_(nn.Conv2d(num_group * num_feat, num_feat, 1))

    def forward(self, x: Tensor) -> Tensor:
        levels, out = [], x
        for group in self.groups:
            out = group(out)
            levels.append(out)
        return x + self.gather(torch.cat(levels, 1))


class ProgressiveDecoder(nn.Module):
    """Enlarges in stages and adds an image in each: maps (N, C, h, w) to (N, B, h·s, w·s).

    The last stage also gets the samples of all frames at full resolution, so that one convolution
    can average and sharpen them.

    Args:
        num_feat: Channels C.
        steps: Factor of each stage; their product is s.
        num_block: Residual blocks in each stage.
        images: Whether each stage predicts an image; else only the last one.
        num_plane: Planes K of `fine_samples`; 0 without them.
        num_out_ch: Bands B of the images.
    """

    def __init__(
        self,
        num_feat: int,
        steps: tuple[int, ...],
        num_block: int,
        images: bool,
        num_plane: int,
        num_out_ch: int,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.images = nn.ModuleList()
        width = num_feat
        for i, step in enumerate(steps):
            last = i == len(steps) - 1
            wide = num_feat if i == 0 else num_feat // 2
            self.stages.append(
                nn.Sequential(
                    conv3(width, wide * step**2),
                    nn.PixelShuffle(step),
                    nn.LeakyReLU(0.1),
                    residual_blocks(num_block, wide),
                )
            )
            if images or last:
                self.images.append(scaled_kaiming_(conv3(wide, num_out_ch)))
            width = wide
        self.early = images
        self.samples: nn.Conv2d | None = None
        if num_plane:  # at the start it adds the mean residual of the samples around each pixel
            conv = nn.Conv2d(num_out_ch + num_plane, num_out_ch, 5, padding=2)
            self.samples = scaled_kaiming_(conv, 0.01)
            with torch.no_grad():
                self.samples.weight[:, -num_out_ch:, 2, 2] += torch.eye(num_out_ch) / _IMAGE_GAIN

    def forward(self, x: Tensor, base: Tensor, fine: Tensor | None) -> Tensor:
        """Adds the predicted images to ``base``.

        Args:
            x: Features (N, C, h, w).
            base: The enlarged reference (N, B, H, W).
            fine: Planes of `fine_samples`, (N, K, H, W); None if ``num_plane`` is 0.

        Returns:
            (N, B, H, W).
        """
        images: list[Tensor] = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if self.early or i == len(self.stages) - 1:
                image = _IMAGE_GAIN * self.images[i if self.early else 0](x)
                if images:
                    image = image + F.interpolate(images[-1], size=x.shape[-2:], mode="bilinear")
                images.append(image)
        image = images[-1]
        if self.samples is not None and fine is not None:
            image = image + _IMAGE_GAIN * self.samples(torch.cat([base - 0.5, fine], 1))
        return base + image

"""DSTC-SRNet: burst super-resolution with a temporal and a spatial stream."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.attention import CrossLayer, EnhancementGroup, SpatialBlock
from srtoolbox.archs.layers.burst.bayer import demosaic
from srtoolbox.archs.layers.burst.memory import MTMS, NUM_PLANE, SampleMemory, conv3, fine_samples
from srtoolbox.archs.layers.burst.motion import estimate_motion
from srtoolbox.archs.layers.residual import residual_blocks, scaled_kaiming_
from srtoolbox.archs.layers.upsample import bicubic_upsample, check_scale
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

_IMAGE_GAIN = 0.1
"""Of every convolution that makes an image. Adam moves all weights alike, and the many of such a
convolution add up: without it, one step at a high rate shifts the whole image visibly."""


@ARCH_REGISTRY.register()
class DSTCSRNet(nn.Module):
    """Dual-stream spatio-temporal collaborative super-resolution of a burst.

    What the paper's abstract says: two parallel streams, a multi-scale temporal memory stream
    (`MTMS`) and a dynamic receptive-field spatial stream (`DRSS`); bidirectional cross-attention
    fusion of the two (`BCAF`); multi-level feature enhancement (`MLFE`); a progressive decoder
    (`ProgressiveDecoder`). **What is inside these five modules is ours**, for no code and no
    further detail was at hand; so are the label-free alignment and the shift-and-add memory.

    The other frames reach the output by several ways that are open from the first step: samples
    of all frames on the fine grid (into the memory and into the last convolution), and the mean
    over the aligned frames. Without such ways training tends to settle as a single-image network.
    It starts as interpolation of all samples by normalised convolution; the rest starts small.

    ==================  ======================  ==============================================
    stage               shape                   made of
    ==================  ======================  ==============================================
    input               (N, T, 3, h, w)         reference first, the others in order (RAW: 4)
    motion              (N, T, 2, 3)            Gauss-Newton on the frames, without gradients
    shift-and-add       (N, 7, h·s, w·s)        all samples on the fine grid, hits, mean (RAW: 9)
    shallow features    (N, T, C, h, w)         convolution, residual blocks, for each frame
    MTMS                (N, C, h/2^l, w/2^l)    per level: align, embed, GRU from both ends, mean
    DRSS                (N, C, h, w)            selective kernels on the reference
    BCAF                (N, C, h, w)            windowed attention in both directions, gate
    MLFE                (N, C, h, w)            attentive residual groups, coarse context
    ProgressiveDecoder  (N, 3, h·s, w·s)        ×2 (or ×3) a stage, an image at each
    ==================  ======================  ==============================================

    Every part costs time and memory linear in pixels and in frames. Any T ≥ 1 will do; train with
    the number of frames that is to be used, or with a varying one. The defaults are the preset B;
    S and L are in ``options/_base_/networks``.

    Args:
        scale: 2, 3 or 4; of packed RAW, whose frames are half as large as the sensor, 4, 6 or 8.
        num_feat: Channels C, divisible by ``num_head`` and by 2.
        num_block: Residual blocks of the shallow features.
        num_level: Levels of the temporal memory, each of half the size.
        memory_kernel: Kernel size of the recurrent memory; 1 saves most of its cost.
        num_block_spatial: Blocks of the spatial stream.
        num_layer_fusion: Layers of cross attention.
        num_head: Attention heads.
        window_size: Side of the attention windows.
        num_group: Groups of the feature enhancement.
        num_block_group: Residual blocks in each group.
        num_block_decoder: Residual blocks in each stage of the decoder.
        reference: Index of the reference frame in the input.
        alignment: ``"global"`` motion, ``"residual"`` learned offsets, both, or ``"none"``
            (then there is no shift-and-add memory either).
        streams: Which streams there are.
        fusion: How two streams are joined.
        mlfe: Whether there is the feature enhancement.
        decoder: ``"plain"`` goes to the full size without the images in between.
        channels: 3 for RGB, 4 for RAW packed as R, G beside R, G beside B, B; the result is RGB.
        max_frame: Frames that are looked at, at most: the reference and those nearest to it.
    """

    paper = (
        "DSTC-SRNet: dual-stream spatio-temporal collaborative network for burst super-resolution"
    )
    scales = (2, 3, 4)
    num_frame = None
    reference = 0
    size_multiple = 1
    min_size = 1

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
    ) -> None:
        super().__init__()
        if max_frame is not None and max_frame < 1:
            raise UserError(f"DSTCSRNet: max_frame must be at least 1, got {max_frame}")
        self.channels, self.max_frame = channels, max_frame
        if channels == 4:
            self.scales = tuple(2 * each for each in type(self).scales)
        self.scale = check_scale(self, scale)
        self.reference = reference
        self.use_motion = "global" in alignment and streams != "spatial"
        self.head = nn.Sequential(conv3(channels, num_feat), residual_blocks(num_block, num_feat))
        num_plane = NUM_PLANE[channels]
        self.temporal = self.spatial = self.fusion = self.samples = None
        if streams != "spatial":
            self.temporal = MTMS(num_feat, num_level, memory_kernel, "residual" in alignment)
        if self.use_motion:
            self.samples = SampleMemory(scale, num_feat, num_plane)
        if streams != "temporal":
            self.spatial = DRSS(num_feat, num_block_spatial)
        if streams == "both":
            self.fusion = {
                "bcaf": lambda: BCAF(num_feat, num_layer_fusion, num_head, window_size),
                "concat": lambda: ConcatFusion(num_feat),
                "sum": lambda: None,
            }[fusion]()
        self.enhance = MLFE(num_feat, num_group, num_block_group) if mlfe == "on" else nn.Identity()
        steps = {2: (2,), 3: (3,), 4: (2, 2), 6: (2, 3), 8: (2, 2, 2)}[scale]
        self.decoder = ProgressiveDecoder(
            *(num_feat, steps, num_block_decoder, decoder == "progressive"),
            num_plane if self.use_motion else 0,
        )
        costly = ("temporal.levels", "spatial.blocks", "enhance.groups", "decoder.stages")
        built = {name for name, _ in self.named_modules()}
        self.checkpoint_blocks = ("head", *(name for name in costly if name in built))

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, T, channels, h, w) in [0, 1] to (N, 3, h·scale, w·scale)."""
        lq = lq[:, self._frames(lq.shape[1])]
        if self.channels == 3:
            base = bicubic_upsample(lq[:, 0], self.scale)
        else:
            base = bicubic_upsample(demosaic(lq[:, 0]), self.scale // 2)
        n, t = lq.shape[:2]
        feat = self.head(lq.flatten(0, 1) - 0.5).unflatten(0, (n, t))

        motion = fine = None
        if self.use_motion:
            motion = estimate_motion(lq)
            fine = fine_samples(lq, motion, base, self.scale)
        parts = []
        if self.temporal is not None:
            memory = self.temporal(feat, motion)
            parts.append(memory if fine is None else memory + self.samples(fine))
        if self.spatial is not None:
            parts.append(self.spatial(feat[:, 0]))
        deep = torch.stack(parts).sum(0) if self.fusion is None else self.fusion(*parts)
        return self.decoder(self.enhance(deep), base, fine)

    def _frames(self, num_frame: int) -> list[int]:
        """Which frames are looked at: the reference, and then the others in their order."""
        first, *others = sorted(range(num_frame), key=lambda t: abs(t - self.reference))
        limit = 1 if self.temporal is None else self.max_frame or num_frame
        return [first, *sorted(others[: limit - 1])]


class DRSS(nn.Module):
    """Dynamic receptive-field spatial stream: (N, C, h, w) of the reference to the same shape."""

    def __init__(self, num_feat: int, num_block: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(SpatialBlock(num_feat) for _ in range(num_block)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.blocks(x)


class BCAF(nn.Module):
    """Bidirectional cross-attention fusion of two maps (N, C, h, w) into one.

    In each layer either stream asks the other; then a gate weighs them pixel by pixel.
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
        for ask_spatial, ask_temporal in self.layers:
            temporal, spatial = ask_spatial(temporal, spatial), ask_temporal(spatial, temporal)
        both = torch.cat([temporal, spatial], 1)
        return torch.lerp(spatial, temporal, torch.sigmoid(self.gate(both))) + self.join(both)


class ConcatFusion(nn.Module):
    """The plain alternative to `BCAF`: one convolution over both streams."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.join = conv3(2 * num_feat, num_feat)

    def forward(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        return temporal + spatial + self.join(torch.cat([temporal, spatial], 1))


class MLFE(nn.Module):
    """Multi-level feature enhancement: (N, C, h, w) to the same shape.

    Groups of residual blocks with attention; the outputs of all groups are gathered at the end.
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
    """Enlarges stage by stage and adds an image at each: (N, C, h, w) to (N, 3, h·s, w·s).

    The last stage also sees the samples of all frames at full resolution, so that a single
    convolution can already sharpen and average them.
    """

    def __init__(
        self, num_feat: int, steps: tuple[int, ...], num_block: int, images: bool, num_plane: int
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
                self.images.append(scaled_kaiming_(conv3(wide, 3)))
            width = wide
        self.steps, self.early = steps, images
        self.samples = None
        if num_plane:  # starts by adding what the samples say of each cell
            self.samples = scaled_kaiming_(nn.Conv2d(3 + num_plane, 3, 5, padding=2), 0.01)
            with torch.no_grad():
                self.samples.weight[:, -3:, 2, 2] += torch.eye(3) / _IMAGE_GAIN

    def forward(self, x: Tensor, base: Tensor, fine: Tensor | None) -> Tensor:
        """``base`` (N, 3, H, W) is what the result is a correction of; ``fine`` (N, K, H, W)."""
        image = None
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if self.early or i == len(self.stages) - 1:
                finer = _IMAGE_GAIN * self.images[i if self.early else 0](x)
                if image is not None:
                    finer = finer + F.interpolate(image, size=x.shape[-2:], mode="bilinear")
                image = finer
        if self.samples is not None:
            image = image + _IMAGE_GAIN * self.samples(torch.cat([base - 0.5, fine], 1))
        return base + image

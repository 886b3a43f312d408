"""EDVR: alignment by a pyramid of deformable convolutions, fusion by attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3, enlarge, lrelu
from srtoolbox.archs.layers.deform import ModulatedDeformConvPack, align_frames
from srtoolbox.archs.layers.residual import ResidualBlock, residual_blocks
from srtoolbox.archs.layers.tsa import TSAFusion
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

LEVELS = ("l1", "l2", "l3")  # full, half and quarter of the size


@ARCH_REGISTRY.register()
class EDVR(nn.Module):
    """Video restoration with enhanced deformable convolutions; the defaults are EDVR-M ×4.

    EDVR-L has ``num_feat=128, num_reconstruct_block=40``. With ``hr_in`` (for deblurring, scale 1)
    input and output have the same size, and the layers work at a quarter of it.

    Args:
        scale: 4, or 1 with ``hr_in``.
        num_feat: Channels of the features.
        num_frame: Frames of a clip; the middle one is the reference.
        deformable_groups: Groups of channels, each with its own offsets; divides ``num_feat``.
        num_extract_block: Residual blocks applied to each frame.
        num_reconstruct_block: Residual blocks after the fusion.
        with_tsa: Fuse by temporal and spatial attention instead of one 1×1 convolution.
        with_predeblur: Deblur the frames by a pyramid of residual blocks first; None: if ``hr_in``.
        hr_in: Input and output have the same size; None: if ``scale`` is 1.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output, equal to ``num_in_ch``, since the result is added to the
            input; None: ``num_in_ch``.
    """

    paper = "Wang et al., EDVR: Video restoration with enhanced deformable convolutions, CVPRW 2019"
    scales = (1, 4)
    num_frame = 5
    reference = 2
    size_multiple = 4
    min_size = 4
    checkpoint_blocks = ("feature_extraction", "reconstruction")

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_frame: int = 5,
        deformable_groups: int = 8,
        num_extract_block: int = 5,
        num_reconstruct_block: int = 10,
        with_tsa: bool = True,
        with_predeblur: bool | None = None,
        hr_in: bool | None = None,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch, equal=True)
        self.hr_in = scale == 1 if hr_in is None else hr_in
        self.with_predeblur = self.hr_in if with_predeblur is None else with_predeblur
        if self.hr_in != (scale == 1):
            raise UserError(
                f"EDVR: scale {scale} and hr_in {hr_in} contradict each other; hr_in means that "
                "the input is as large as the output, which is scale 1"
            )
        if self.hr_in and not self.with_predeblur:
            raise UserError("EDVR: hr_in needs with_predeblur, whose layers shrink the input")
        self.with_tsa = with_tsa
        self.num_frame = num_frame
        self.reference = num_frame // 2
        self.size_multiple = self.min_size = 16 if self.hr_in else 4

        if self.with_predeblur:
            self.predeblur = Predeblur(num_feat, self.hr_in, num_in_ch)
            self.conv_1x1 = nn.Conv2d(num_feat, num_feat, 1)
        else:
            self.conv_first = conv3(num_in_ch, num_feat)
        self.feature_extraction = residual_blocks(num_extract_block, num_feat)
        self.conv_l2_1 = conv3(num_feat, num_feat, stride=2)
        self.conv_l2_2 = conv3(num_feat, num_feat)
        self.conv_l3_1 = conv3(num_feat, num_feat, stride=2)
        self.conv_l3_2 = conv3(num_feat, num_feat)
        self.pcd_align = PCDAlignment(num_feat, deformable_groups)
        if with_tsa:
            self.fusion = TSAFusion(num_feat, num_frame, self.reference)
        else:
            self.fusion = nn.Conv2d(num_frame * num_feat, num_feat, 1)
        self.reconstruction = residual_blocks(num_reconstruct_block, num_feat)
        self.upconv1 = conv3(num_feat, num_feat * 4)
        self.upconv2 = conv3(num_feat, 64 * 4)
        self.conv_hr = conv3(64, 64)
        self.conv_last = conv3(64, num_in_ch)

    def forward(self, lq: Tensor) -> Tensor:
        """Restores the middle frame of each clip.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1], T = ``num_frame``.

        Returns:
            (N, num_in_ch, h * scale, w * scale).
        """
        aligned = self._align(self._pyramid(lq))
        feat = self.fusion(aligned if self.with_tsa else aligned.flatten(1, 2))
        feat = self.reconstruction(feat)
        feat = lrelu(F.pixel_shuffle(self.upconv1(feat), 2))
        feat = lrelu(F.pixel_shuffle(self.upconv2(feat), 2))
        residual = self.conv_last(lrelu(self.conv_hr(feat)))
        base = lq[:, self.reference]
        return residual + (base if self.hr_in else enlarge(base, 4))

    def _pyramid(self, lq: Tensor) -> list[Tensor]:
        """Returns features of all frames at full, half and quarter size, (N, T, num_feat, ·, ·)."""
        frames = lq.flatten(0, 1)
        if self.with_predeblur:
            feat = self.conv_1x1(self.predeblur(frames))
        else:
            feat = lrelu(self.conv_first(frames))
        l1 = self.feature_extraction(feat)
        l2 = lrelu(self.conv_l2_2(lrelu(self.conv_l2_1(l1))))
        l3 = lrelu(self.conv_l3_2(lrelu(self.conv_l3_1(l2))))
        return [level.unflatten(0, lq.shape[:2]) for level in (l1, l2, l3)]

    def _align(self, pyramid: list[Tensor]) -> Tensor:
        """Aligns all frames, including the reference, to the reference: (N, T, num_feat, h, w)."""
        middle = [level[:, self.reference] for level in pyramid]
        return align_frames(self.pcd_align, pyramid, middle)


class PCDAlignment(nn.Module):
    """Pyramid, cascading and deformable alignment of a frame's features to the reference's.

    Args:
        num_feat: Channels of the features.
        deformable_groups: Groups of channels, each with its own offsets.
    """

    def __init__(self, num_feat: int, deformable_groups: int) -> None:
        super().__init__()

        def levels(*makers: Callable[[], nn.Module]) -> nn.ModuleDict:
            return nn.ModuleDict({name: make() for name, make in zip(LEVELS, makers, strict=False)})

        double, single = partial(conv3, 2 * num_feat, num_feat), partial(conv3, num_feat, num_feat)
        deformable = partial(ModulatedDeformConvPack, num_feat, num_feat, deformable_groups)
        self.offset_conv1 = levels(double, double, double)
        self.offset_conv2 = levels(double, double, single)
        self.offset_conv3 = levels(single, single)
        self.dcn_pack = levels(deformable, deformable, deformable)
        self.feat_conv = levels(double, double)
        self.cas_offset_conv1, self.cas_offset_conv2 = double(), single()
        self.cas_dcnpack = deformable()

    def forward(self, frame: list[Tensor], reference: list[Tensor]) -> Tensor:
        """Maps two pyramids, three levels (M, num_feat, h / 2^i, w / 2^i) each, to level 0."""
        offsets: list[Tensor] = []
        feats: list[Tensor] = []
        for name, moving, fixed in zip(LEVELS[::-1], frame[::-1], reference[::-1], strict=True):
            offset = lrelu(self.offset_conv1[name](torch.cat((moving, fixed), dim=1)))
            if offsets:
                # A displacement is twice as many pixels at twice the size.
                offset = torch.cat((offset, enlarge(offsets[-1]) * 2), dim=1)
            offset = lrelu(self.offset_conv2[name](offset))
            if offsets:
                offset = lrelu(self.offset_conv3[name](offset))
            feat = self.dcn_pack[name](moving, offset)
            if feats:
                feat = self.feat_conv[name](torch.cat((feat, enlarge(feats[-1])), dim=1))
            offsets.append(offset)
            feats.append(feat if name == "l1" else lrelu(feat))
        offset = lrelu(self.cas_offset_conv1(torch.cat((feats[-1], reference[0]), dim=1)))
        offset = lrelu(self.cas_offset_conv2(offset))
        return lrelu(self.cas_dcnpack(feats[-1], offset))


class Predeblur(nn.Module):
    """Pyramid of residual blocks that deblurs frames before their alignment.

    Args:
        num_feat: Channels of the features.
        hr_in: Reduce the input to a quarter of its size first.
        num_in_ch: Bands of the frames.
    """

    def __init__(self, num_feat: int, hr_in: bool, num_in_ch: int) -> None:
        super().__init__()
        self.hr_in = hr_in
        self.conv_first = conv3(num_in_ch, num_feat)
        if hr_in:
            self.stride_conv_hr1 = conv3(num_feat, num_feat, stride=2)
            self.stride_conv_hr2 = conv3(num_feat, num_feat, stride=2)
        self.stride_conv_l2 = conv3(num_feat, num_feat, stride=2)
        self.stride_conv_l3 = conv3(num_feat, num_feat, stride=2)
        self.resblock_l3 = ResidualBlock(num_feat)
        self.resblock_l2_1 = ResidualBlock(num_feat)
        self.resblock_l2_2 = ResidualBlock(num_feat)
        self.resblock_l1 = nn.ModuleList(ResidualBlock(num_feat) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (M, num_in_ch, h, w) to (M, num_feat, ·, ·): h, w, or a quarter if ``hr_in``."""
        l1 = lrelu(self.conv_first(x))
        if self.hr_in:
            l1 = lrelu(self.stride_conv_hr2(lrelu(self.stride_conv_hr1(l1))))
        l2 = lrelu(self.stride_conv_l2(l1))
        l3 = lrelu(self.stride_conv_l3(l2))
        l3 = enlarge(self.resblock_l3(l3))
        l2 = enlarge(self.resblock_l2_2(self.resblock_l2_1(l2) + l3))
        for index, block in enumerate(self.resblock_l1):
            l1 = block(l1 + l2 if index == 2 else l1)
        return l1

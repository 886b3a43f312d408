"""EDVR, which aligns frames by a pyramid of deformable convolutions and fuses them by attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.deform import ModulatedDeformConvPack, align_frames
from srtoolbox.archs.layers.residual import ResidualBlock, residual_blocks
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

LEVELS = ("l1", "l2", "l3")  # from full to quarter size


@ARCH_REGISTRY.register()
class EDVR(nn.Module):
    """Video restoration with enhanced deformable convolutions; the defaults are EDVR-M ×4.

    EDVR-L has ``num_feat=128, num_reconstruct_block=40``. With ``hr_in`` the input is as large as
    the output (deblurring: scale 1), and the net itself works on a quarter of its size.

    Args:
        scale: 4, or 1 with ``hr_in``.
        num_feat: Channels of the features.
        num_frame: Frames of a clip; the reference is the one in the middle.
        deformable_groups: Groups of channels with offsets of their own; divides ``num_feat``.
        num_extract_block: Residual blocks that see each frame.
        num_reconstruct_block: Residual blocks after the fusion.
        with_tsa: Fuse by temporal and spatial attention instead of one 1×1 convolution.
        with_predeblur: Send the frames through a deblurring pyramid first; by default if ``hr_in``.
        hr_in: Input is as large as the output; by default if ``scale`` is 1.
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
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
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
            self.predeblur = Predeblur(num_feat, self.hr_in)
            self.conv_1x1 = nn.Conv2d(num_feat, num_feat, 1)
        else:
            self.conv_first = _conv(3, num_feat)
        self.feature_extraction = residual_blocks(num_extract_block, num_feat)
        self.conv_l2_1 = _conv(num_feat, num_feat, stride=2)
        self.conv_l2_2 = _conv(num_feat, num_feat)
        self.conv_l3_1 = _conv(num_feat, num_feat, stride=2)
        self.conv_l3_2 = _conv(num_feat, num_feat)
        self.pcd_align = PCDAlignment(num_feat, deformable_groups)
        if with_tsa:
            self.fusion = TSAFusion(num_feat, num_frame, self.reference)
        else:
            self.fusion = nn.Conv2d(num_frame * num_feat, num_feat, 1)
        self.reconstruction = residual_blocks(num_reconstruct_block, num_feat)
        self.upconv1 = _conv(num_feat, num_feat * 4)
        self.upconv2 = _conv(num_feat, 64 * 4)
        self.conv_hr = _conv(64, 64)
        self.conv_last = _conv(64, 3)

    def forward(self, lq: Tensor) -> Tensor:
        """Restores the middle frame of each clip.

        Args:
            lq: (N, T, 3, h, w) in [0, 1], T = ``num_frame``.

        Returns:
            (N, 3, h * scale, w * scale).
        """
        aligned = self._align(self._pyramid(lq))
        feat = self.fusion(aligned if self.with_tsa else aligned.flatten(1, 2))
        feat = self.reconstruction(feat)
        feat = _lrelu(F.pixel_shuffle(self.upconv1(feat), 2))
        feat = _lrelu(F.pixel_shuffle(self.upconv2(feat), 2))
        residual = self.conv_last(_lrelu(self.conv_hr(feat)))
        base = lq[:, self.reference]
        return residual + (base if self.hr_in else _enlarge(base, 4))

    def _pyramid(self, lq: Tensor) -> list[Tensor]:
        """Features of all frames at full, half and quarter size, each (N, T, num_feat, ·, ·)."""
        frames = lq.flatten(0, 1)
        if self.with_predeblur:
            feat = self.conv_1x1(self.predeblur(frames))
        else:
            feat = _lrelu(self.conv_first(frames))
        l1 = self.feature_extraction(feat)
        l2 = _lrelu(self.conv_l2_2(_lrelu(self.conv_l2_1(l1))))
        l3 = _lrelu(self.conv_l3_2(_lrelu(self.conv_l3_1(l2))))
        return [level.unflatten(0, lq.shape[:2]) for level in (l1, l2, l3)]

    def _align(self, pyramid: list[Tensor]) -> Tensor:
        """Aligns every frame, the reference too, with the reference: (N, T, num_feat, h, w)."""
        middle = [level[:, self.reference] for level in pyramid]
        return align_frames(self.pcd_align, pyramid, middle)


class PCDAlignment(nn.Module):
    """Pyramid, cascading and deformable alignment of one frame's features with another's.

    Args:
        num_feat: Channels of the features.
        deformable_groups: Groups of channels with offsets of their own.
    """

    def __init__(self, num_feat: int, deformable_groups: int) -> None:
        super().__init__()

        def levels(names: tuple[str, ...], make: Callable[[str], nn.Module]) -> nn.ModuleDict:
            return nn.ModuleDict({name: make(name) for name in names})

        def double(name: str) -> nn.Conv2d:
            return _conv(2 * num_feat, num_feat)

        def single(name: str) -> nn.Conv2d:
            return _conv(num_feat, num_feat)

        def deformable(name: str) -> ModulatedDeformConvPack:
            return ModulatedDeformConvPack(num_feat, num_feat, 3, deformable_groups)

        self.offset_conv1 = levels(LEVELS, double)
        self.offset_conv2 = levels(LEVELS, lambda name: (single if name == "l3" else double)(name))
        self.offset_conv3 = levels(LEVELS[:2], single)
        self.dcn_pack = levels(LEVELS, deformable)
        self.feat_conv = levels(LEVELS[:2], double)
        self.cas_offset_conv1 = double("cascade")
        self.cas_offset_conv2 = single("cascade")
        self.cas_dcnpack = deformable("cascade")

    def forward(self, frame: list[Tensor], reference: list[Tensor]) -> Tensor:
        """Maps two pyramids, each (M, num_feat, h / 2^i, w / 2^i), to (M, num_feat, h, w)."""
        offset = feat = None
        for name, moving, fixed in zip(LEVELS[::-1], frame[::-1], reference[::-1], strict=True):
            above, offset = offset, torch.cat((moving, fixed), dim=1)
            offset = _lrelu(self.offset_conv1[name](offset))
            if above is not None:
                # Twice the size, so displacements count twice as many pixels.
                offset = torch.cat((offset, _enlarge(above, 2) * 2), dim=1)
            offset = _lrelu(self.offset_conv2[name](offset))
            if above is not None:
                offset = _lrelu(self.offset_conv3[name](offset))
            coarse, feat = feat, self.dcn_pack[name](moving, offset)
            if coarse is not None:
                feat = self.feat_conv[name](torch.cat((feat, _enlarge(coarse, 2)), dim=1))
            if name != "l1":
                feat = _lrelu(feat)
        offset = _lrelu(self.cas_offset_conv1(torch.cat((feat, reference[0]), dim=1)))
        offset = _lrelu(self.cas_offset_conv2(offset))
        return _lrelu(self.cas_dcnpack(feat, offset))


class TSAFusion(nn.Module):
    """Temporal and spatial attention over aligned frames.

    Args:
        num_feat: Channels of the features.
        num_frame: Frames of a clip.
        reference: Index of the frame that the others are compared with.
    """

    def __init__(self, num_feat: int, num_frame: int, reference: int) -> None:
        super().__init__()
        self.reference = reference
        self.temporal_attn1 = _conv(num_feat, num_feat)
        self.temporal_attn2 = _conv(num_feat, num_feat)
        self.feat_fusion = nn.Conv2d(num_frame * num_feat, num_feat, 1)
        self.spatial_attn1 = nn.Conv2d(num_frame * num_feat, num_feat, 1)
        self.spatial_attn2 = nn.Conv2d(2 * num_feat, num_feat, 1)
        self.spatial_attn3 = _conv(num_feat, num_feat)
        self.spatial_attn4 = nn.Conv2d(num_feat, num_feat, 1)
        self.spatial_attn5 = _conv(num_feat, num_feat)
        self.spatial_attn_l1 = nn.Conv2d(num_feat, num_feat, 1)
        self.spatial_attn_l2 = _conv(2 * num_feat, num_feat)
        self.spatial_attn_l3 = _conv(num_feat, num_feat)
        self.spatial_attn_add1 = nn.Conv2d(num_feat, num_feat, 1)
        self.spatial_attn_add2 = nn.Conv2d(num_feat, num_feat, 1)

    def forward(self, aligned: Tensor) -> Tensor:
        """Maps (N, T, num_feat, h, w) to (N, num_feat, h, w)."""
        middle = self.temporal_attn1(aligned[:, self.reference])
        embedded = self.temporal_attn2(aligned.flatten(0, 1)).unflatten(0, aligned.shape[:2])
        likeness = torch.sigmoid((embedded * middle.unsqueeze(1)).sum(dim=2, keepdim=True))
        frames = (aligned * likeness).flatten(1, 2)

        feat = _lrelu(self.feat_fusion(frames))
        attn = _lrelu(self.spatial_attn2(_pool(_lrelu(self.spatial_attn1(frames)))))
        level = _lrelu(self.spatial_attn_l1(attn))
        level = _lrelu(self.spatial_attn_l3(_lrelu(self.spatial_attn_l2(_pool(level)))))
        attn = _lrelu(self.spatial_attn3(attn)) + _enlarge(level, 2)
        attn = self.spatial_attn5(_enlarge(_lrelu(self.spatial_attn4(attn)), 2))
        shift = self.spatial_attn_add2(_lrelu(self.spatial_attn_add1(attn)))
        return feat * torch.sigmoid(attn) * 2 + shift


class Predeblur(nn.Module):
    """Pyramid of residual blocks that deblurs frames before they are aligned.

    Args:
        num_feat: Channels of the features.
        hr_in: Shrink the input to a quarter of its size first.
    """

    def __init__(self, num_feat: int, hr_in: bool) -> None:
        super().__init__()
        self.hr_in = hr_in
        self.conv_first = _conv(3, num_feat)
        if hr_in:
            self.stride_conv_hr1 = _conv(num_feat, num_feat, stride=2)
            self.stride_conv_hr2 = _conv(num_feat, num_feat, stride=2)
        self.stride_conv_l2 = _conv(num_feat, num_feat, stride=2)
        self.stride_conv_l3 = _conv(num_feat, num_feat, stride=2)
        self.resblock_l3 = ResidualBlock(num_feat)
        self.resblock_l2_1 = ResidualBlock(num_feat)
        self.resblock_l2_2 = ResidualBlock(num_feat)
        self.resblock_l1 = nn.ModuleList(ResidualBlock(num_feat) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (M, 3, h, w) to (M, num_feat, h, w), with ``hr_in`` to a quarter of the size."""
        l1 = _lrelu(self.conv_first(x))
        if self.hr_in:
            l1 = _lrelu(self.stride_conv_hr2(_lrelu(self.stride_conv_hr1(l1))))
        l2 = _lrelu(self.stride_conv_l2(l1))
        l3 = _lrelu(self.stride_conv_l3(l2))
        l3 = _enlarge(self.resblock_l3(l3), 2)
        l2 = _enlarge(self.resblock_l2_2(self.resblock_l2_1(l2) + l3), 2)
        for index, block in enumerate(self.resblock_l1):
            l1 = block(l1 + l2 if index == 2 else l1)
        return l1


def _conv(num_in: int, num_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(num_in, num_out, 3, stride, padding=1)


def _lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _pool(x: Tensor) -> Tensor:
    """Maximum and mean over 3×3 at half the size, as 2C channels."""
    return torch.cat((F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1)), dim=1)

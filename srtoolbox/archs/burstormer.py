"""Burstormer: alignment by deformable convolutions and attention across channels."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3, enlarge, is_exporting
from srtoolbox.archs.layers.burst.frames import beside
from srtoolbox.archs.layers.deform import DeformConv
from srtoolbox.archs.layers.restormer import TransposedBlock
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.errors import UserError, check_choice
from srtoolbox.registry import ARCH_REGISTRY

_NUM_POOLED = 8
"""Frames after the pooling of the burst, a power of two."""

Fusion = Literal["synthetic", "real"]


@ARCH_REGISTRY.register()
class Burstormer(nn.Module):
    """Burst image restoration by multi-scale alignment and by attention across channels.

    Dudhane et al., "Burstormer: Burst Image Restoration and Enhancement Transformer", CVPR 2023.
    The published networks map packed RAW frames to RGB images of eight times the size:
    ``scale: 8, num_in_ch: 4, num_out_ch: 3``, for synthetic bursts as it is and for real ones with
    ``fusion: real``. Names and shapes of the tensors and the outputs are theirs.

    =====================  ================  =======================================================
    stage                  shape             content
    =====================  ================  =======================================================
    ``conv1``              (N, T, C, h, w)   features of each frame
    ``align``              (N, T, C, h, w)   deformable alignment to the first frame in three sizes
    ``burst_pool``         (N, 8, C, h, w)   the first frame and means over neighbouring channels
    ``back_projection1``   (N, 8C, h, w)     fusion of pairs of frames
    ``up1``                (N, 2C, 2h, 2w)   two frames of twice the size
    ``back_projection2``   (N, 2C, 2h, 2w)   their fusion
    ``up2``, ``up3``       (N, C, ·, ·)      scale 4 has no ``up3``
    =====================  ================  =======================================================

    A tiled result differs a little from that of the whole image, because the attention takes sums
    over all pixels.

    Args:
        scale: 8 is published. 4 is ours: the same network without the last step.
        num_feat: Channels C, even and a multiple of ``deformable_groups``; 48 is published.
        fusion: "synthetic" or "real", the two published ways to combine frames.
        deformable_groups: Groups of channels, each with its own offsets and weights; 8 are
            published.
        skip: Add the bilinear enlargement of the first frame to the result; this is ours.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input. With ``skip`` they are equal.
    """

    paper = "Dudhane et al., Burstormer: Burst image restoration transformer, CVPR 2023"
    scales = (4, 8)
    num_frame = None
    size_multiple = 4
    min_size = 4
    checkpoint_blocks = (
        "align.encoder_level1",
        "align.encoder_level2",
        "align.alignment0.back_projection.encoder1",
        "align.alignment1.back_projection.encoder1",
        "align.alignment2.back_projection.encoder1",
        "align.cascade_alignment.back_projection.encoder1",
        "back_projection1.encoder1",
        "back_projection2.encoder1",
    )

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 48,
        fusion: Fusion = "synthetic",
        deformable_groups: int = 8,
        skip: bool = False,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch, equal=skip)
        if deformable_groups < 1 or num_feat < 2 or num_feat % 2 or num_feat % deformable_groups:
            raise UserError(
                "Burstormer: num_feat must be even and a multiple of deformable_groups "
                f"({deformable_groups}), got {num_feat}"
            )
        check_choice("Burstormer: fusion", fusion, ("synthetic", "real"))
        self.skip = skip
        fuse = PairFusion if fusion == "synthetic" else RolledPairFusion
        wide = _NUM_POOLED * num_feat
        self.conv1 = nn.Sequential(conv3(self.channels, num_feat, bias=False))
        self.align = MultiScaleAlignment(num_feat, deformable_groups, fusion)
        self.back_projection1 = fuse(num_feat)
        self.up1 = _double(wide, wide)
        self.back_projection2 = fuse(num_feat)
        self.up2 = _double(2 * num_feat, 4 * num_feat)
        self.up3 = _double(num_feat, 4 * num_feat) if scale == 8 else nn.Identity()
        self.out_conv = nn.Sequential(conv3(num_feat, self.out_channels, bias=False))

    def forward(self, lq: Tensor) -> Tensor:
        """Maps bursts to images.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1]; T ≥ 1, h and w multiples of 4.

        Returns:
            (N, num_out_ch, h·scale, w·scale).
        """
        feat = self.conv1(lq.flatten(0, 1)).unflatten(0, lq.shape[:2])
        feat = self.back_projection1(burst_pool(self.align(feat)))
        feat = self.up1(feat).unflatten(1, (2, -1))
        feat = self.up3(self.up2(self.back_projection2(feat)))
        sr = self.out_conv(feat)
        return sr + enlarge(lq[:, 0], self.scale) if self.skip else sr


def _double(num_in: int, num_out: int) -> nn.Sequential:
    """Returns layers that double the size: num_in channels to num_out / 4."""
    return nn.Sequential(nn.Conv2d(num_in, num_out, 1, bias=False), nn.PixelShuffle(2), nn.GELU())


def burst_pool(x: Tensor) -> Tensor:
    """Pools bursts (N, T, C, h, w) of any T to eight frames, (N, 8, C, h, w).

    The first frame is kept. The others are means over *neighbouring channels* of the channels of
    all frames in one row, as published: with 14 frames, over pairs of channels of the same frame.
    """
    n, frames, channels, height, width = x.shape
    given, wanted = frames * channels, (_NUM_POOLED - 1) * channels
    rows = x.flatten(1, 2).flatten(2)
    if is_exporting():  # ONNX only has the case in which all parts are equally long
        start = torch.arange(wanted)[:, None] * given
        place = torch.arange(given) * wanted
        part = (place + wanted > start) & (place < start + given)
        pooled = (part / part.sum(1, keepdim=True)).to(x) @ rows
    else:
        pooled = F.adaptive_avg_pool2d(rows, (wanted, height * width))
    return torch.cat((x[:, :1], pooled.view(n, _NUM_POOLED - 1, channels, height, width)), 1)


class MultiScaleAlignment(nn.Module):
    """Aligns frames (N, T, C, h, w) to the first one at a quarter, a half and the full size."""

    def __init__(self, num_feat: int, deformable_groups: int, fusion: Fusion) -> None:
        super().__init__()
        align = partial(ReferenceAlignment, num_feat, deformable_groups, fusion)
        up = partial(
            nn.ConvTranspose2d, num_feat, num_feat, 3, stride=2, padding=1, output_padding=1
        )
        self.encoder_level1 = _blocks(num_feat, 1)
        self.encoder_level2 = _blocks(num_feat, 2)
        self.down1 = conv3(num_feat, num_feat, stride=2)
        self.down2 = conv3(num_feat, num_feat, stride=2)
        self.alignment2 = align(first=True)
        self.alignment1, self.alignment0, self.cascade_alignment = align(), align(), align()
        self.offset_up2, self.up2 = up(), up()
        self.offset_up1, self.up1 = up(), up()

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape[:2]
        full = self.encoder_level1(x.flatten(0, 1))
        half = self.encoder_level2(self.down1(full))
        full, half, quarter = (
            level.unflatten(0, shape) for level in (full, half, self.down2(half))
        )
        aligned, motion = self.alignment2(quarter)
        larger = _each(self.up2, aligned)
        aligned, motion = self.alignment1(half, _twice(self.offset_up2, motion))
        larger = _each(self.up1, larger + aligned)
        aligned, motion = self.alignment0(full, _twice(self.offset_up1, motion))
        return self.cascade_alignment(larger + aligned, motion)[0]


def _blocks(num_feat: int, num_head: int) -> nn.Sequential:
    return nn.Sequential(*(TransposedBlock(num_feat, num_head) for _ in range(2)))


def _each(layer: nn.Module, x: Tensor) -> Tensor:
    """Applies a layer to all frames (N, T, C, h, w)."""
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _twice(layer: nn.Module, motion: Tensor | None) -> Tensor | None:
    """Enlarges features of the motion; a displacement is twice as many pixels then."""
    return None if motion is None else 2 * layer(motion)


class ReferenceAlignment(nn.Module):
    """Deformable alignment of all frames to the first one, then a back-projection.

    Args:
        num_feat: Channels C, a multiple of ``deformable_groups``.
        deformable_groups: Groups of channels, each with its own offsets and weights.
        fusion: The kind of back-projection.
        first: Whether there are no features of the motion from a smaller size.
    """

    def __init__(
        self, num_feat: int, deformable_groups: int, fusion: Fusion, first: bool = False
    ) -> None:
        super().__init__()
        groups = deformable_groups
        self.deform = DeformConv(num_feat, num_feat, groups, groups=groups, dilation=2)
        self.offset_conv = conv3(num_feat, self.deform.offset_channels * 3 // 2, bias=False)
        self.bottleneck = nn.Sequential(conv3(2 * num_feat, num_feat, bias=False), nn.GELU())
        if not first:
            self.bottleneck_o = nn.Sequential(conv3(2 * num_feat, num_feat, bias=False), nn.GELU())
        self.back_projection = BackProjection(num_feat, fusion)

    def forward(self, x: Tensor, motion: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Aligns frames.

        Args:
            x: (N, T, C, h, w).
            motion: Features of the motion of all frames but the first, (N·(T − 1), C, h, w).

        Returns:
            Aligned frames (N, T, C, h, w), and new features of the motion; None for one frame.
        """
        reference, others = x[:, :1], x[:, 1:]
        if others.shape[1] == 0:
            return self.back_projection(x), None
        moving = others.flatten(0, 1)
        new = F.gelu(beside(self.bottleneck[0], x[:, 0], others))
        if motion is not None:
            new = self.bottleneck_o(torch.cat((motion, new), 1))
        # Offsets are read in this format; converting their input is cheaper.
        both = self.offset_conv(new.contiguous())
        offset, mask = both.split((self.deform.offset_channels, both.shape[1] // 3), 1)
        moved = self.deform(moving, offset, torch.sigmoid(mask)).to(x.dtype)
        aligned = torch.cat((reference, moved.unflatten(0, others.shape[:2])), 1)
        return self.back_projection(aligned), new


class BackProjection(nn.Module):
    """Adds to the fusion of each frame with the first one the error of its expansion."""

    def __init__(self, num_feat: int, fusion: Fusion) -> None:
        super().__init__()
        self.joint = fusion == "real"
        self.encoder1 = _blocks(2 * num_feat if self.joint else num_feat, 1)
        self.feat_fusion = nn.Sequential(conv3(2 * num_feat, num_feat), nn.GELU())
        self.feat_expand = nn.Sequential(conv3(num_feat, 2 * num_feat), nn.GELU())
        self.diff_fusion = nn.Sequential(conv3(2 * num_feat, num_feat), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, T, C, h, w) to the same shape."""
        if self.joint:
            pairs = torch.cat((x[:, :1].expand_as(x), x), 2)
            pairs = self.encoder1(pairs.flatten(0, 1))
            fused = self.feat_fusion(pairs)
            error = self.feat_expand(fused) - pairs
        else:
            feat = _each(self.encoder1, x)
            fused = F.gelu(beside(self.feat_fusion[0], feat[:, 0], feat))
            # The halves apart: a concatenation of the reference would be in another memory format.
            first, own = self.feat_expand(fused).chunk(2, 1)
            first = (first.unflatten(0, x.shape[:2]) - feat[:, :1]).flatten(0, 1)
            error = torch.cat((first, own - feat.flatten(0, 1)), 1)
        change = self.diff_fusion(error)
        return (fused + change).unflatten(0, x.shape[:2])


class PairFusion(nn.Module):
    """Fuses pairs of frames: (N, T, C, h, w) with even T to one map (N, T·C, h, w)."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        wide = 2 * num_feat
        self.encoder1 = _blocks(wide, 1)
        self.feat_fusion = nn.Sequential(conv3(wide, num_feat), nn.GELU())
        self.feat_expand = nn.Sequential(conv3(num_feat, wide), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        pairs = self.encoder1(_pairs(x))
        change = self.feat_expand(self.feat_fusion(pairs))
        return (2 * pairs - change).reshape(len(x), -1, *x.shape[3:])


class RolledPairFusion(nn.Module):
    """Fuses two sets of pairs of frames, each frame with the next and with the previous one.

    Maps (N, T, C, h, w) with even T to one map (N, T·C, h, w).
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        wide = 2 * num_feat
        self.encoder1 = _blocks(wide, 1)
        self.feat_fusion = conv3(wide, num_feat, bias=False)
        self.feat_expand = conv3(num_feat, wide, bias=False)
        self.diff_fusion = conv3(wide, num_feat, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        sets = torch.stack((x, x.roll(1, 1)), 1)  # of each burst, all pairs come one after another
        pairs = self.encoder1(_pairs(sets.flatten(1, 2)))
        fused = self.feat_fusion(pairs)
        fused = fused + self.diff_fusion(pairs - self.feat_expand(fused))
        return fused.reshape(len(x), -1, *x.shape[3:])


def _pairs(x: Tensor) -> Tensor:
    """Joins frames 0 and 1, 2 and 3, …: (N, T, C, h, w) to (N·T/2, 2C, h, w)."""
    n, frames, channels, height, width = x.shape
    return x.reshape(n * frames // 2, 2 * channels, height, width)

"""LGTD: aligned frames, corrected by short-term and long-term temporal differences."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3, enlarge
from srtoolbox.archs.layers.hat import HAT
from srtoolbox.archs.layers.tsa import LGTD_NAMES, TSAFusion
from srtoolbox.archs.layers.upsample import Upsample, check_scale
from srtoolbox.archs.layers.video.msd import (
    ConvBlock,
    MSDAlignment,
    resnet_blocks,
    start_kaiming,
)
from srtoolbox.errors import UserError, check_choice
from srtoolbox.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class LGTD(nn.Module):
    """Local-global temporal difference learning, for satellite video; the defaults are the paper's.

    A tiled result differs a little from that of the whole image, because bilinear interpolation
    with aligned corners and channel attention depend on the image size.

    Args:
        scale: Factor by which height and width grow; 4 in the paper.
        num_feat: Channels of the features.
        num_extract_block: Residual blocks applied to each frame.
        num_block: Residual blocks after the long-term difference, and in the tail "conv".
        deformable_groups: Groups of channels, each with its own offsets; divides ``num_feat``.
        tail: Reconstruction by a transformer ("hat") or by residual blocks ("conv").
        embed_dim: Channels of the tail.
        num_group: Groups of the transformer; the public training code has 6.
        num_group_block: Blocks in each group.
        num_head: Attention heads; divides ``embed_dim``.
        window_size: Side of the attention windows, a multiple of 4.
        num_upsample_feat: Channels of the tail's upsampler.
        num_frame: Frames of a clip, odd; the middle one is the reference.
        legacy: Repeat three mistakes of the public code: both frame orders are reversed, so that
            the long-term difference is zero; the offsets start at random values instead of zero;
            and with the tail "conv" the unused transformer is built too.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input.
    """

    paper = (
        "Xiao et al., Local-global temporal difference learning for satellite video SR, TCSVT 2023"
    )
    scales = (2, 3, 4)
    num_frame = 5
    reference = 2
    size_multiple = 16
    min_size = 16
    checkpoint_blocks = ("hat.layers",)
    dead_parameters = ("tdm_l.fus.",)

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_extract_block: int = 5,
        num_block: int = 5,
        deformable_groups: int = 8,
        tail: Literal["hat", "conv"] = "hat",
        embed_dim: int = 180,
        num_group: int = 5,
        num_group_block: int = 6,
        num_head: int = 6,
        window_size: int = 16,
        num_upsample_feat: int = 64,
        num_frame: int = 5,
        legacy: bool = False,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        if num_frame < 3 or num_frame % 2 == 0:
            raise UserError(f"LGTD: num_frame must be odd and at least 3, got {num_frame}")
        check_choice("LGTD: tail", tail, ("hat", "conv"))
        self.tail = tail
        self.num_frame = num_frame
        self.reference = num_frame // 2

        self.fea0 = ConvBlock(num_in_ch, num_feat)
        self.fea_all = ConvBlock(num_in_ch, num_feat)
        self.res_feat_ext = resnet_blocks(num_extract_block, num_feat)
        self.tdm_s = ShortTermDifference(num_feat, num_frame, num_in_ch)
        self.tdm_l = LongTermDifference(num_feat, num_frame, legacy)
        self.fus = conv3(num_frame * num_feat, num_feat)
        self.msd = MSDAlignment(num_feat, deformable_groups)
        self.TSA_Fusion = TSAFusion(num_feat, num_frame, self.reference, LGTD_NAMES)
        self.res_feat2 = resnet_blocks(num_block, num_feat)
        if tail == "hat":
            # Unused, but a part of published weights.
            self.tdm_l.fus = conv3(2 * num_feat, num_feat)
            self.size_multiple = self.min_size = window_size
        else:
            self.size_multiple = self.min_size = 4
            self.checkpoint_blocks = ("reconstruction",)
            self.dead_parameters = ("hat.",) if legacy else ()
            self.embedding = conv3(num_feat, embed_dim)
            self.reconstruction = resnet_blocks(num_block, embed_dim)
            self.conv_before_upsample = nn.Sequential(
                conv3(embed_dim, num_upsample_feat), nn.LeakyReLU()
            )
            self.upsample = Upsample(scale, num_upsample_feat)
            self.conv_last = conv3(num_upsample_feat, self.out_channels)
        if tail == "hat" or legacy:
            self.hat = HAT(
                num_feat,
                scale,
                embed_dim,
                num_group,
                num_group_block,
                num_head,
                window_size,
                num_feat=num_upsample_feat,
                num_out_ch=self.out_channels,
            )
        start_kaiming(self, offsets=legacy)

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolves the middle frame of each clip.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1], T = ``num_frame``; h and w multiples of
                ``window_size``, or of 4 with the tail "conv".

        Returns:
            (N, num_out_ch, h * scale, w * scale).
        """
        middle = lq[:, self.reference]
        short = self.fea0(middle) + self.tdm_s(lq, middle)
        feat = self.res_feat_ext(self.fea_all(lq.flatten(0, 1))).unflatten(0, lq.shape[:2])
        aligned = self.msd.align_clip(feat, self.reference)
        fused = self.TSA_Fusion(aligned)
        long = self.fus(self.tdm_l(aligned))
        feat = fused + self.res_feat2(fused - long) + short
        if self.tail == "hat":
            return self.hat(feat)
        feat = self.conv_before_upsample(self.reconstruction(self.embedding(feat)))
        return self.conv_last(self.upsample(feat))


class ShortTermDifference(nn.Module):
    """Features of the differences between consecutive frames, computed at half the size.

    Args:
        num_feat: Channels of the output; the inner layers have twice as many.
        num_frame: Frames of a clip.
        num_in_ch: Bands of a frame.
    """

    def __init__(self, num_feat: int, num_frame: int, num_in_ch: int = 3) -> None:
        super().__init__()
        wide = 2 * num_feat
        self.feat_diff = ConvBlock(num_in_ch, num_feat)
        self.conv1 = ConvBlock((num_frame - 1) * num_feat, wide)
        self.feat0 = ConvBlock(num_in_ch, wide)
        self.res_feat1 = resnet_blocks(1, wide, ConvBlock(wide, num_feat))
        self.res_feat2 = resnet_blocks(1, wide, ConvBlock(wide, num_feat))

    def forward(self, lq: Tensor, middle: Tensor) -> Tensor:
        """Maps (N, T, bands, h, w) and the reference (N, bands, h, w) to (N, num_feat, h, w)."""
        difference = lq[:, :-1] - lq[:, 1:]
        changes = F.avg_pool2d(self.feat_diff(difference.flatten(0, 1)), 2)
        changes = self.conv1(changes.unflatten(0, difference.shape[:2]).flatten(1, 2))
        feat = torch.lerp(self.feat0(middle), _double(changes), 0.5)
        return torch.lerp(self.res_feat2(feat), _double(self.res_feat1(changes)), 0.5)


class LongTermDifference(nn.Module):
    """Gates aligned frames by the difference between a clip in forward and in backward order.

    Args:
        num_feat: Channels of a frame's features.
        num_frame: Frames of a clip.
        legacy: Use the backward order twice, a mistake of the public code.
    """

    def __init__(self, num_feat: int, num_frame: int, legacy: bool) -> None:
        super().__init__()
        self.legacy = legacy
        self.compress_3 = ConvBlock(num_frame * num_feat, num_feat)
        self.conv1 = ConvBlock(num_feat, num_feat)
        self.conv2 = ConvBlock(num_feat, num_feat)
        self.conv3 = ConvBlock(num_feat, num_feat)
        self.conv4 = ConvBlock(num_feat, num_frame * num_feat)

    def forward(self, aligned: Tensor) -> Tensor:
        """Maps (N, T, num_feat, h, w) to (N, T * num_feat, h, w)."""
        frames = aligned.flatten(1, 2)
        backward = self._summarize(aligned.flip(1).flatten(1, 2))
        forward = backward if self.legacy else self._summarize(frames)
        difference = forward - backward
        gate = self._gate(difference, forward) + self._gate(-difference, backward)
        return frames * gate + frames

    def _summarize(self, frames: Tensor) -> Tensor:
        return self.conv1(self.compress_3(frames))

    def _gate(self, difference: Tensor, feat: Tensor) -> Tensor:
        context = _double(self.conv3(F.avg_pool2d(feat, 2)))
        return torch.sigmoid(self.conv4(difference + self.conv2(feat) + context))


def _double(x: Tensor) -> Tensor:
    return enlarge(x, 2, align_corners=True)

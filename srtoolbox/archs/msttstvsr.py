"""MSTT-STVSR: super-resolution of a clip in space and time by one network."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3, enlarge, lrelu
from srtoolbox.archs.layers.residual import residual_blocks
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.archs.layers.video.msd import MSDAlignment
from srtoolbox.archs.layers.video.space_time import SpaceTimeBlock
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class MSTTSTVSR(nn.Module):
    """Multi-scale spatial-temporal transformer for space-time video super-resolution.

    It maps T frames to 2 T − 1: the given frames and one new frame between each two, all at four
    times the size. The features of a new frame come from both neighbours, which are warped by
    optical flow and aligned by deformable convolutions. A transformer then attends to all positions
    of all frames.

    Args:
        scale: Factor by which height and width grow; 4 in the paper.
        num_feat: Channels of the features.
        num_extract_block: Residual blocks applied to each given frame.
        num_reconstruct_block: Residual blocks after the transformer: 20 in the authors' training
            code, 40 in their test script.
        deformable_groups: Groups of channels, each with its own offsets; divides ``num_feat``.
        patch_sizes: Side of each attention head's patches, on a grid of half the LR size. Height
            and width of the input are padded to multiples of twice their least common multiple.
        num_frame: Given frames, at least 2.
        flow: Name of the estimator of the optical flow between the given frames.
        legacy: Repeat two mistakes of the public code: the warped second frame replaces its aligned
            features, and the warp is stretched by half a pixel towards the border.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input.
    """

    paper = "Xiao et al., Space-time super-resolution for satellite video, JAG 2022"
    scales = (4,)
    time_scale = 2
    restores_all = True
    needs_flow = "DIS"
    num_frame = 4
    size_multiple = 80
    min_size = 80
    checkpoint_blocks = ("feature_extraction", "MSST_former.transformer", "recon_trunk")

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_extract_block: int = 5,
        num_reconstruct_block: int = 20,
        deformable_groups: int = 8,
        patch_sizes: tuple[int, ...] = (40, 20, 10, 5),
        num_frame: int = 4,
        flow: str = "DIS",
        legacy: bool = False,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        if num_frame < 2:
            raise UserError(f"MSTTSTVSR: num_frame must be at least 2, got {num_frame}")
        if not patch_sizes or min(patch_sizes) < 1 or 4 * num_feat % len(patch_sizes):
            raise UserError(
                f"MSTTSTVSR: patch_sizes must be one or more sizes of at least 1 whose number "
                f"divides 4 * num_feat = {4 * num_feat}, got {list(patch_sizes)}"
            )
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        self.num_frame, self.needs_flow, self.legacy = num_frame, flow, legacy
        self.size_multiple = self.min_size = 2 * math.lcm(*patch_sizes)

        self.conv_first = conv3(self.channels, num_feat)
        self.feature_extraction = residual_blocks(num_extract_block, num_feat)
        self.MSD_align = MSDAlignment(num_feat, deformable_groups)
        self.fusion = nn.Conv2d(2 * num_feat, num_feat, 1)
        self.blending = nn.Conv2d(2 * num_feat, num_feat, 1)
        self.MSST_former = _Former(num_feat, tuple(patch_sizes))
        self.recon_trunk = residual_blocks(num_reconstruct_block, num_feat)
        self.upconv1 = conv3(num_feat, 4 * num_feat)
        self.upconv2 = conv3(num_feat, 4 * num_feat)
        self.HRconv = conv3(num_feat, num_feat)
        self.conv_last = conv3(num_feat, self.out_channels)

    def forward(self, lq: Tensor, flow: Tensor | None = None) -> Tensor:
        """Super-resolves a clip in space and time.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1], T = ``num_frame``.
            flow: (N, 2, T - 1, 2, h, w) in LR pixels, x before y: from each frame to the next, and
                back. None means no motion.

        Returns:
            (N, 2 T - 1, num_out_ch, h * scale, w * scale).
        """
        n, frames, _, height, width = lq.shape
        if flow is None:
            flow = lq.new_zeros(n, 2, frames - 1, 2, height, width)
        feat = lrelu(self.conv_first(lq.flatten(0, 1)))
        feat = self.feature_extraction(feat).unflatten(0, (n, frames))
        sequence = [feat[:, 0]]
        for t in range(frames - 1):
            there, back = flow[:, 0, t], flow[:, 1, t]
            sequence += [self._between(feat[:, t], feat[:, t + 1], there, back), feat[:, t + 1]]
        feat = self.MSST_former(torch.stack(sequence, 1)).flatten(0, 1)
        # Frame by frame in evaluation, as one frame at full size needs the memory of all before.
        parts = [feat] if torch.is_grad_enabled() else feat.split(1)
        sr = torch.cat([self._reconstruct(part) for part in parts])
        return sr.unflatten(0, (n, 2 * frames - 1))

    def _between(self, first: Tensor, second: Tensor, there: Tensor, back: Tensor) -> Tensor:
        """Returns features (N, num_feat, h, w) of the frame between two given frames."""
        aligned = self.MSD_align(first, second)
        from_second = _warp(second, there, self.legacy)
        from_first = _warp(first, back, self.legacy)
        aligned_back = from_second if self.legacy else self.MSD_align(second, first)
        forward = self.fusion(torch.cat([aligned, from_second], 1))
        backward = self.fusion(torch.cat([from_first, aligned_back], 1))
        return self.blending(torch.cat([forward, backward], 1))

    def _reconstruct(self, feat: Tensor) -> Tensor:
        feat = self.recon_trunk(feat)
        for upconv in (self.upconv1, self.upconv2):
            feat = lrelu(F.pixel_shuffle(upconv(feat), 2))
        return self.conv_last(lrelu(self.HRconv(feat)))


class _Former(nn.Module):
    """Transformer at half the size, with four times the channels."""

    def __init__(self, num_feat: int, patch_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.transformer = nn.Sequential(SpaceTimeBlock(4 * num_feat, patch_sizes))
        self.encoder = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(num_feat, 2 * num_feat, 3, 2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * num_feat, 4 * num_feat, 3, padding=1),
            nn.LeakyReLU(0.2),
        )
        self.decoder = nn.Sequential(
            _Enlarge(4 * num_feat, 2 * num_feat),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * num_feat, num_feat, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
            nn.LeakyReLU(0.2),
        )

    def forward(self, sequence: Tensor) -> Tensor:
        """Maps (N, T, num_feat, h, w) to the same shape."""
        n, frames = sequence.shape[:2]
        coarse = self.encoder(sequence.flatten(0, 1)).unflatten(0, (n, frames))
        coarse = self.transformer(coarse).flatten(0, 1)
        return sequence + torch.tanh(self.decoder(coarse)).unflatten(0, (n, frames))


class _Enlarge(nn.Module):
    """Bilinear enlargement by 2 and a convolution."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv = conv3(num_in, num_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(enlarge(x, 2, align_corners=True))


def _warp(feat: Tensor, flow: Tensor, legacy: bool) -> Tensor:
    """``out(p) = feat(p + flow(p))`` for (N, C, h, w) and (N, 2, h, w); zero beyond the border.

    ``legacy`` computes positions with aligned corners, but samples without.
    """
    height, width = feat.shape[-2:]
    x = torch.arange(width, device=feat.device) + flow[:, 0].float()
    y = torch.arange(height, device=feat.device)[:, None] + flow[:, 1].float()
    grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
    with torch.autocast(feat.device.type, enabled=False):
        out = F.grid_sample(feat.float(), grid, align_corners=not legacy)
    return out.to(feat.dtype)

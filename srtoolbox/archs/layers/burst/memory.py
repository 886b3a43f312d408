"""Temporal memory of a burst: sub-pixel samples, aligned features, and their recurrence."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.basic import conv3, lrelu
from srtoolbox.archs.layers.burst.bayer import shift_and_add_raw
from srtoolbox.archs.layers.burst.motion import inside, motion_to_flow, warp
from srtoolbox.archs.layers.burst.splat import shift_and_add
from srtoolbox.archs.layers.burst.trust import trust_in_frames
from srtoolbox.archs.layers.recurrent import ConvGRU
from srtoolbox.archs.layers.residual import scaled_kaiming_

# A total weight of samples in a cell, or around it, of this size counts half.
_HALF_WEIGHT, _HALF_WEIGHT_AROUND = 0.03, 0.005


def num_plane(channels: int, raw: bool = False) -> int:
    """Returns K of `fine_samples` for frames of ``channels`` bands, or of packed RAW."""
    return 9 if raw else 2 * channels + 1


def fine_samples(frames: Tensor, motion: Tensor, base: Tensor, scale: int) -> Tensor:
    """Returns the residual of all frames' samples against ``base`` on the HR grid.

    The residual is given at sample positions and smoothed. Samples are weighted by the agreement of
    their frame with the reference (`trust_in_frames`). Cells between samples get a mean of the
    samples around them by normalised convolution (Knutsson and Westin, "Normalized and Differential
    Convolution", CVPR 1993).

    Args:
        frames: (N, T, C, h, w) of C bands, or of packed RAW with C = 4.
        motion: (N, T, 2, 3) in pixels: maps points of the reference to each frame.
        base: (N, B, H, W), the enlarged reference: B = C bands, or B = 3 (RGB) for packed RAW.
        scale: H / h.

    Returns:
        (N, K, H, W), K from `num_plane`: B planes with the mean of a cell's samples minus
        ``base``, 0 in cells without samples; one plane (RAW: one per colour) from 0 (no samples)
        to 1; B planes with the mean residual around each cell. Without motion the result is
        nearly that of a single frame, with less noise.
    """
    gather = shift_and_add if frames.shape[2] == base.shape[1] else shift_and_add_raw
    total, weight = gather(frames, motion, scale, trust_in_frames(frames, motion))
    residual = total - weight * base
    around = blur(residual, scale / 4) / (blur(weight, scale / 4) + _HALF_WEIGHT_AROUND)
    total_weight = weight + _HALF_WEIGHT
    return torch.cat([residual / total_weight, weight / total_weight, around], 1)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N, C, h, w) with zeros beyond the border; float32, also under autocast.

    Sums of shifted images are several times as fast as convolutions with kernels of one column.
    """
    reach = math.ceil(2 * sigma)
    taps = [math.exp(-0.5 * (distance / sigma) ** 2) for distance in range(reach + 1)]
    total = taps[0] + 2 * sum(taps[1:])
    taps = [tap / total for tap in taps]
    for dim, edges in ((-1, (reach, reach)), (-2, (0, 0, reach, reach))):
        size, padded = x.shape[dim], F.pad(x, edges)
        x = taps[0] * x
        for distance, tap in enumerate(taps[1:], 1):
            before = padded.narrow(dim, reach - distance, size)
            after = padded.narrow(dim, reach + distance, size)
            x = torch.add(x, before + after, alpha=tap)
    return x


class SampleMemory(nn.Module):
    """Shift-and-add memory: maps sub-pixel samples (N, K, h·s, w·s) to features (N, C, h, w).

    Pixel unshuffle turns the fine grid into s² channels per LR pixel, without loss or averaging.

    Args:
        scale: s.
        num_feat: C.
        num_plane: K, see `num_plane`.
    """

    def __init__(self, scale: int, num_feat: int, num_plane: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(scale),
            conv3(num_plane * scale**2, num_feat),
            nn.LeakyReLU(0.1),
            conv3(num_feat, num_feat),
        )

    def forward(self, fine: Tensor) -> Tensor:
        return self.layers(fine)


class MTMS(nn.Module):
    """Multi-scale temporal memory stream.

    At each pyramid level the frames are warped to the reference and embedded together with it and
    with their sub-pixel phase. A ConvGRU processes them from both ends of the burst towards the
    reference. The mean of the embeddings bypasses the recurrence.

    Args:
        num_feat: Channels C.
        num_level: Pyramid levels; each has half the size of the previous one.
        kernel_size: Kernel size of the recurrence.
        residual: Whether to add learned offsets to the global motion.
    """

    def __init__(self, num_feat: int, num_level: int, kernel_size: int, residual: bool) -> None:
        super().__init__()
        self.down = nn.ModuleList(conv3(num_feat, num_feat, 2) for _ in range(num_level - 1))
        self.levels = nn.ModuleList(
            MemoryLevel(num_feat, kernel_size, residual) for _ in range(num_level)
        )
        self.merge = nn.ModuleList(conv3(2 * num_feat, num_feat) for _ in range(num_level - 1))

    def forward(self, feat: Tensor, motion: Tensor | None) -> Tensor:
        """Fuses the frames of a burst.

        Args:
            feat: (N, T, C, h, w), the reference first.
            motion: (N, T, 2, 3) in pixels; None means no motion.

        Returns:
            (N, C, h, w).
        """
        pyramid = [feat]
        for down in self.down:
            coarser = down(lrelu(pyramid[-1].flatten(0, 1)))
            pyramid.append(coarser.unflatten(0, feat.shape[:2]))
        offset = None
        memories: list[Tensor] = []
        for i in reversed(range(len(pyramid))):
            h, w = pyramid[i].shape[-2:]
            if motion is None:
                flow = feat.new_zeros(*feat.shape[:2], 2, h, w)
            else:
                flow = motion_to_flow(motion, (h, w), 2**i)
            memory, offset = self.levels[i](pyramid[i], flow, offset)
            if memories:
                coarser = F.interpolate(memories[-1], scale_factor=2)[..., :h, :w]
                memory = memory + self.merge[i](torch.cat([memory, coarser], 1))
            memories.append(memory)
        return memories[-1]


class MemoryLevel(nn.Module):
    """One pyramid level of `MTMS`: alignment, embedding and recurrence."""

    def __init__(self, num_feat: int, kernel_size: int, residual: bool) -> None:
        super().__init__()
        self.offset = None
        if residual:
            self.offset = nn.Sequential(
                conv3(2 * num_feat, num_feat),
                nn.LeakyReLU(0.1),
                scaled_kaiming_(conv3(num_feat, 2), 0.01),
            )
        self.embed_frame = conv3(num_feat + 4, num_feat)
        self.embed_reference = nn.Conv2d(num_feat, num_feat, 3, padding=1, bias=False)
        self.memory = ConvGRU(num_feat, kernel_size)
        self.read = nn.Conv2d(2 * num_feat, num_feat, 1)

    def forward(
        self, feat: Tensor, flow: Tensor, coarser: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Fuses the frames at one level.

        Args:
            feat: (N, T, C, h, w), the reference first.
            flow: (N, T, 2, h, w) in pixels of this level.
            coarser: Learned offsets of the next coarser level, (N·T, 2, h / 2, w / 2).

        Returns:
            The memory (N, C, h, w) and the learned offsets (N·T, 2, h, w), None without them.
        """
        n, t, _, h, w = feat.shape
        frames, flow = feat.flatten(0, 1), flow.flatten(0, 1)
        offset = None
        if self.offset is not None:
            if coarser is not None:
                coarser = 2 * F.interpolate(coarser, scale_factor=2)[..., :h, :w]
                flow = flow + coarser
            reference = feat[:, :1].expand_as(feat).flatten(0, 1)
            raw = self.offset(torch.cat([warp(frames, flow), reference], 1))
            learned = 2 * torch.tanh(raw.float())
            flow = flow + learned
            offset = learned if coarser is None else learned + coarser
        # Sub-pixel phase of the sampling positions; zero beyond the border.
        phase = torch.cat([torch.sin(2 * torch.pi * flow), torch.cos(2 * torch.pi * flow)], 1)
        phase = (phase * inside(flow)).to(feat.dtype)
        embedded = self.embed_frame(torch.cat([warp(frames, flow), phase], 1))
        embedded = embedded.unflatten(0, (n, t)) + self.embed_reference(feat[:, 0])[:, None]
        embedded = lrelu(embedded)

        # Both passes end at the reference and share their weights.
        backward, forward = [*range(t - 1, -1, -1)], [*range(1, t), 0]
        states = self.memory(embedded, [backward, forward])
        return self.read(torch.cat(states, 1)) + embedded.mean(1), offset

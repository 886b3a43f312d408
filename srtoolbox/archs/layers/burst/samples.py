"""Divides the other frames of a burst into a mean with less noise and samples between the pixels.

A frame whose pixels coincide with those of the reference shows the same values with other noise,
so its mean with the reference has less noise. A frame that is moved by a fraction of a pixel shows
new values, which belong on a finer grid. Averaging the second would blur, and a fine grid cannot
use the first. The fraction decides for each pixel of each frame.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.archs.layers.burst.bayer import shift_and_add_raw
from srtoolbox.archs.layers.burst.motion import inside
from srtoolbox.archs.layers.burst.splat import shift_and_add

# A total weight of samples in a cell, or around it, of this size counts half.
_HALF_WEIGHT, _HALF_WEIGHT_AROUND = 0.03, 0.005

# The overlap of two pixels' phases is cos²(π·dx)·cos²(π·dy): 1 for the same phase, 0 for half a
# pixel. Frames are averaged fully above the first number, and not at all below the second.
_SAME_PHASE, _OTHER_PHASE = 0.95, 0.8
# A frame brings fully new samples below the first number, and none above the second.
_NEW_PHASE, _OLD_PHASE = 0.45, 0.95


class Shares(NamedTuple):
    """Weights of each frame but the reference around each pixel, all (N, T - 1, h, w)."""

    average: Tensor  # 0 to 1: has the pixel's phase
    novelty: Tensor  # 0 to 1: has another phase


def shares_of_frames(flow: Tensor, trust: Tensor) -> Shares:
    """Returns what the other frames bring to each pixel of the reference.

    Args:
        flow: (N, T - 1, 2, h, w), from `motion_to_flow`, in pixels.
        trust: (N, T - 1, h, w), from `trust_in_frames`.
    """
    overlap = torch.cos(torch.pi * flow).square().prod(2)
    average = (overlap - _OTHER_PHASE) / (_SAME_PHASE - _OTHER_PHASE)
    novelty = (_OLD_PHASE - overlap) / (_OLD_PHASE - _NEW_PHASE)
    trust = trust * inside(flow.flatten(0, 1)).view_as(trust)
    return Shares(trust * average.clamp(0, 1), trust * novelty.clamp(0, 1))


def mean_of_frames(reference: Tensor, warped: Tensor, average: Tensor) -> tuple[Tensor, Tensor]:
    """Averages the reference with the frames that have its phase.

    Args:
        reference: (N, C, h, w).
        warped: (N, T - 1, C, h, w), the other frames, warped to the reference.
        average: (N, T - 1, h, w), from `shares_of_frames`.

    Returns:
        The mean (N, C, h, w), and the number of frames in it (N, 1, h, w), from 1 to T.
    """
    average = average[:, :, None].to(warped.dtype)
    number = 1 + average.sum(1)
    return reference + (average * (warped - reference[:, None])).sum(1) / number, number


def num_plane(channels: int, raw: bool = False) -> int:
    """Returns K of `fine_samples` for frames of ``channels`` bands, or of packed RAW."""
    return 9 if raw else 2 * channels + 1


def fine_samples(frames: Tensor, motion: Tensor, trust: Tensor, base: Tensor, scale: int) -> Tensor:
    """Returns the residual of the frames' samples against ``base`` on the HR grid.

    The residual is given at sample positions and smoothed. Cells between samples get a mean of the
    samples around them by normalised convolution (Knutsson and Westin, "Normalized and Differential
    Convolution", CVPR 1993).

    Args:
        frames: (N, T, C, h, w) of C bands, or of packed RAW with C = 4; T may be 0.
        motion: (N, T, 2, 3) in pixels: maps points of the reference to each frame.
        trust: (N, T, h, w) from 0 to 1: factor on the weights of a frame's samples.
        base: (N, B, H, W), the enlarged reference: B = C bands, or B = 3 (RGB) for packed RAW.
        scale: H / h.

    Returns:
        (N, K, H, W), K from `num_plane`: B planes with the mean of a cell's samples minus
        ``base``, 0 in cells without samples; one plane (RAW: one per colour) from 0 (no samples)
        to 1; B planes with the mean residual around each cell.
    """
    gather = shift_and_add if frames.shape[2] == base.shape[1] else shift_and_add_raw
    total, weight = gather(frames, motion, scale, trust)
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

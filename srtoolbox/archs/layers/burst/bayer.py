"""Packed RAW frames: positions of the colour samples, and bilinear demosaicking.

A packed pixel has the four samples of a 2×2 cell of the sensor: red, the green beside red, the
green beside blue, and blue.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.archs.layers.burst.splat import shift_and_add

_COLOURS = (0, 1, 1, 2)
"""RGB channel of each packed channel."""

_OFFSETS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
"""Position (x, y) of each packed channel's sample from the cell's centre, in packed pixels."""


def demosaic(packed: Tensor) -> Tensor:
    """Bilinear demosaicking: (N, 4, h, w) to RGB (N, 3, 2h, 2w) at the sensor's resolution.

    A missing colour is the mean of its nearest samples; measured samples are unchanged.
    """
    total, weight = _spread(_by_colour(packed)), _spread(_by_colour(torch.ones_like(packed[:1])))
    return total / weight


def shift_and_add_raw(
    frames: Tensor, motion: Tensor, scale: int, trust: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`shift_and_add` of packed frames, with the sensor position of every colour sample.

    Args:
        frames: (N, T, 4, h, w).
        motion: (N, T, 2, 3) in packed pixels: maps points of the reference to each frame.
        scale: Cells of the fine grid per packed pixel.
        trust: (N, T, h, w), as in `shift_and_add`.

    Returns:
        The weighted sums and the sums of weights for red, green and blue, both
        (N, 3, h·scale, w·scale).
    """
    zero = frames.new_zeros(())
    totals, weights = [zero] * 3, [zero] * 3
    for channel, (colour, offset) in enumerate(zip(_COLOURS, _OFFSETS, strict=True)):
        shift = motion[..., 2:] - motion.new_tensor(offset)[:, None]
        moved = torch.cat([motion[..., :2], shift], -1)
        total, weight = shift_and_add(frames[:, :, channel : channel + 1], moved, scale, trust)
        totals[colour], weights[colour] = totals[colour] + total, weights[colour] + weight
    return torch.cat(totals, 1), torch.cat(weights, 1)


def _by_colour(packed: Tensor) -> Tensor:
    """Maps (N, 4, h, w) to (N, 3, 2h, 2w): samples at their sensor positions, zero elsewhere."""
    own = torch.zeros(3, 4, 1, 1, device=packed.device, dtype=packed.dtype)
    own[_COLOURS, range(4)] = 1
    return F.pixel_shuffle((packed[:, None] * own).flatten(1, 2), 2)


def _spread(sparse: Tensor) -> Tensor:
    """Adds each sample to its own pixel (weight 4) and to neighbours without its colour (less).

    Uses sums instead of a convolution, whose inputs GPUs round to TF32.
    """
    height, width = sparse.shape[-2:]
    padded = F.pad(sparse, (1, 1, 1, 1))
    rows = padded[..., :height, :] + padded[..., 2:, :]  # above and below
    beside = padded[..., 1:-1, :width] + padded[..., 1:-1, 2:]
    across = rows[..., :width] + rows[..., 2:]
    cross = 4 * sparse + rows[..., 1:-1] + beside
    square = 4 * sparse + 2 * (rows[..., 1:-1] + beside) + across
    return torch.cat([square[:, :1], cross[:, 1:2], square[:, 2:]], 1)

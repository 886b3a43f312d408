"""Packed RAW frames: where the samples of each colour lie, and a plain demosaicking.

A packed pixel holds the four samples of a 2×2 cell of the sensor: red, the green beside it, the
green beside blue, blue.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.archs.layers.burst.splat import shift_and_add

_COLOUR = (0, 1, 1, 2)  # of each packed channel
_PLACE = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
"""Of each packed channel's sample from the middle of its cell, (x, y) in packed pixels."""


def demosaic(packed: Tensor) -> Tensor:
    """Bilinear demosaicking: (N, 4, h, w) to RGB (N, 3, 2h, 2w) at the sensor's resolution.

    A missing colour is the mean of its nearest samples; what was measured stays as it is.
    """
    total, weight = _spread(_by_colour(packed)), _spread(_by_colour(torch.ones_like(packed[:1])))
    return total / weight


def shift_and_add_raw(
    frames: Tensor, motion: Tensor, scale: int, trust: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`shift_and_add` of packed frames: every sample goes where its own colour was measured.

    Args:
        frames: (N, T, 4, h, w).
        motion: (N, T, 2, 3) in packed pixels: where a point of the reference is seen in each frame.
        scale: Fine cells per packed pixel.
        trust: (N, T, h, w), as `shift_and_add` takes it.

    Returns:
        The weighted sums and the sums of the weights of red, green and blue, both
        (N, 3, h·scale, w·scale).
    """
    totals, weights = [0, 0, 0], [0, 0, 0]
    for channel, (colour, place) in enumerate(zip(_COLOUR, _PLACE, strict=True)):
        shift = motion[..., 2:] - motion.new_tensor(place)[:, None]
        seen = torch.cat([motion[..., :2], shift], -1)
        total, weight = shift_and_add(frames[:, :, channel : channel + 1], seen, scale, trust)
        totals[colour], weights[colour] = totals[colour] + total, weights[colour] + weight
    return torch.cat(totals, 1), torch.cat(weights, 1)


def _by_colour(packed: Tensor) -> Tensor:
    """(N, 4, h, w) to (N, 3, 2h, 2w): the samples where they were measured, zero elsewhere."""
    own = torch.zeros(3, 4, 1, 1, device=packed.device, dtype=packed.dtype)
    own[_COLOUR, range(4)] = 1
    return F.pixel_shuffle((packed[:, None] * own).flatten(1, 2), 2)


def _spread(sparse: Tensor) -> Tensor:
    """Every sample weighs 4 at its own place, and less at those around it that lack its colour.

    Written as sums, since GPUs round the inputs of convolutions to TF32.
    """
    height, width = sparse.shape[-2:]
    padded = F.pad(sparse, (1, 1, 1, 1))
    rows = padded[..., :height, :] + padded[..., 2:, :]  # above and below
    beside = padded[..., 1:-1, :width] + padded[..., 1:-1, 2:]
    across = rows[..., :width] + rows[..., 2:]
    cross = 4 * sparse + rows[..., 1:-1] + beside
    square = 4 * sparse + 2 * (rows[..., 1:-1] + beside) + across
    return torch.cat([square[:, :1], cross[:, 1:2], square[:, 2:]], 1)

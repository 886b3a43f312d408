"""Shift-and-add: accumulates the samples of all frames of a burst on one finer grid.

This is classical multi-frame super-resolution (Elad and Hel-Or, "A Fast Super-Resolution
Reconstruction Algorithm for Pure Translational Motion", TIP 2001; Wronski et al., "Handheld
Multi-Frame Super-Resolution", SIGGRAPH 2019). It needs no learning, so a network with this input
can use the sub-pixel samples of the other frames from the first training step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shift_and_add(
    frames: Tensor, motion: Tensor, scale: int, trust: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Adds every sample of every frame to the cells around its position on the ×``scale`` grid.

    A sample has a bilinear weight in each cell at a distance below one cell. The sum runs over
    cells: each cell reads the nearest sample of each frame, because on a grid that is at least
    twice as fine no second sample of a frame is near enough. Reading instead of scattering makes
    the result identical on every run, on any device and with any number of threads.

    Args:
        frames: (N, T, C, h, w).
        motion: (N, T, 2, 3) in pixels: maps points of the reference to each frame.
        scale: Cells of the fine grid per pixel, at least 2.
        trust: (N, T, h, w) in [0, 1]: factor on the weights of a frame's samples around each pixel
            of the reference; None means 1.

    Returns:
        The weighted sum (N, C, h·scale, w·scale), and the sum of weights (N, 1, h·scale, w·scale),
        which is 0 in cells without a sample and T / scale² on average.
    """
    n, t, channels, h, w = frames.shape
    ys = (torch.arange(h * scale, device=frames.device, dtype=motion.dtype) + 0.5) / scale - 0.5
    xs = (torch.arange(w * scale, device=frames.device, dtype=motion.dtype) + 0.5) / scale - 0.5
    last = torch.tensor([w - 1, h - 1], device=frames.device, dtype=motion.dtype).view(2, 1, 1)
    total = frames.new_zeros(n, channels, h * scale, w * scale)
    weights = frames.new_zeros(n, 1, h * scale, w * scale)
    for i in range(t):  # frame by frame: all frames at once need T times the memory
        along_x, along_y, shift = motion[:, i, :, :, None, None].unbind(2)
        position = along_x * xs + (along_y * ys[:, None] + shift)  # (N, 2, H, W)
        # A sample inside of the frame is nearest to a position outside of it, but at least half a
        # pixel away, and so without weight.
        nearest = torch.minimum(position.round(), last).clamp_min(0)
        near_x, near_y = (1 - scale * (position - nearest).abs()).clamp_min(0).unbind(1)
        weight = near_x * near_y
        x, y = (nearest if h * w <= 2**24 else nearest.double()).unbind(1)  # exact integers
        index = torch.add(x, y, alpha=w).long().view(n, 1, -1).expand(-1, channels, -1)
        sample = frames[:, i].flatten(2).gather(2, index)
        if trust is not None:
            finer = F.interpolate(trust[:, i, None], scale_factor=scale, mode="bilinear")
            weight = weight * finer[:, 0]
        weight = weight[:, None].to(frames.dtype)
        total = torch.addcmul(total, sample.view_as(total), weight)
        weights = weights + weight
    return total, weights

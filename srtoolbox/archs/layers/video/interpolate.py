"""Frames between frames, by warping along optical flow."""

from __future__ import annotations

import torch
from torch import Tensor

from srtoolbox.archs.layers.burst.motion import warp


@torch.no_grad()
def interpolate_frames(frames: Tensor, flow: Tensor, time_scale: int = 2) -> Tensor:
    """Frames at evenly spread times between the given ones.

    Motion is taken to be even between two frames, so that the flows from a time between to both
    follow from those between the two (Jiang et al., "Super SloMo", CVPR 2018). Both are warped to
    that time and averaged, the nearer one with more weight. Where the way from one frame to the
    other and back does not end where it began, what the one shows is hidden in the other, which
    then counts less.

    Args:
        frames: (N, T, C, h, w).
        flow: (N, 2, T - 1, 2, h, w), from each frame to the next, and back.
        time_scale: How many intervals each one is divided into.

    Returns:
        (N, time_scale * (T - 1) + 1, C, h, w); the given frames are passed on as they are.
    """
    n, num_frame = frames.shape[:2]
    if num_frame == 1:
        return frames
    first, second = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
    there, back = (flow[:, way].flatten(0, 1).float() for way in (0, 1))
    seen = _seen_in_other(there, back), _seen_in_other(back, there)
    steps = [frames[:, :-1]]
    for step in range(1, time_scale):
        time = step / time_scale
        to_first = time * (time * back - (1 - time) * there)
        to_second = (1 - time) * ((1 - time) * there - time * back)
        from_first = warp(torch.cat([first, seen[0].to(first.dtype)], 1), to_first)
        from_second = warp(torch.cat([second, seen[1].to(first.dtype)], 1), to_second)
        weight_first = (1 - time) * from_second[:, -1:]
        weight_second = time * from_first[:, -1:]
        mixed = weight_first * from_first[:, :-1] + weight_second * from_second[:, :-1]
        steps.append((mixed / (weight_first + weight_second)).unflatten(0, (n, num_frame - 1)))
    return torch.cat([torch.stack(steps, 2).flatten(1, 2), frames[:, -1:]], 1)


def _seen_in_other(there: Tensor, back: Tensor) -> Tensor:
    """From near 0 to 1, (B, 1, h, w): whether ``back`` undoes ``there``, both (B, 2, h, w).

    The bound on what counts as undone grows with the motion (Sundaram et al., ECCV 2010).
    """
    returned = warp(back, there)
    gap = (there + returned).square().sum(1, keepdim=True)
    bound = 0.01 * (there.square() + returned.square()).sum(1, keepdim=True) + 0.5
    return torch.exp(-gap / bound).clamp_min(1e-3)

"""Frame interpolation by warping along optical flow."""

from __future__ import annotations

import torch
from torch import Tensor

from srtoolbox.archs.layers.burst.motion import warp


@torch.no_grad()
def interpolate_frames(frames: Tensor, flow: Tensor, time_scale: int = 2) -> Tensor:
    """Adds frames at equal time steps between the given ones.

    With constant velocity between two frames, the flows from an intermediate time to both follow
    from the flows between them (Jiang et al., "Super SloMo", CVPR 2018). Both frames are warped to
    that time and averaged, the nearer one with more weight. A frame has less weight where its
    content is hidden in the other frame, that is, where forward and backward flow do not cancel.

    Args:
        frames: (N, T, C, h, w).
        flow: (N, 2, T - 1, 2, h, w) in pixels, from each frame to the next, and back.
        time_scale: Number of intervals between two given frames in the result.

    Returns:
        (N, time_scale * (T - 1) + 1, C, h, w); the given frames are unchanged.
    """
    n, num_frame = frames.shape[:2]
    if num_frame == 1:
        return frames
    first, second = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
    forward, backward = (flow[:, direction].flatten(0, 1).float() for direction in (0, 1))
    visible_first = _visible_in_other(forward, backward).to(first.dtype)
    visible_second = _visible_in_other(backward, forward).to(first.dtype)
    steps = [frames[:, :-1]]
    for step in range(1, time_scale):
        time = step / time_scale
        to_first = time * (time * backward - (1 - time) * forward)
        to_second = (1 - time) * ((1 - time) * forward - time * backward)
        from_first = warp(torch.cat([first, visible_first], 1), to_first)
        from_second = warp(torch.cat([second, visible_second], 1), to_second)
        weight_first = (1 - time) * from_second[:, -1:]
        weight_second = time * from_first[:, -1:]
        mixed = weight_first * from_first[:, :-1] + weight_second * from_second[:, :-1]
        steps.append((mixed / (weight_first + weight_second)).unflatten(0, (n, num_frame - 1)))
    return torch.cat([torch.stack(steps, 2).flatten(1, 2), frames[:, -1:]], 1)


def _visible_in_other(forward: Tensor, backward: Tensor) -> Tensor:
    """Returns (B, 1, h, w) from 0.001 to 1: near 1 where both flows (B, 2, h, w) cancel.

    The tolerance grows with the motion (Sundaram et al., ECCV 2010).
    """
    returned = warp(backward, forward)
    gap = (forward + returned).square().sum(1, keepdim=True)
    bound = 0.01 * (forward.square() + returned.square()).sum(1, keepdim=True) + 0.5
    return torch.exp(-gap / bound).clamp_min(1e-3)

"""Where the frames of a burst show the same as the reference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.archs.layers.burst.motion import motion_to_flow, warp

_CONTRAST, _NOISE, _LEAST = 0.15, 3.0, 0.004
_QUIET = 0.2  # of all pixels, which differ by noise alone


@torch.no_grad()
def trust_in_frames(frames: Tensor, motion: Tensor) -> Tensor:
    """How far each frame is to be trusted around each pixel of the reference.

    Objects that move by themselves are not where the motion of the scene puts them, and their
    samples would spoil what is there. They are told by the difference of a frame, moved onto the
    reference, from it. What sampling and noise alone make different is known from the contrast
    around a pixel and from where frames agree best (after the robustness mask of Wronski et al.,
    "Handheld Multi-Frame Super-Resolution", SIGGRAPH 2019).

    Args:
        frames: (N, T, C, h, w) in [0, 1], the reference first.
        motion: (N, T, 2, 3): where a point of the reference is seen in each frame.

    Returns:
        (N, T, h, w) float32, from 0 to 1, which it is for the reference and nearly everywhere in a
        scene where all moves alike.
    """
    n, t, _, h, w = frames.shape
    if t == 1:
        return frames.new_ones(n, 1, h, w, dtype=torch.float32)
    with torch.autocast(frames.device.type, enabled=False):
        reference, others = frames[:, 0].float(), frames[:, 1:].float().flatten(0, 1)
        flow = motion_to_flow(motion[:, 1:], (h, w)).flatten(0, 1)
        seen = warp(others, flow).unflatten(0, (n, t - 1))
        differs = _around((seen - reference[:, None]).abs().mean(2))
        edge = F.pad(reference, (1, 1, 1, 1), mode="replicate")
        contrast = F.max_pool2d(edge, 3, 1) + F.max_pool2d(-edge, 3, 1)
        count = max(1, int(_QUIET * differs[0].numel()))
        noise = differs.flatten(1).kthvalue(count, 1).values[:, None, None, None]
        usual = _CONTRAST * _around(contrast.mean(1, keepdim=True)) + _NOISE * noise + _LEAST
        trust = torch.exp(-((differs / usual) ** 4))
        return torch.cat([torch.ones_like(trust[:, :1]), trust], 1)


def _around(x: Tensor) -> Tensor:
    """Means of 3×3 pixels, (N, K, h, w) to the same shape."""
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)

"""Estimates where the frames of a burst agree with the reference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.archs.layers.basic import is_exporting
from srtoolbox.archs.layers.burst.motion import motion_to_flow, warp

# Tolerated differences: _CONTRAST_FACTOR * contrast + _NOISE_FACTOR * noise + _MIN_DIFFERENCE.
_CONTRAST_FACTOR, _NOISE_FACTOR, _MIN_DIFFERENCE = 0.15, 3.0, 0.004
_NOISE_QUANTILE = 0.2  # this quantile of a frame's differences is taken as the noise


@torch.no_grad()
def trust_in_frames(frames: Tensor, motion: Tensor) -> Tensor:
    """Returns a weight for each frame around each pixel of the reference.

    Moving objects do not follow the motion of the scene, and their samples would cause artefacts.
    They are detected by the difference between the warped frame and the reference. Differences that
    sampling and noise alone explain are tolerated; these are estimated from the contrast around a
    pixel and from the pixels that agree best (similar to the robustness mask of Wronski et al.,
    "Handheld Multi-Frame Super-Resolution", SIGGRAPH 2019).

    Args:
        frames: (N, T, C, h, w) in [0, 1], the reference first.
        motion: (N, T, 2, 3) in pixels: maps points of the reference to each frame.

    Returns:
        (N, T, h, w), float32, from 0 to 1: 1 for the reference, and almost 1 everywhere in a scene
        without moving objects.
    """
    n, t, _, h, w = frames.shape
    if t == 1:
        return frames.new_ones(n, 1, h, w, dtype=torch.float32)
    with torch.autocast(frames.device.type, enabled=False):
        reference, others = frames[:, 0].float(), frames[:, 1:].float().flatten(0, 1)
        flow = motion_to_flow(motion[:, 1:], (h, w)).flatten(0, 1)
        warped = warp(others, flow).unflatten(0, (n, t - 1))
        difference = _local_mean((warped - reference[:, None]).abs().mean(2))
        edge = F.pad(reference, (1, 1, 1, 1), mode="replicate")
        contrast = F.max_pool2d(edge, 3, 1) + F.max_pool2d(-edge, 3, 1)
        rank = max(1, int(_NOISE_QUANTILE * difference[0].numel()))
        noise = _kth_smallest(difference.flatten(1), rank)[:, None, None, None]
        contrast = _local_mean(contrast.mean(1, keepdim=True))
        tolerance = _CONTRAST_FACTOR * contrast + _NOISE_FACTOR * noise + _MIN_DIFFERENCE
        trust = torch.exp(-((difference / tolerance) ** 4))
        return torch.cat([torch.ones_like(trust[:, :1]), trust], 1)


def _kth_smallest(x: Tensor, rank: int) -> Tensor:
    """Returns the value of this rank, from 1 on, of each row: (N, P) to (N,)."""
    if is_exporting():  # ONNX has no kthvalue
        return x.topk(rank, 1, largest=False).values[:, -1]
    return x.kthvalue(rank, 1).values


def _local_mean(x: Tensor) -> Tensor:
    """Mean over 3×3 pixels: (N, K, h, w) to the same shape."""
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)

"""Estimates where the frames of a burst agree with the reference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.archs.layers.basic import is_exporting
from srtoolbox.archs.layers.burst.motion import contrast_factor, smooth

# Tolerated differences: _CONTRAST_FACTOR * contrast + _NOISE_FACTOR * noise + _MIN_DIFFERENCE, the
# last for a reference with the contrast of an ordinary photograph.
_CONTRAST_FACTOR, _NOISE_FACTOR, _MIN_DIFFERENCE = 0.15, 3.0, 0.004
_NOISE_QUANTILE = 0.2  # this quantile of the differences of a burst is taken as the noise
# The noise is at most this factor times the same quantile of the reference's fine structure: both
# have this ratio if every frame has equal noise, and black frames or another scene exceed it.
_GRAIN_FACTOR = 2.0


@torch.no_grad()
def trust_in_frames(reference: Tensor, warped: Tensor) -> Tensor:
    """Returns a weight for each frame around each pixel of the reference.

    Moving objects do not follow the motion of the scene, and their samples would cause artefacts.
    They are detected by the difference between the warped frame and the reference. Differences that
    sampling and noise alone explain are tolerated; these are estimated from the contrast around a
    pixel, from the pixels that agree best, and from the fine structure of the reference (similar to
    the robustness mask of Wronski et al., "Handheld Multi-Frame Super-Resolution", SIGGRAPH 2019).

    Args:
        reference: (N, C, h, w) in any unit.
        warped: (N, T, C, h, w): other frames, warped to the reference; T may be 0.

    Returns:
        (N, T, h, w), float32, from 0 to 1: almost 1 everywhere in a scene without moving objects.
    """
    n, t, _, h, w = warped.shape
    if t == 0:
        return warped.new_zeros(n, 0, h, w, dtype=torch.float32)
    with torch.autocast(warped.device.type, enabled=False):
        reference, warped = reference.float(), warped.float()
        difference = _local_mean((warped - reference[:, None]).abs().mean(2))
        edge = F.pad(reference, (1, 1, 1, 1), mode="replicate")
        contrast = F.max_pool2d(edge, 3, 1) + F.max_pool2d(-edge, 3, 1)
        smoothed = smooth(reference)
        grain = _local_mean((reference - smoothed).abs().mean(1, keepdim=True))
        noise = torch.minimum(_quantile(difference), _GRAIN_FACTOR * _quantile(grain))
        contrast = _local_mean(contrast.mean(1, keepdim=True))
        least = _MIN_DIFFERENCE / contrast_factor(smoothed.mean(1, keepdim=True))
        tolerance = _CONTRAST_FACTOR * contrast + _NOISE_FACTOR * noise + least
        return torch.exp(-((difference / tolerance) ** 4))


def _quantile(x: Tensor) -> Tensor:
    """Returns the quantile that is taken as the noise: (N, K, h, w) to (N, 1, 1, 1)."""
    rank = max(1, int(_NOISE_QUANTILE * x.shape[1:].numel()))
    return _kth_smallest(x.flatten(1), rank)[:, None, None, None]


def _kth_smallest(x: Tensor, rank: int) -> Tensor:
    """Returns the value of this rank, from 1 on, of each row: (N, P) to (N,)."""
    if is_exporting():  # ONNX has no kthvalue
        return x.topk(rank, 1, largest=False).values[:, -1]
    return x.kthvalue(rank, 1).values


def _local_mean(x: Tensor) -> Tensor:
    """Mean over 3×3 pixels: (N, K, h, w) to the same shape."""
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)

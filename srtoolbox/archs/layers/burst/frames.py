"""Computations for every frame of a burst together with the reference."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.burst.motion import estimate_motion, motion_to_flow, warp


def beside(layer: nn.Module, reference: Tensor, x: Tensor) -> Tensor:
    """Applies a 3×3 convolution to the channels of the reference and of each frame.

    The convolution of a concatenation is the sum of two convolutions, so that of the reference is
    computed once for all frames.

    Args:
        layer: The convolution. Its first input channels are those of the reference, the others
            those of a frame.
        reference: (N, C, h, w).
        x: (N, T, C, h, w).

    Returns:
        (N·T, C', h, w).
    """
    conv = cast(nn.Conv2d, layer)
    first, second = conv.weight.split((reference.shape[1], x.shape[2]), 1)
    shared = F.conv2d(reference, first, conv.bias, padding=1)
    own = F.conv2d(x.flatten(0, 1), second, padding=1).unflatten(0, x.shape[:2])
    return (own + shared[:, None]).flatten(0, 1)


def aligned(lq: Tensor) -> Tensor:
    """Warps the frames (N, T, C, h, w) of bursts to their first one, which stays as it is.

    The motion is that of `estimate_motion`: affine at most, and none where an estimate does
    not lower the difference of the images.
    """
    if lq.shape[1] == 1:
        return lq
    flow = motion_to_flow(estimate_motion(lq)[:, 1:], (lq.shape[3], lq.shape[4]))
    moved = warp(lq[:, 1:].flatten(0, 1), flow.flatten(0, 1))
    return torch.cat((lq[:, :1], moved.unflatten(0, flow.shape[:2])), 1)

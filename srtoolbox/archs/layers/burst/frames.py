"""Layers that see the reference beside every frame of a burst."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


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

"""Convolutions, activations and changes of size that several networks share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def is_exporting() -> bool:
    """Returns whether ``torch.export`` records the current call.

    An exported program has no branches. Code that divides its work by the size of the input, and
    operators that ONNX does not have, take another way with the same result then.
    """
    record = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # new in 2.7
    return record()


def conv3(num_in: int, num_out: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """Returns a 3×3 convolution that keeps height and width, or divides them by ``stride``."""
    return nn.Conv2d(num_in, num_out, 3, stride, padding=1, bias=bias)


def init_convs_(module: nn.Module, init: Callable[[Tensor], object]) -> None:
    """Sets the weights of every convolution inside by ``init``, and all biases to zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            init(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def lrelu(x: Tensor, slope: float = 0.1) -> Tensor:
    """Leaky ReLU."""
    return F.leaky_relu(x, slope)


def enlarge(x: Tensor, factor: int = 2, align_corners: bool = False) -> Tensor:
    """Bilinear enlargement: (N, C, h, w) to (N, C, h * factor, w * factor)."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=align_corners)


def max_and_mean(x: Tensor) -> Tensor:
    """Maximum and mean over 3×3 windows: (N, C, h, w) to (N, 2C, h / 2, w / 2)."""
    return torch.cat((F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1)), dim=1)

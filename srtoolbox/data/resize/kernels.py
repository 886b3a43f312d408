"""Resizing by the interpolation kernels that image libraries offer, on any device.

Pixel centres are aligned, as in OpenCV and in torch with ``align_corners=False``. Beyond its edges
the image repeats its outermost pixels. Weights are computed once on the CPU in float64 and pixels
are summed tap by tap, so a result does not depend on the device or on other images of the batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from srtoolbox.data.resize.tensor import imresize_tensor
from srtoolbox.errors import UserError, check_choice

Interpolation = Literal["nearest", "area", "bilinear", "bicubic", "bicubic-aa"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)


def interpolate(images: Tensor, size: tuple[int, int], kernel: Interpolation) -> Tensor:
    """Resizes images, height first.

    - ``nearest``: the pixel whose centre is nearest.
    - ``area``: the mean of the area that an output pixel covers (OpenCV's ``INTER_AREA`` when
      shrinking).
    - ``bilinear``, ``bicubic`` (a = -0.75): 2 and 4 pixels per axis without antialiasing, as in
      OpenCV and torch. A strongly reduced image aliases.
    - ``bicubic-aa``: MATLAB's ``imresize`` (a = -0.5, mirrored edges, antialiased).

    Args:
        images: (..., H, W) float64.
        size: Output (height, width).
        kernel: Name of the kernel.

    Returns:
        (..., height, width) float64; bicubic kernels can leave the range of the input.

    Raises:
        UserError: for an unknown kernel, or a size below 1.
    """
    check_choice("kernel", kernel, INTERPOLATIONS)
    if min(size) < 1:
        raise UserError(f"interpolate: size must be at least (1, 1), got {tuple(size)}")
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    if kernel == "bicubic-aa":
        return imresize_tensor(images, None, out_size=size, dtype=torch.float64)
    for dim in (-2, -1):
        images = _resize_axis(images, size[dim], kernel, dim)
    return images


def _resize_axis(images: Tensor, length: int, kernel: Interpolation, dim: int) -> Tensor:
    if images.shape[dim] == length:
        return images
    source, weights = taps(images.shape[dim], length, kernel)
    index = torch.from_numpy(source).to(images.device)
    factors = torch.from_numpy(weights).to(images.device, images.dtype)
    factors = factors if dim == -1 else factors[:, :, None]
    out = images.index_select(dim, index[0]) * factors[0]
    for tap in range(1, len(source)):
        out += images.index_select(dim, index[tap]) * factors[tap]
    return out


@lru_cache(maxsize=512)
def taps(length: int, out_length: int, kernel: Interpolation) -> tuple[np.ndarray, np.ndarray]:
    """Returns the input pixels of every output pixel of a line, and their weights.

    Args:
        length: Pixels of the input line.
        out_length: Pixels of the output line.
        kernel: Any kernel but ``"bicubic-aa"``.

    Returns:
        Indices, int64, and weights, float64: (K, out_length) each. Weights of a column sum to 1.
    """
    step = length / out_length
    position = np.arange(out_length)
    centre = (position + 0.5) * step - 0.5
    if kernel == "nearest":
        source = np.floor((position + 0.5) * step)[None]
        weights = np.ones(source.shape)
    elif kernel == "area":
        start = position * step
        # 1e-9: a border between pixels that is whole but for the rounding is whole.
        first = np.floor(start + 1e-9)
        source = first + np.arange(int(np.ceil(step)) + 1)[:, None]
        overlap = np.minimum(source + 1, start + step) - np.maximum(source, start)
        weights = overlap.clip(0)
        weights[weights < 1e-9] = 0
        weights /= weights.sum(0)
    elif kernel == "bilinear":
        source = np.floor(centre) + np.arange(2)[:, None]
        weights = 1 - np.abs(centre - source)
    else:
        source = np.floor(centre) + np.arange(-1, 3)[:, None]
        weights = _cubic(np.abs(centre - source), -0.75)
    index = source.astype(np.int64).clip(0, length - 1)
    return index, weights


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Evaluates Keys' cubic kernel at distances ``x`` of at most 2."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, far)

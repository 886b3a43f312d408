"""Blur kernels: Gaussian and its relatives, the sinc filter, and motion along a line.

A kernel is a float64 array (size, size) of odd size that sums to 1. All but the sinc kernel are
non-negative. Widths are standard deviations in pixels, angles are radians from x (right) towards y
(down).

With the quadratic form ``q(x) = xᵀ Σ⁻¹ x`` of the covariance Σ:

===================  ====================  ========================================================
kernel               value                 source
===================  ====================  ========================================================
Gaussian             exp(-q / 2)
generalized          exp(-q^β / 2)         Liu et al., "Estimating generalized Gaussian blur kernels
                                           for out-of-focus image deblurring", TCSVT 2020
plateau              1 / (1 + q^β)         Wang et al., "Real-ESRGAN", ICCVW 2021
sinc                 ω J₁(ω r) / (2 π r)   the same: the low-pass filter with a circular pass band
===================  ====================  ========================================================
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from srtoolbox.errors import UserError

KERNELS = (
    "iso",
    "aniso",
    "generalized_iso",
    "generalized_aniso",
    "plateau_iso",
    "plateau_aniso",
    "sinc",
    "motion",
)
"""Names of the kernels in option files."""

_STEPS_PER_PIXEL = 16  # of the path that a motion kernel is summed along


def gaussian_kernel(
    size: int,
    sigma: tuple[float, float],
    angle: float = 0.0,
    *,
    beta: float = 1.0,
    plateau: bool = False,
    centre: float = 0.0,
) -> np.ndarray:
    """Returns a Gaussian, generalized Gaussian or plateau kernel.

    Args:
        size: Odd side of the kernel.
        sigma: Standard deviations along both axes, positive; equal ones give an isotropic kernel.
        angle: Angle of the first axis.
        beta: Exponent β; 1 is the Gaussian.
        plateau: Use the plateau form.
        centre: Distance of its centre from the middle pixel along x and y, in pixels.

    Raises:
        UserError: for an even size, or a width or exponent that is not positive.
    """
    _check_size(size)
    if min(*sigma, beta) <= 0:
        raise UserError(f"a blur kernel needs sigma and beta above 0, got {sigma} and {beta}")
    x, y = _grid(size, centre)
    along = math.cos(angle) * x + math.sin(angle) * y
    across = math.cos(angle) * y - math.sin(angle) * x
    form = (along / sigma[0]) ** 2 + (across / sigma[1]) ** 2
    power = form**beta
    # Without the smallest power, a narrow Gaussian between the pixels' centres would be 0.
    kernel = 1 / (1 + power) if plateau else np.exp(-0.5 * (power - power.min()))
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: float) -> np.ndarray:
    """Returns the sinc kernel, which makes ringing and overshoot; it has negative values.

    Args:
        size: Odd side of the kernel.
        cutoff: Cut-off frequency ω in radians per pixel, in (0, π].

    Raises:
        UserError: for an even size, or another cut-off frequency.
    """
    _check_size(size)
    if not 0 < cutoff <= math.pi:
        raise UserError(f"a sinc kernel needs a cut-off frequency in (0, π], got {cutoff:g}")
    radius = np.hypot(*_grid(size))
    radius[size // 2, size // 2] = 1  # any number: the value there is set below
    kernel = cutoff * special.j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return kernel / kernel.sum()


def motion_kernel(size: int, length: float, angle: float) -> np.ndarray:
    """Returns the kernel of a camera that moves evenly along a straight line.

    Every point of the path is shared by the four pixels around it (bilinear weights).

    Args:
        size: Odd side of the kernel.
        length: Length of the path in pixels, at most ``size - 1``; 0 gives no blur.
        angle: Direction of the path.

    Raises:
        UserError: for an even size, or a path that is longer than the kernel.
    """
    _check_size(size)
    if not 0 <= length <= size - 1:
        raise UserError(f"a motion kernel of size {size} holds paths up to {size - 1}: {length:g}")
    count = max(1, math.ceil(length * _STEPS_PER_PIXEL))
    path = ((np.arange(count) + 0.5) / count - 0.5) * length
    x, y = (size // 2 + share(angle) * path for share in (math.cos, math.sin))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    kernel = np.zeros((size + 1, size + 1))  # a border for points on the last row or column
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - right - (x - left)) * np.abs(1 - down - (y - top))
            np.add.at(kernel, (top + down, left + right), weight)
    kernel = kernel[:size, :size]
    return kernel / kernel.sum()


def _grid(size: int, centre: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    offset = np.arange(size) - size // 2 - centre
    x, y = np.meshgrid(offset, offset)
    return x, y


def _check_size(size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise UserError(f"a blur kernel needs an odd size, got {size}")

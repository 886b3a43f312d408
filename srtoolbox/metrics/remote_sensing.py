"""Metrics of remote sensing, which separate errors of the spectrum from errors of brightness.

They compare all bands under protocols of bands, and RGB under all other protocols, also under those
of luma, since luma has no spectrum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.linalg import vector_norm

from srtoolbox.errors import UserError
from srtoolbox.metrics.base import Metric, check_bands
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.metrics.windows import blur, mean_of_windows, valid_pixels
from srtoolbox.registry import METRIC_REGISTRY

_CONSTANT = 1e-13  # variance over power; sums of float64 are exact to about 1e-15 of the power


@METRIC_REGISTRY.register()
class SAM(Metric):
    """Spectral angle between the pixels of result and ground truth, averaged over the image.

    From 0 (images that differ only in brightness) to 90; lower is better; in degrees (radians in
    other programs). Grey images have no spectrum, their value is 0. The angle between a black pixel
    and one that is not black is 90. With a mask it is the mean over the valid pixels. R. H. Yuhas,
    A. F. H. Goetz, J. W. Boardman, "Discrimination among semi-arid landscape endmembers using the
    spectral angle mapper (SAM) algorithm", JPL Airborne Geoscience Workshop 1992.

    Args:
        bands: Numbers, from 1, of the bands that form the spectrum; None: all.

    Raises:
        UserError: if ``bands`` are not different numbers from 1 on.
    """

    higher_is_better = False
    unit = "°"
    digits = 3
    paper = "Yuhas et al., JPL Airborne Geoscience Workshop 1992"
    takes_mask = True

    def __init__(self, bands: Sequence[int] | None = None) -> None:
        self.bands = check_bands("SAM", bands)

    def score(
        self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int, mask: Tensor | None = None
    ) -> float:
        x, y = (protocol.prepare_spectrum(image, scale) for image in (sr, gt))
        return valid_pixels(spectral_angles(x, y), mask).mean().item()


@METRIC_REGISTRY.register()
class ERGAS(Metric):
    """Relative error of the bands: 100 / scale · √(mean over bands of (RMSE / mean)²).

    From 0 (identical images) to infinity; lower is better; no unit. RMSE is divided by the mean of
    the ground truth's band; 1 / scale is the size of an HR pixel over that of an LR pixel. With a
    mask RMSE and mean are over the valid pixels. L. Wald, "Quality of high resolution synthesised
    images: is there a simple criterion?", Fusion of Earth Data 2000.

    Args:
        bands: Numbers, from 1, of the bands to compare; None: all.

    Raises:
        UserError: if ``bands`` are not different numbers from 1 on.
    """

    higher_is_better = False
    digits = 3
    paper = "Wald, Fusion of Earth Data 2000"
    takes_mask = True

    def __init__(self, bands: Sequence[int] | None = None) -> None:
        self.bands = check_bands("ERGAS", bands)

    def score(
        self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int, mask: Tensor | None = None
    ) -> float:
        x, y = (valid_pixels(protocol.prepare_spectrum(image, scale), mask) for image in (sr, gt))
        error = (x - y).square().mean(dim=(1, 2))
        relative = error / y.mean(dim=(1, 2)).square()
        relative = relative.masked_fill(error == 0, 0)  # a black band without error: 0 / 0
        return 100 / scale * relative.mean().sqrt().item()


@METRIC_REGISTRY.register()
class UIQI(Metric):
    """Universal image quality index Q: correlation, luminance and contrast in sliding windows.

    Q = 4 · cov(x, y) · mean(x) · mean(y) / ((var(x) + var(y)) · (mean(x)² + mean(y)²)), averaged
    over all windows of a band, then over the bands. From -1 to 1 (identical images);
    higher is better; no unit. If a window is constant in both images, Q is
    2 · mean(x) · mean(y) / (mean(x)² + mean(y)²), and 1 if both are black, as in the authors'
    program. With a mask it is the mean over the windows without any masked pixel; it is an error if
    there is none. Z. Wang, A. C. Bovik, "A universal image quality index", SPL 2002.

    Args:
        window: Side of the windows in pixels.
        bands: Numbers, from 1, of the bands to compare; None: all.

    Raises:
        UserError: if ``window`` is less than 2, or ``bands`` are not different numbers from 1 on.
    """

    higher_is_better = True
    digits = 4
    paper = "Wang and Bovik, SPL 2002"
    takes_mask = True

    def __init__(self, window: int = 8, bands: Sequence[int] | None = None) -> None:
        if window < 2:
            raise UserError(f"UIQI: window must be at least 2 pixels, got {window}")
        self.window = window
        self.bands = check_bands("UIQI", bands)

    def min_size(self, protocol: Protocol) -> int:
        return self.window

    def score(
        self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int, mask: Tensor | None = None
    ) -> float:
        x, y = (protocol.prepare_spectrum(image, scale) for image in (sr, gt))
        protocol.check_size("UIQI:", self.window, x, sr)
        weights = [1 / self.window] * self.window
        mean_x, mean_y, power, product = (
            blur(image, weights) for image in (x, y, x * x + y * y, x * y)
        )
        means, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
        variances, covariance = power - squares, product - means
        luminance = (2 * means / squares).masked_fill(squares == 0, 1)
        # Factors of sample statistics, n / (n - 1), cancel out.
        quality = luminance * (2 * covariance / variances).clamp(-1, 1)
        quality = torch.where(variances <= _CONSTANT * power, luminance, quality)
        mean = mean_of_windows(quality, mask, self.window)
        if mean is None:
            raise self._nothing_left(f"window of {self.window}×{self.window} pixels")
        return mean


def spectral_angles(x: Tensor, y: Tensor) -> Tensor:
    """Returns the angles, in degrees (1, H, W), between the pixels of two images (C, H, W)."""
    x, y = _directions(x), _directions(y)
    # The tangent of the half angle is exact for small angles, where the cosine is not.
    half = torch.atan2(vector_norm(x - y, dim=0), vector_norm(x + y, dim=0))
    dark = (x == 0).all(dim=0) != (y == 0).all(dim=0)
    return half.mul(2).masked_fill(dark, math.pi / 2).rad2deg()[None]


def _directions(image: Tensor) -> Tensor:
    """Scales each pixel of (C, H, W) to length 1; black pixels stay black."""
    length = vector_norm(image, dim=0)
    return image / length.masked_fill(length == 0, 1)

"""Metrics of remote sensing, which separate errors of the spectrum from errors of brightness.

Both compare RGB bands, also under protocols of luma, since luma has no spectrum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.linalg import vector_norm

from srtoolbox.metrics.base import Metric
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.registry import METRIC_REGISTRY


@METRIC_REGISTRY.register()
class SAM(Metric):
    """Spectral angle between the pixels of result and ground truth, averaged over the image.

    From 0 (images that differ only in brightness) to 90; lower is better; in degrees (radians in
    other programs). Grey images have no spectrum, their value is 0. The angle between a black pixel
    and one that is not black is 90. R. H. Yuhas, A. F. H. Goetz, J. W. Boardman, "Discrimination
    among semi-arid landscape endmembers using the spectral angle mapper (SAM) algorithm", JPL
    Airborne Geoscience Workshop 1992.
    """

    higher_is_better = False
    unit = "°"
    digits = 3
    paper = "Yuhas et al., JPL Airborne Geoscience Workshop 1992"

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        x, y = (_directions(protocol.prepare_rgb(image, scale)) for image in (sr, gt))
        # The tangent of the half angle is exact for small angles, where the cosine is not.
        half = torch.atan2(vector_norm(x - y, dim=0), vector_norm(x + y, dim=0))
        dark = (x == 0).all(dim=0) != (y == 0).all(dim=0)
        return half.mul(2).masked_fill(dark, math.pi / 2).rad2deg().mean().item()


@METRIC_REGISTRY.register()
class ERGAS(Metric):
    """Relative error of the bands: 100 / scale · √(mean over bands of (RMSE / mean)²).

    From 0 (identical images) to infinity; lower is better; no unit. RMSE is divided by the mean of
    the ground truth's band; 1 / scale is the size of an HR pixel over that of an LR pixel. L. Wald,
    "Quality of high resolution synthesised images: is there a simple criterion?", Fusion of Earth
    Data 2000.
    """

    higher_is_better = False
    digits = 3
    paper = "Wald, Fusion of Earth Data 2000"

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        x, y = (protocol.prepare_rgb(image, scale) for image in (sr, gt))
        error = (x - y).square().mean(dim=(1, 2))
        relative = error / y.mean(dim=(1, 2)).square()
        relative = relative.masked_fill(error == 0, 0)  # a black band without error: 0 / 0
        return 100 / scale * relative.mean().sqrt().item()


def _directions(image: Tensor) -> Tensor:
    """Scales each pixel of (C, H, W) to length 1; black pixels stay black."""
    length = vector_norm(image, dim=0)
    return image / length.masked_fill(length == 0, 1)

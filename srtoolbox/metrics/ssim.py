"""Structural similarity.

Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error
visibility to structural similarity", TIP 2004.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from srtoolbox.metrics.base import Metric, check_bands
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.metrics.windows import blur, mean_of_windows
from srtoolbox.registry import METRIC_REGISTRY

_K1, _K2 = 0.01, 0.03

_GAUSSIAN = [math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)]
_WINDOWS = {  # weights along one axis
    "gaussian": [weight / sum(_GAUSSIAN) for weight in _GAUSSIAN],
    "uniform": [1 / 7] * 7,
}


@METRIC_REGISTRY.register()
class SSIM(Metric):
    """Structural similarity, averaged over the valid region and the channels.

    The protocol selects the window: Gaussian as in the paper, or uniform as in scikit-image.
    From -1 to 1 (identical images); higher is better; no unit. Wang et al., TIP 2004. With a mask
    it is the mean over the windows without any masked pixel; it is an error if there is none.

    Args:
        bands: Numbers, from 1, of the bands to compare; None: all.

    Raises:
        UserError: if ``bands`` are not different numbers from 1 on.
    """

    higher_is_better = True
    digits = 4
    paper = "Wang et al., TIP 2004"
    takes_mask = True

    def __init__(self, bands: Sequence[int] | None = None) -> None:
        self.bands = check_bands("SSIM", bands)

    def min_size(self, protocol: Protocol) -> int:
        return len(_WINDOWS[protocol.ssim_window])

    def score(
        self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int, mask: Tensor | None = None
    ) -> float:
        x, y = protocol.prepare(sr, scale), protocol.prepare(gt, scale)
        window = _WINDOWS[protocol.ssim_window]
        protocol.check_size("SSIM:", self.min_size(protocol), x, sr)
        c1, c2 = (_K1 * protocol.ssim_range) ** 2, (_K2 * protocol.ssim_range) ** 2
        # The formula needs only the sum of the variances, so four blurred maps are enough.
        blurred = (blur(image, window) for image in (x, y, x * x + y * y, x * y))
        mean_x, mean_y, power, product = blurred
        means = mean_x * mean_y
        squares = mean_x.square() + mean_y.square()
        variances, covariance = power - squares, product - means
        if protocol.ssim_window == "uniform":  # sample statistics of the window's n pixels
            n = len(window) ** 2
            variances, covariance = variances * (n / (n - 1)), covariance * (n / (n - 1))
        similarity = ((2 * means + c1) * (2 * covariance + c2)) / (
            (squares + c1) * (variances + c2)
        )
        mean = mean_of_windows(similarity, mask, len(window))
        if mean is None:
            raise self._nothing_left(f"window of {len(window)}×{len(window)} pixels")
        return mean

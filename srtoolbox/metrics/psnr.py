"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from srtoolbox.metrics.base import Metric, check_bands
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.metrics.windows import valid_pixels
from srtoolbox.registry import METRIC_REGISTRY


@METRIC_REGISTRY.register()
class PSNR(Metric):
    """10 log10(peak² / MSE) of the values that the protocol compares.

    From below 0 dB to infinity (identical images); higher is better; in dB. On its use: Huynh-Thu
    and Ghanbari, "Scope of validity of PSNR", Electronics Letters 2008. With a mask it is computed
    over the valid pixels.

    Args:
        bands: Numbers, from 1, of the bands to compare; None: all.

    Raises:
        UserError: if ``bands`` are not different numbers from 1 on.
    """

    higher_is_better = True
    unit = "dB"
    digits = 2
    paper = "peak signal-to-noise ratio of the values that the protocol defines"
    takes_mask = True

    def __init__(self, bands: Sequence[int] | None = None) -> None:
        self.bands = check_bands("PSNR", bands)

    def score(
        self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int, mask: Tensor | None = None
    ) -> float:
        error = (protocol.prepare(sr, scale) - protocol.prepare(gt, scale)).square()
        error = valid_pixels(error, mask)
        if protocol.psnr_channels == "mean":
            values = [psnr_of(mse, protocol.peak) for mse in error.mean(dim=(1, 2)).tolist()]
            return sum(values) / len(values)
        return psnr_of(error.mean().item(), protocol.peak)


def psnr_of(mse: float, peak: float) -> float:
    """Returns the PSNR in dB for a mean squared error; infinite for 0."""
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)

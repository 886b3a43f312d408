"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

from torch import Tensor

from srtoolbox.metrics.base import Metric
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.registry import METRIC_REGISTRY


@METRIC_REGISTRY.register()
class PSNR(Metric):
    """10 log10(peak² / MSE) of the values that the protocol compares.

    From below 0 dB to infinity (identical images); higher is better; in dB. On its use: Huynh-Thu
    and Ghanbari, "Scope of validity of PSNR", Electronics Letters 2008.
    """

    higher_is_better = True
    unit = "dB"
    digits = 2
    paper = "peak signal-to-noise ratio of the values that the protocol defines"

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        error = (protocol.prepare(sr, scale) - protocol.prepare(gt, scale)).square()
        if protocol.psnr_channels == "mean":
            values = [psnr_of(mse, protocol.peak) for mse in error.mean(dim=(1, 2)).tolist()]
            return sum(values) / len(values)
        return psnr_of(error.mean().item(), protocol.peak)


def psnr_of(mse: float, peak: float) -> float:
    """Returns the PSNR in dB for a mean squared error; infinite for 0."""
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)

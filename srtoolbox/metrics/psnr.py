"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

from torch import Tensor

from srtoolbox.metrics.base import Metric
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.registry import METRIC_REGISTRY


@METRIC_REGISTRY.register()
class PSNR(Metric):
    """10 log10(peak² / MSE); infinite for identical images."""

    higher_is_better = True
    unit = "dB"
    digits = 2
    paper = "peak signal-to-noise ratio; the protocol says of which values"

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        error = (protocol.prepare(sr, scale) - protocol.prepare(gt, scale)).square()
        if protocol.psnr_channels == "mean":
            values = [_psnr(mse, protocol.peak) for mse in error.mean(dim=(1, 2)).tolist()]
            return sum(values) / len(values)
        return _psnr(error.mean().item(), protocol.peak)


def _psnr(mse: float, peak: float) -> float:
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)

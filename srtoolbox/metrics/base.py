"""What all metrics share: their interface and the one way in which they may be out of order."""

from __future__ import annotations

from torch import Tensor

from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics.protocol import Protocol


class MetricUnavailable(RunError):
    """A metric that cannot be computed on this machine; the message says what it lacks."""


class Metric:
    """A full-reference metric of one image.

    Class attributes:
        higher_is_better: Which of two values is the better one.
        unit: What stands behind the number (``"dB"``), empty for a plain number.
        digits: Digits after the point that tables print.
        paper: Authors, venue and year.
    """

    higher_is_better: bool
    unit: str = ""
    digits: int
    paper: str

    def __call__(self, sr: Tensor, gt: Tensor, *, protocol: Protocol, scale: int) -> float:
        """Scores one image.

        Args:
            sr: The result (C, H, W), float in [0, 1], on any device.
            gt: The truth, of the same shape; or one channel, if the network was fed a grey image
                as RGB.
            protocol: Colour space, crop, rounding and peak.
            scale: Factor of the super-resolution; a protocol may crop that many pixels.

        Raises:
            UserError: if the shapes differ, or if the image is too small for protocol or metric.
            MetricUnavailable: if the metric cannot be computed on this machine.
        """
        if len(gt) == 1 and len(sr) == 3:
            sr, gt = protocol.match_grey(sr, gt)
        if sr.shape != gt.shape:
            raise UserError(
                f"{type(self).__name__}: the result has shape {tuple(sr.shape)} but its ground "
                f"truth {tuple(gt.shape)}; crop one of them, or check the scale (x{scale})"
            )
        return self.score(sr, gt, protocol, scale)

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        """The value for two images of one shape; what a metric implements."""
        raise NotImplementedError

    def available(self) -> str | None:
        """Why the metric cannot be computed on this machine; ``None`` if it can."""
        return None

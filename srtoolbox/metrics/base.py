"""What all metrics share: their interfaces and the one way in which they may be out of order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise, zip_longest

from torch import Tensor

from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics.protocol import Protocol


class MetricUnavailable(RunError):
    """A metric that cannot be computed on this machine; the message says what it lacks."""


class _Measure:
    """What tables know of a metric, and what it may be fed.

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

    def available(self) -> str | None:
        """Why the metric cannot be computed on this machine; ``None`` if it can."""
        return None

    def _match(
        self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int
    ) -> tuple[Tensor, Tensor]:
        """Result and truth of one image, of the same shape."""
        if len(gt) == 1 and len(sr) == 3:
            sr, gt = protocol.match_grey(sr, gt)
        if sr.shape != gt.shape:
            raise UserError(
                f"{type(self).__name__}: the result has shape {tuple(sr.shape)} but its ground "
                f"truth {tuple(gt.shape)}; crop one of them, or check the scale (x{scale})"
            )
        return sr, gt


class Metric(_Measure):
    """A full-reference metric of one image."""

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
        return self.score(*self._match(sr, gt, protocol, scale), protocol, scale)

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        """The value for two images of one shape; what a metric implements."""
        raise NotImplementedError


class ClipMetric(_Measure):
    """A full-reference metric of consecutive frames: the mean over a clip's pairs of neighbours."""

    def __call__(
        self, sr: Iterable[Tensor], gt: Iterable[Tensor], *, protocol: Protocol, scale: int
    ) -> float:
        """Scores one clip. Of iterators, no more than two frames are held at a time.

        Args:
            sr: The results in temporal order: (T, C, H, W), or anything that yields (C, H, W).
            gt: The truth of the same frames; or of one channel, as for ``Metric``.
            protocol: Colour space, crop, rounding and peak.
            scale: Factor of the super-resolution; a protocol may crop that many pixels.

        Raises:
            UserError: if there are fewer than two frames, or other numbers of them; as ``Metric``.
            MetricUnavailable: if the metric cannot be computed on this machine.
        """
        values = [
            self.score(previous, current, protocol, scale)
            for previous, current in pairwise(self._pairs(sr, gt, protocol, scale))
        ]
        if not values:
            raise UserError(
                f"{type(self).__name__}: compares neighbouring frames, but the clip has only one; "
                "leave the metric out, or score whole clips"
            )
        return sum(values) / len(values)

    def score(
        self,
        previous: tuple[Tensor, Tensor],
        current: tuple[Tensor, Tensor],
        protocol: Protocol,
        scale: int,
    ) -> float:
        """The value for two neighbouring frames, each (sr, gt); what a metric implements."""
        raise NotImplementedError

    def _pairs(
        self, sr: Iterable[Tensor], gt: Iterable[Tensor], protocol: Protocol, scale: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for result, truth in zip_longest(sr, gt):
            if result is None or truth is None:
                raise UserError(
                    f"{type(self).__name__}: results and ground truth of a clip differ in number"
                )
            yield self._match(result, truth, protocol, scale)

"""The interfaces of metrics, and the error that is raised when a metric is unavailable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise, zip_longest
from typing import Any

from torch import Tensor

from srtoolbox.config.schema import build
from srtoolbox.errors import ComponentError, RunError, UserError
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.registry import METRIC_REGISTRY
from srtoolbox.utils.own_code import calling, describe_value, place_of


class MetricUnavailable(RunError):
    """The error for a metric that cannot be computed on this machine; it names what is missing."""


class _Measure:
    """The facts that tables need about a metric, and the checks of its inputs and its value.

    Class attributes:
        higher_is_better: Whether the higher of two values is better.
        unit: Unit of the value, such as ``"dB"``; empty if there is none.
        digits: Number of decimals in tables.
        paper: Authors, venue and year; empty: tables show the first line of the docstring.
    """

    higher_is_better: bool = True
    unit: str = ""
    digits: int = 4
    paper: str = ""

    def available(self) -> str | None:
        """Returns why the metric cannot be computed on this machine; None if it can."""
        return None

    def identity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns everything that decides the values of the metric with these options.

        A metric that reads a file puts the hash of its content in the place of its path.
        """
        return dict(options)

    def min_size(self, protocol: Protocol) -> int:
        """Returns the least side, in pixels, of an image that is cropped by the protocol."""
        return 1

    def source(self) -> dict[str, str] | None:
        """Returns ``text`` and ``content`` hash of the weights that the metric uses.

        It is None for a metric without weights, or if they are missing.
        """
        return None

    score: Callable[..., float]  # Metric and ClipMetric have different arguments

    def _value(self, *arguments: Any) -> float:
        """Calls ``score`` and checks that it returns a number."""
        with calling(self, "score"):
            value: Any = self.score(*arguments)
        if isinstance(value, float):
            return value
        if isinstance(value, int) or (hasattr(value, "item") and getattr(value, "size", None) == 1):
            return float(value)
        if isinstance(value, Tensor) and value.numel() == 1:
            return float(value.item())
        raise ComponentError(
            f"{type(self).__name__}.score{place_of(self, 'score')} returned "
            f"{describe_value(value)}; return a number, such as value.mean().item()"
        )

    def _match(
        self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int
    ) -> tuple[Tensor, Tensor]:
        """Returns result and ground truth of one image with the same shape."""
        if len(gt) == 1 and len(sr) == 3:
            sr, gt = protocol.match_grey(sr, gt)
        if sr.shape != gt.shape:
            raise UserError(
                f"{type(self).__name__}: the result has shape {tuple(sr.shape)} but its ground "
                f"truth {tuple(gt.shape)}; crop one of them, or check the scale (x{scale})"
            )
        return sr, gt


class Metric(_Measure):
    """A full-reference metric of images."""

    def __call__(self, sr: Tensor, gt: Tensor, *, protocol: Protocol, scale: int) -> float:
        """Scores one image.

        Args:
            sr: The result (C, H, W), float in [0, 1], on any device.
            gt: The ground truth with the same shape; or with one channel, if the network got a grey
                image as RGB.
            protocol: Rules such as colour space, crop, rounding and peak.
            scale: Super-resolution factor; some protocols crop this many pixels.

        Raises:
            UserError: if the shapes differ, or if the image is too small for protocol or metric.
            MetricUnavailable: if the metric cannot be computed on this machine.
        """
        return self._value(*self._match(sr, gt, protocol, scale), protocol, scale)

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        """Returns the value for two images with the same shape. Subclasses implement it."""
        raise NotImplementedError("implement score(sr, gt, protocol, scale)")


class ClipMetric(_Measure):
    """A full-reference metric of clips: the mean over all pairs of neighbouring frames."""

    def __call__(
        self, sr: Iterable[Tensor], gt: Iterable[Tensor], *, protocol: Protocol, scale: int
    ) -> float:
        """Scores one clip. At most two frames of an iterator are in memory at a time.

        Args:
            sr: The results in temporal order: (T, C, H, W), or an iterable of (C, H, W).
            gt: The ground truth of the same frames; or with one channel, as for ``Metric``.
            protocol: Rules such as colour space, crop, rounding and peak.
            scale: Super-resolution factor; some protocols crop this many pixels.

        Raises:
            UserError: if there are fewer than two frames, or if ``sr`` and ``gt`` have different
                numbers of frames; also as for ``Metric``.
            MetricUnavailable: if the metric cannot be computed on this machine.
        """
        values = [
            self._value(previous, current, protocol, scale)
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
        """Returns the value for two neighbouring frames, each (sr, gt). Subclasses implement it."""
        raise NotImplementedError("implement score(previous, current, protocol, scale)")

    def _pairs(
        self, sr: Iterable[Tensor], gt: Iterable[Tensor], protocol: Protocol, scale: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for result, truth in zip_longest(sr, gt):
            if result is None or truth is None:
                raise UserError(
                    f"{type(self).__name__}: results and ground truth of a clip have different "
                    "numbers of frames"
                )
            yield self._match(result, truth, protocol, scale)


def build_metric(spec: Mapping[str, Any]) -> Metric | ClipMetric:
    """Builds a metric from checked options.

    Raises:
        UserError: if its constructor does not accept the options.
        ComponentError: if a user's own class is no metric.
    """
    cls = METRIC_REGISTRY.get(spec["type"])
    if not issubclass(cls, Metric | ClipMetric):
        raise ComponentError(
            f"metric '{spec['type']}'{place_of(cls, '__init__')} must derive from "
            "srtoolbox.metrics.Metric, or from ClipMetric for clips, and implement score"
        )
    return build("metric", spec)

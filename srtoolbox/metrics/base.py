"""The interfaces of metrics, and the error that is raised when a metric is unavailable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

import torch
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
        takes_mask: Whether ``score`` gets the mask of valid pixels. Other metrics get a result that
            has the values of the ground truth at masked pixels, so it has no error there.
        needs_key: Whether ``score`` gets the name of the image or clip as ``key``.
        needs_gt: Whether a ground truth is needed.
        kind: Words that tell the metric from others of its name in a table; empty: none.
        needs_lq: Whether ``score`` of a ``Metric`` gets the LR image as ``lq``.
        bands: Numbers, from 1, of the bands that ``score`` gets; None: all.
    """

    higher_is_better: bool = True
    unit: str = ""
    digits: int = 4
    paper: str = ""
    takes_mask: bool = False
    needs_key: bool = False
    needs_gt: bool = True
    kind: str = ""
    needs_lq: bool = False
    bands: Sequence[int] | None = None

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

    def fits(self, height: int, width: int, protocol: Protocol) -> bool:
        """Returns whether an image of this size, cropped by the protocol, is large enough."""
        return min(height, width) >= max(1, self.min_size(protocol))

    def size_text(self, protocol: Protocol) -> str:
        """Returns the size that ``fits`` asks for, in pixels: ``"11×11"``."""
        return "×".join([str(max(1, self.min_size(protocol)))] * 2)

    def unsuited(self, channels: int, protocol: Protocol) -> str | None:
        """Returns why images with this number of channels cannot be scored; None if they can."""
        if self.bands is not None and max(self.bands) > channels:
            return f"there is no band {max(self.bands)} in images with {channels}; change its bands"
        number = channels if self.bands is None else len(self.bands)
        if protocol.takes(number):
            return None
        return (
            f"protocol '{protocol.name}' scores grey or RGB images, not {number} bands; choose "
            "protocol: bands (--set val.protocol=bands; `srtoolbox metrics`: --protocol bands)"
        )

    def source(self) -> dict[str, str] | None:
        """Returns ``text`` and ``content`` hash of the weights that the metric uses.

        It is None for a metric without weights, or if they are missing.
        """
        return None

    score: Callable[..., float]  # Metric and ClipMetric have different arguments

    def _value(self, *arguments: Any, **extra: Any) -> float:
        """Calls ``score`` and checks that it returns a number."""
        with calling(self, "score"):
            value: Any = self.score(*arguments, **extra)
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
        self, sr: Tensor, gt: Tensor, mask: Tensor | None, protocol: Protocol, scale: int
    ) -> Matched:
        """Returns result and ground truth of one image with the same shape, and their mask."""
        if len(gt) == 1 and len(sr) == 3:
            sr, gt = protocol.match_grey(sr, gt)
        if sr.shape != gt.shape:
            raise UserError(
                f"{type(self).__name__}: the result has shape {tuple(sr.shape)} but its ground "
                f"truth {tuple(gt.shape)}; crop one of them, or check the scale (x{scale})"
            )
        sr, gt = (self._chosen(image, protocol) for image in (sr, gt))
        if mask is None:
            return Matched(sr, gt, None)
        if mask.dtype != torch.bool or mask.shape != (1, *gt.shape[1:]):
            raise UserError(
                f"{type(self).__name__}: the mask has {mask.dtype} values of shape "
                f"{tuple(mask.shape)}; expected bool of shape {(1, *gt.shape[1:])}"
            )
        mask = mask.to(gt.device)
        scored = protocol.crop(mask, scale)
        if scored.all():  # as without a mask, to the last bit
            return Matched(sr, gt, None)
        if not scored.any():
            raise self._nothing_left("pixel")
        if not self.takes_mask:
            sr = torch.where(mask, sr, gt)
        return Matched(sr, gt, scored)

    def _chosen(self, image: Tensor, protocol: Protocol) -> Tensor:
        """Returns the bands of an image (C, H, W) that are scored."""
        if self.bands is None:
            return image
        if max(self.bands) > len(image):
            raise UserError(f"{type(self).__name__}: {self.unsuited(len(image), protocol)}")
        return image[[band - 1 for band in self.bands]]

    def _nothing_left(self, what: str) -> RunError:
        """Returns the error to raise if the mask leaves nothing to score."""
        return RunError(
            f"{type(self).__name__}: the mask leaves no {what} to score; remove the image, or "
            "leave the metric out"
        )

    def _extra(self, mask: Any, key: str | None) -> dict[str, Any]:
        """Returns the arguments of ``score`` that only some metrics have."""
        extra = {"mask": mask} if self.takes_mask else {}
        return {**extra, "key": key} if self.needs_key else extra


class Matched(NamedTuple):
    """Result and ground truth (C, H, W), and the cropped mask (1, h, w) if it has masked pixels."""

    sr: Tensor
    gt: Tensor
    mask: Tensor | None


class Metric(_Measure):
    """A full-reference metric of images."""

    def __call__(
        self,
        sr: Tensor,
        gt: Tensor,
        *,
        protocol: Protocol,
        scale: int,
        mask: Tensor | None = None,
        key: str | None = None,
        lq: Tensor | None = None,
    ) -> float:
        """Scores one image.

        Args:
            sr: The result (C, H, W), float in [0, 1], on any device.
            gt: The ground truth with the same shape; or with one channel, if the network got a grey
                image as RGB.
            protocol: Rules such as colour space, crop, rounding and peak.
            scale: Super-resolution factor; some protocols crop this many pixels.
            mask: Pixels of the ground truth that count, (1, H, W) bool; None: all.
            key: Name of the image, for metrics with ``needs_key``.
            lq: The LR image (C, h, w), float in [0, 1], for metrics with ``needs_lq``: the frame
                that belongs to the ground truth.

        Raises:
            UserError: if the shapes differ, or if the image is too small for protocol or metric.
            RunError: if the mask leaves nothing to score.
            MetricUnavailable: if the metric cannot be computed on this machine.
        """
        sr, gt, mask = self._match(sr, gt, mask, protocol, scale)
        extra = self._extra(mask, key)
        if self.needs_lq:
            extra["lq"] = self._match_lq(lq, sr, scale)
        return self._value(sr, gt, protocol, scale, **extra)

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        """Returns the value for two images with the same shape. Subclasses implement it.

        With ``takes_mask`` it has one more parameter ``mask``: None if all pixels count, otherwise
        bool (1, h, w), cropped as the protocol crops images. With ``needs_key`` it has a parameter
        ``key``, with ``needs_lq`` a parameter ``lq``: the LR image, with the bands of ``sr``.
        """
        raise NotImplementedError("implement score(sr, gt, protocol, scale)")

    def _match_lq(self, lq: Tensor | None, sr: Tensor, scale: int) -> Tensor:
        """Returns the LR image with the bands of the result, which ``_match`` returned."""
        name = type(self).__name__
        if lq is None:
            raise UserError(
                f"{name}: needs the LR image of each result, which is not known here; leave the "
                "metric out, or evaluate a network (srtoolbox test, train or compare)"
            )
        if self.bands is not None and len(lq) >= max(self.bands):
            lq = lq[[band - 1 for band in self.bands]]
        elif {len(lq), len(sr)} == {1, 3}:  # a grey image that the network got as RGB, or reverse
            lq = lq.mean(0, keepdim=True).expand(len(sr), -1, -1)
        wanted = len(sr), sr.shape[1] // scale, sr.shape[2] // scale
        if tuple(lq.shape) != wanted:
            raise UserError(
                f"{name}: the LR image has shape {tuple(lq.shape)}, but the result needs {wanted}; "
                "it compares the same bands of LR and HR"
            )
        return lq.to(sr.device)


class NoReferenceMetric(_Measure):
    """A metric of images that needs no ground truth."""

    needs_gt = False

    def __call__(
        self,
        sr: Tensor,
        gt: Tensor | None = None,
        *,
        protocol: Protocol,
        scale: int,
        mask: Tensor | None = None,
        key: str | None = None,
    ) -> float:
        """Scores one image.

        Args:
            sr: The result (C, H, W), float in [0, 1], on any device.
            gt: None, or the ground truth as for ``Metric``. Only its number of channels counts,
                and its values at masked pixels for a metric without ``takes_mask``.
            protocol: Rules such as colour space, crop and rounding.
            scale: Super-resolution factor; some protocols crop this many pixels.
            mask: Pixels that count, (1, H, W) bool; None: all. It needs ``gt``.
            key: Name of the image, for metrics with ``needs_key``.

        Raises:
            UserError: if the image is too small for protocol or metric, and as for ``Metric``.
            RunError: if the mask leaves nothing to score.
            MetricUnavailable: if the metric cannot be computed on this machine.
        """
        if gt is None:
            sr, mask = self._chosen(sr, protocol), None
        else:
            sr, _, mask = self._match(sr, gt, mask, protocol, scale)
        return self._value(sr, protocol, scale, **self._extra(mask, key))

    def score(self, sr: Tensor, protocol: Protocol, scale: int) -> float:
        """Returns the value of an image. Subclasses implement it.

        With ``takes_mask`` and ``needs_key`` it has the same parameters as that of ``Metric``.
        """
        raise NotImplementedError("implement score(sr, protocol, scale)")


class ClipMetric(_Measure):
    """A full-reference metric of clips: the mean over all pairs of neighbouring frames."""

    def __call__(
        self,
        sr: Iterable[Tensor],
        gt: Iterable[Tensor],
        *,
        protocol: Protocol,
        scale: int,
        mask: Iterable[Tensor] | None = None,
        key: str | None = None,
    ) -> float:
        """Scores one clip. At most two frames of an iterator are in memory at a time.

        Args:
            sr: The results in temporal order: (T, C, H, W), or an iterable of (C, H, W).
            gt: The ground truth of the same frames; or with one channel, as for ``Metric``.
            protocol: Rules such as colour space, crop, rounding and peak.
            scale: Super-resolution factor; some protocols crop this many pixels.
            mask: Pixels of the ground truth that count: (T, 1, H, W), or an iterable of (1, H, W),
                bool; None: all.
            key: Name of the clip, for metrics with ``needs_key``.

        Raises:
            UserError: if there are fewer than two frames, or if ``sr``, ``gt`` and ``mask`` have
                different numbers of frames; also as for ``Metric``.
            RunError: if the masks leave nothing to score.
            MetricUnavailable: if the metric cannot be computed on this machine.
        """
        values = [
            self._value(
                (previous.sr, previous.gt),
                (current.sr, current.gt),
                protocol,
                scale,
                **self._extra(_both(previous, current, protocol, scale), key),
            )
            for previous, current in pairwise(self._frames(sr, gt, mask, protocol, scale))
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
        """Returns the value for two neighbouring frames, each (sr, gt). Subclasses implement it.

        With ``takes_mask`` it has one more parameter ``mask``: None if all pixels count, otherwise
        the masks of the two frames, each bool (1, h, w), cropped as the protocol crops images. With
        ``needs_key`` it has a parameter ``key``.
        """
        raise NotImplementedError("implement score(previous, current, protocol, scale)")

    def _frames(
        self,
        sr: Iterable[Tensor],
        gt: Iterable[Tensor],
        mask: Iterable[Tensor] | None,
        protocol: Protocol,
        scale: int,
    ) -> Iterator[Matched]:
        if mask is None:
            frames = ((*frame, None) for frame in zip_longest(sr, gt))
        else:
            frames = zip_longest(sr, gt, mask)
        for result, truth, valid in frames:
            if result is None or truth is None or (valid is None and mask is not None):
                raise UserError(
                    f"{type(self).__name__}: results and ground truth of a clip have different "
                    "numbers of frames"
                )
            yield self._match(result, truth, valid, protocol, scale)


def _both(
    previous: Matched, current: Matched, protocol: Protocol, scale: int
) -> tuple[Tensor, Tensor] | None:
    """Returns the masks of two frames; None if neither has masked pixels."""
    if previous.mask is None and current.mask is None:
        return None
    masks = []
    for frame in (previous, current):
        whole = torch.ones_like(frame.gt[:1], dtype=torch.bool)
        masks.append(protocol.crop(whole, scale) if frame.mask is None else frame.mask)
    return masks[0], masks[1]


def check_bands(metric: str, bands: Sequence[int] | None) -> Sequence[int] | None:
    """Returns the option ``bands`` of a metric.

    Raises:
        UserError: unless they are different numbers from 1 on.
    """
    if bands is None:
        return None
    numbers = list(bands)
    if not numbers or min(numbers) < 1 or len({*numbers}) < len(numbers):
        raise UserError(
            f"{metric}: bands {numbers}: expected different numbers, the first band is 1"
        )
    return numbers


def unsuited_colours(metric: _Measure, channels: int) -> str | None:
    """Returns why a metric of grey or RGB images cannot score images with ``channels``; or None."""
    if metric.bands is not None or channels in (1, 3):
        return None
    return f"it scores grey or RGB images, not {channels} bands; set its bands, e.g. [3, 2, 1]"


AnyMetric = Metric | NoReferenceMetric | ClipMetric
"""The type of a metric of any kind."""


def build_metric(spec: Mapping[str, Any]) -> AnyMetric:
    """Builds a metric from checked options.

    Raises:
        UserError: if its constructor does not accept the options.
        ComponentError: if a user's own class is no metric.
    """
    cls = METRIC_REGISTRY.get(spec["type"])
    if not issubclass(cls, AnyMetric):
        raise ComponentError(
            f"metric '{spec['type']}'{place_of(cls, '__init__')} must derive from "
            "srtoolbox.metrics.Metric, from NoReferenceMetric, or from ClipMetric for clips, and "
            "implement score"
        )
    return build("metric", spec)

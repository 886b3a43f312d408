"""Metrics that use the LR image: whether the result agrees with it, and what the result adds to it.

They follow opensr-test: C. Aybar, D. Montero, S. Donike, F. Kalaitzis, L. Gómez-Chova, "A
Comprehensive Benchmark for Optical Remote Sensing Image Super-Resolution", GRSL 2024. Distances,
kernels, γ, temperature and the automatic threshold are those of its program, version 1.

Ours are: the crop of the protocol (opensr-test cuts 16 pixels at each side), masks, float64, and
that each pixel belongs to one of three kinds by default. By default opensr-test uses the softmin,
gives the result the histogram of the ground truth, and shifts it onto the ground truth by phase
correlation. The first two are options here. There is no shift: the files must be registered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from srtoolbox.errors import UserError, check_choice
from srtoolbox.metrics.base import Matched, Metric, check_bands
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.metrics.remote_sensing import spectral_angles
from srtoolbox.metrics.windows import valid_pixels
from srtoolbox.registry import METRIC_REGISTRY

Kernel = Literal["bilinear", "bicubic", "area"]
Share = Literal["percent", "softmin"]

# How far a kernel reaches beyond the sides of an LR pixel, in LR pixels.
_REACH: dict[str, float] = {"area": 0, "bilinear": 0.5, "bicubic": 1.5}
_QUANTILE = 0.75
_GAMMA = 0.05
_TEMPERATURE = 0.25
_EPSILON = 1e-8


class _Consistency(Metric):
    """Compares the LR image with the result, which is down-sampled to its size."""

    higher_is_better = False
    paper = "Aybar et al., GRSL 2024"
    takes_mask = True
    needs_lq = True

    def __init__(self, kernel: Kernel = "bilinear", bands: Sequence[int] | None = None) -> None:
        name = type(self).__name__
        check_choice(f"{name}: kernel", kernel, get_args(Kernel))
        self.kernel = kernel
        self.bands = check_bands(name, bands)

    def _match(
        self, sr: Tensor, gt: Tensor, mask: Tensor | None, protocol: Protocol, scale: int
    ) -> Matched:
        """Returns the mask of the whole image: LR pixels depend on what the protocol crops, too."""
        matched = super()._match(sr, gt, mask, protocol, scale)
        is_whole = mask is None or bool(mask.all())
        return matched._replace(mask=None if is_whole else mask)

    def _compared(
        self, sr: Tensor, protocol: Protocol, scale: int, mask: Tensor | None, lq: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns LR and the down-sampled result (C, h, w) in [0, 1], and the LR mask (1, h, w).

        ``mask`` is that of the whole image.
        """
        high, low = (_whole(image, protocol, scale) for image in (sr, lq))
        size = low.shape[1:]
        if self.kernel == "area":
            small = functional.adaptive_avg_pool2d(high, (size[0], size[1]))
        else:
            small = functional.interpolate(
                high[None], size=tuple(size), mode=self.kernel, antialias=True
            )[0]
        if mask is not None:
            reach = math.ceil(_REACH[self.kernel] * scale)
            invalid = (~mask).to(high.device).double()
            mask = functional.max_pool2d(invalid, scale + 2 * reach, scale, reach) == 0
        border = -(-protocol.border(scale) // scale)
        if min(size) <= 2 * border:
            raise UserError(
                f"{type(self).__name__}: protocol '{protocol.name}' leaves no pixel of an LR image "
                f"of {size[0]}×{size[1]}"
            )
        rows, columns = (slice(border, side - border) for side in size)
        low, small = low[:, rows, columns], small[:, rows, columns]
        mask = None if mask is None else mask[:, rows, columns]
        if mask is not None and not mask.any():
            raise self._nothing_left("LR pixel")
        return low, small, mask


@METRIC_REGISTRY.register()
class ReflectanceConsistency(_Consistency):
    """Mean absolute difference of the LR image and the down-sampled result.

    From 0 (the result has the reflectance of LR) to 1 (the white level); lower is better; no unit.
    ``reflectance`` of opensr-test. The values of HR have no influence, so HR may be from another
    sensor. With a mask, LR pixels count that depend on valid pixels only. Aybar et al., GRSL 2024.

    Args:
        kernel: Kernel that reduces the result: "bilinear" with antialiasing, as in opensr-test;
            "bicubic" with antialiasing, as LR images are made here; "area", the mean.
        bands: Numbers, from 1, of the bands to compare; None: all.

    Raises:
        UserError: if ``kernel`` is unknown, or ``bands`` are not different numbers from 1 on.
    """

    digits = 5

    def score(
        self,
        sr: Tensor,
        gt: Tensor,
        protocol: Protocol,
        scale: int,
        mask: Tensor | None = None,
        *,
        lq: Tensor,
    ) -> float:
        low, small, mask = self._compared(sr, protocol, scale, mask, lq)
        return valid_pixels((low - small).abs(), mask).mean().item()


@METRIC_REGISTRY.register()
class SpectralConsistency(_Consistency):
    """Mean spectral angle between the LR image and the down-sampled result.

    From 0 (the result has the colours of LR) to 90; lower is better; in degrees. ``spectral`` of
    opensr-test. Masks are used as by ``ReflectanceConsistency``; black pixels as by ``SAM``. Aybar
    et al., GRSL 2024.

    Args:
        kernel: Kernel that reduces the result, as of ``ReflectanceConsistency``.
        bands: Numbers, from 1, of the bands that form the spectrum; None: all.

    Raises:
        UserError: if ``kernel`` is unknown, or ``bands`` are not different numbers from 1 on.
    """

    unit = "°"
    digits = 3

    def score(
        self,
        sr: Tensor,
        gt: Tensor,
        protocol: Protocol,
        scale: int,
        mask: Tensor | None = None,
        *,
        lq: Tensor,
    ) -> float:
        low, small, mask = self._compared(sr, protocol, scale, mask, lq)
        return valid_pixels(spectral_angles(low, small), mask).mean().item()


class _Correctness(Metric):
    """Shares of the pixels that are improvements, omissions and hallucinations.

    1. LR is up-sampled bilinearly. With ``match_histogram``, each band of the result gets the
       histogram of the ground truth.
    2. The distance of two pixels is the mean over the bands of |a - b| / (a + b):
       ``ref`` of LR and HR, ``im`` of the result and HR, ``om`` of the result and LR.
    3. Pixels count whose ``ref``, ``im`` or ``om`` is above ``threshold``.
    4. With i = im / ref, o = om / ref, H = i + o - 1 and γ = 0.05, a pixel's distance is
       i + o · (1 - exp(-γ H)) from improvement, o + i · (1 - exp(-γ H)) from omission, and
       exp(-γ i o) from hallucination.
    5. A pixel belongs to the nearest of the three (``"percent"``), or to each of them by the
       softmin of the distances with temperature 0.25 (``"softmin"``).

    The value is NaN if no pixel counts: LR, HR and result are equal.
    """

    paper = "Aybar et al., GRSL 2024"
    takes_mask = True
    needs_lq = True
    _kind: int

    def __init__(
        self,
        share: Share = "percent",
        threshold: float | None = None,
        match_histogram: bool = False,
        bands: Sequence[int] | None = None,
    ) -> None:
        name = type(self).__name__
        check_choice(f"{name}: share", share, get_args(Share))
        if threshold is not None and not 0 <= threshold < 1:
            raise UserError(f"{name}: threshold must be at least 0 and below 1, got {threshold:g}")
        self.share = share
        self.threshold = threshold
        self.match_histogram = match_histogram
        self.bands = check_bands(name, bands)

    def score(
        self,
        sr: Tensor,
        gt: Tensor,
        protocol: Protocol,
        scale: int,
        mask: Tensor | None = None,
        *,
        lq: Tensor,
    ) -> float:
        low = _whole(lq, protocol, scale)
        low = functional.interpolate(low[None], size=tuple(gt.shape[1:]), mode="bilinear")[0]
        result, truth = (protocol.prepare_spectrum(image, scale) / 255 for image in (sr, gt))
        images = (result, truth, protocol.crop(low, scale))
        result, truth, low = (valid_pixels(image, mask).flatten(1) for image in images)
        if self.match_histogram:
            result = _with_histogram(result, truth)
        ref, im, om = _distance(low, truth), _distance(result, truth), _distance(result, low)
        threshold = self.threshold
        if threshold is None:
            threshold = ref.kthvalue(max(1, int(_QUANTILE * ref.numel()))).values
        counts = (ref > threshold) | (im > threshold) | (om > threshold)
        if not counts.any():
            return math.nan
        # Where LR equals HR, a result that differs is infinitely far from both: a hallucination.
        i, o = im[counts] / ref[counts], om[counts] / ref[counts]
        rest = 1 - torch.exp(-_GAMMA * (i + o - 1))
        distances = torch.stack([i + o * rest, o + i * rest, torch.exp(-_GAMMA * i * o)])
        if self.share == "percent":
            return (distances.argmin(0) == self._kind).double().mean().item()
        return torch.softmax(-distances / _TEMPERATURE, 0)[self._kind].mean().item()


@METRIC_REGISTRY.register()
class Improvement(_Correctness):
    """Share of the changed pixels whose values come close to the ground truth.

    From 0 to 1; higher is better; no unit. ``im_metric`` of opensr-test: a pixel is an improvement
    (close to HR), an omission (close to up-sampled LR) or a hallucination (close to neither); the
    three shares add up to 1. The result equal to HR has 1. Aybar et al., GRSL 2024.

    Args:
        share: "percent": each pixel belongs to one of the three; "softmin": to all of them by
            weights, the default of opensr-test, where a perfect result has 0.965.
        threshold: Distance |a - b| / (a + b) from which a pixel counts; None: the 75 % quantile of
            the distances of LR to HR.
        match_histogram: Give each band of the result the histogram of HR first, as opensr-test
            does, so that errors of brightness and contrast do not count. Of use where HR is from
            another sensor; an interpolated image gets more contrast by it.
        bands: Numbers, from 1, of the bands to compare; None: all.

    Raises:
        UserError: if an option is out of its range.
    """

    _kind = 0


@METRIC_REGISTRY.register()
class Omission(_Correctness):
    """Share of the changed pixels whose values stay close to the up-sampled LR image.

    From 0 to 1; lower is better; no unit. ``om_metric`` of opensr-test; see ``Improvement``.
    Interpolation has a value close to 1. Aybar et al., GRSL 2024.

    Args:
        share: As of ``Improvement``.
        threshold: As of ``Improvement``.
        match_histogram: As of ``Improvement``.
        bands: Numbers, from 1, of the bands to compare; None: all.

    Raises:
        UserError: if an option is out of its range.
    """

    higher_is_better = False
    _kind = 1


@METRIC_REGISTRY.register()
class Hallucination(_Correctness):
    """Share of the changed pixels whose values are neither those of HR nor those of LR.

    From 0 to 1; lower is better; no unit. ``ha_metric`` of opensr-test; see ``Improvement``. A
    result with random detail has a value close to 1. Aybar et al., GRSL 2024.

    Args:
        share: As of ``Improvement``.
        threshold: As of ``Improvement``.
        match_histogram: As of ``Improvement``.
        bands: Numbers, from 1, of the bands to compare; None: all.

    Raises:
        UserError: if an option is out of its range.
    """

    higher_is_better = False
    _kind = 2


def _whole(image: Tensor, protocol: Protocol, scale: int) -> Tensor:
    """Returns all pixels of an image, clamped and rounded by the protocol, in [0, 1]."""
    return replace(protocol, crop_border=0).prepare_spectrum(image, scale) / 255


def _distance(x: Tensor, y: Tensor) -> Tensor:
    """Returns the distance of the pixels (C, n) of two images: (n)."""
    return ((x - y).abs() / (x + y + _EPSILON)).mean(0)


def _with_histogram(image: Tensor, reference: Tensor) -> Tensor:
    """Returns the pixels (C, n) of an image with the histogram of another one, band by band."""
    from skimage.exposure import match_histograms

    pairs = zip(image.cpu().numpy(), reference.cpu().numpy(), strict=True)
    matched = np.stack([match_histograms(band, wanted) for band, wanted in pairs])
    return torch.from_numpy(matched).to(image)

"""Finds the places where one scene of a clip ends and another begins.

Two frames are compared by the histograms of their luma, which does not change when things move, and
by the mean absolute difference of their luma, which does not change when a few values become many.
Only if both differ, the frames show different scenes. What lasts longer than a cut is none: frames
on both sides are compared too, so that a flash, fast motion, noise or a fade is not taken for one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from srtoolbox.media.picture import as_type

AUTO = 0.12
"""Smallest difference of two frames at a cut; see ``difference``."""

REACH = 2
"""Frames before and after the two frames at a cut that are looked at."""

_STANDS_OUT = 2.0  # factor over the differences just before and after it
_SIDE = 48  # length in pixels of the longer side of the small picture
_BINS = 32  # of the histogram of luma
_SMOOTHING = np.array([1, 2, 3, 2, 1], np.float32) / 9
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Look:
    """A frame as the detector keeps it, about 10 kB.

    Args:
        small: Luma (h, w) in [0, 1], at most 48 pixels on a side.
        histogram: Shares of the pixels by luma, smoothed; the sum is at most 1.
    """

    small: np.ndarray
    histogram: np.ndarray


def look_of(pixels: np.ndarray) -> Look:
    """Returns the look of a frame (C, H, W): uint8, uint16, or float32 in [0, 1]."""
    height, width = pixels.shape[1:]
    factor = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in pixels]
    values = as_type(np.stack(planes), np.float32)
    small = np.tensordot(_LUMA, values, 1) if len(values) == 3 else values.mean(0)
    counts = np.histogram(small.clip(0, 1), _BINS, (0, 1))[0].astype(np.float32)
    return Look(small, np.convolve(counts / small.size, _SMOOTHING, "same"))


def difference(first: Look, second: Look) -> float:
    """Returns how different two frames are, from 0 to 1.

    It is the geometric mean of the share of pixels by which the histograms differ, and of the mean
    absolute difference of luma. Pictures of different scenes have 0.1 to 0.6.
    """
    if first.small.shape != second.small.shape:
        return 1.0
    share = float(np.abs(first.histogram - second.histogram).sum()) / 2
    return math.sqrt(min(1.0, share) * float(np.abs(first.small - second.small).mean()))


def is_cut(looks: Mapping[int, Look], index: int, threshold: float) -> bool:
    """Returns whether a scene ends with frame ``index`` and another begins with the next.

    The frames differ by at least ``threshold``, and at least twice as much as each of them from its
    other neighbour. Frames on both sides of what could be a flash of up to ``REACH`` frames differ
    by ``threshold``, too.

    Args:
        looks: Looks by index, of frames ``index - REACH`` to ``index + 1 + REACH``; those before
            the first and after the last frame of the clip are missing.
        index: The frame; it and the next one are there.
        threshold: Smallest difference.
    """

    def between(before: int, after: int) -> float | None:
        if before not in looks or after not in looks:
            return None
        return difference(looks[before], looks[after])

    own = difference(looks[index], looks[index + 1])
    if own < threshold:
        return False
    steps = range(1, REACH + 1)
    across = [between(index - step, index + 1) for step in steps]
    across += [between(index, index + 1 + step) for step in steps]
    if any(value is not None and value < threshold for value in across):
        return False
    beside = [between(index - 1, index), between(index + 1, index + 2)]
    return all(value is None or own >= _STANDS_OUT * value for value in beside)

"""Finds the missing pixels of an image, and fills them from their neighbours."""

from __future__ import annotations

import math

import numpy as np

FILL_RADIUS = 16
"""Missing pixels up to this distance from known ones are filled from their neighbours."""


def known_pixels(pixels: np.ndarray, nodata: float | None) -> np.ndarray:
    """Returns which values are known, as bool of the same shape.

    Args:
        pixels: Integers or floats. Floats that are not finite are never known.
        nodata: The value of missing pixels; None: there is no such value.
    """
    if pixels.dtype.kind == "f":
        known = np.isfinite(pixels)
        if nodata is not None and math.isfinite(nodata):
            with np.errstate(over="ignore"):
                known &= pixels != pixels.dtype.type(nodata)
        return known
    limits = np.iinfo(pixels.dtype)
    if nodata is None or not limits.min <= nodata <= limits.max or nodata != int(nodata):
        return np.ones(pixels.shape, bool)
    return pixels != pixels.dtype.type(int(nodata))


def fill_missing(pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fills unknown pixels as ``fill_near``, in the type of the pixels; distant ones become 0.

    Args:
        pixels: (C, H, W) integers of up to 16 bits, or float32.
        known: (C, H, W), True for pixels that are kept.

    Returns:
        (C, H, W): ``pixels`` itself if all are known, otherwise a new array.
    """
    if known.all():
        return pixels
    filled = fill_near(np.where(known, pixels, 0).astype(np.float32), known, beyond=0)
    if pixels.dtype.kind != "f":
        filled = np.floor(filled + np.float32(0.5))
    return np.where(known, pixels, filled.astype(pixels.dtype))


def fill_near(
    values: np.ndarray, known: np.ndarray, radius: int = FILL_RADIUS, beyond: float = 0.5
) -> np.ndarray:
    """Fills unknown pixels by the mean of their 8 neighbours, ``radius`` times, the nearest first.

    A result depends on pixels within ``radius`` only, so that it is the same in every window.

    Args:
        values: (C, H, W) float32.
        known: (C, H, W), True for pixels that are kept.
        radius: Largest distance of a pixel that is filled.
        beyond: Value of pixels that are further away.
    """
    if known.all():
        return values
    values, known = values * known, known.copy()
    for _ in range(radius):
        sums, counts = _neighbours(values), _neighbours(known.astype(np.float32))
        fresh = ~known & (counts > 0)
        if not fresh.any():
            break
        values[fresh] = sums[fresh] / counts[fresh]
        known |= fresh
    values[~known] = beyond
    return values


def _neighbours(planes: np.ndarray) -> np.ndarray:
    """Returns the sums of 3 × 3 pixels, always added in the same order."""
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)))
    lines = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return lines[:, :, :-2] + lines[:, :, 1:-1] + lines[:, :, 2:]

"""Missing pixels are found in every type, and filled in the type of the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from srtoolbox.data.transforms.missing import FILL_RADIUS, fill_missing, known_pixels


@pytest.mark.parametrize(
    ("dtype", "nodata", "missing"),
    [
        ("uint8", 0, [0]),
        ("uint8", -9999, []),
        ("uint8", 0.5, []),
        ("uint16", float("nan"), []),
        ("int16", -32768, [-32768]),
        ("float32", -9999, [-9999, np.nan, np.inf]),
        ("float32", None, [np.nan, -np.inf]),
        ("float32", float("nan"), [np.nan]),
        ("float32", 1e300, [np.nan]),
    ],
)
def test_known_pixels(dtype: str, nodata: float | None, missing: list[float]) -> None:
    pixels = np.array([[[1, 2, 3, *missing]]], dtype)
    assert known_pixels(pixels, nodata).ravel().tolist() == [True] * 3 + [False] * len(missing)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_filling(dtype: str) -> None:
    top = 60000 if dtype == "uint16" else 200
    pixels = np.full((2, 60, 60), top, dtype)
    known = np.ones(pixels.shape, bool)
    known[0, 5:55, 5:55] = False
    pixels[~known] = 7
    before = pixels.copy()
    filled = fill_missing(pixels, known)
    assert filled.dtype == dtype and np.array_equal(pixels, before)
    distance = np.minimum.reduce([*np.mgrid[:60, :60] - 4, *55 - np.mgrid[:60, :60]])
    assert np.array_equal(filled[0], np.where(distance > FILL_RADIUS, 0, top))
    assert np.array_equal(filled[1], pixels[1])


def test_what_is_missing_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    pixels, known = rng.random((1, 30, 30), np.float32), rng.random((1, 30, 30)) < 0.6
    other = np.where(known, pixels, np.where(rng.random(pixels.shape) < 0.5, np.nan, 1e30))
    other = other.astype(np.float32)
    assert np.array_equal(fill_missing(pixels, known), fill_missing(other, known))
    assert fill_missing(pixels, np.ones_like(known)) is pixels

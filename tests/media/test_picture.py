"""Tests ``srtoolbox.media.picture``."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from srtoolbox.errors import UserError
from srtoolbox.media.picture import Picture, as_type, fill_colours, resize_to, with_alpha


def double(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, axis=1).repeat(2, axis=2)


def smooth_double(pixels: np.ndarray) -> np.ndarray:
    """Doubles float32 by Pillow's bicubic; the result is as a network's, float and not rounded."""
    height, width = pixels.shape[1:]
    planes = [
        Image.fromarray(plane).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
        for plane in as_type(pixels, np.float32)
    ]
    return np.stack([np.asarray(plane) for plane in planes])


def test_bit_depths_are_rounded() -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256)
    assert np.array_equal(as_type(deep, np.uint8), np.floor(deep / 257 + 0.5))
    assert np.array_equal(as_type(as_type(deep, np.float32), np.uint16), deep)
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    for dtype in (np.uint16, np.float32):
        assert np.array_equal(as_type(as_type(every, dtype), np.uint8), every)
    odd = np.array([[[-1, 2, np.nan, np.inf, 0.5 / 255, 0.499 / 255]]], np.float32)
    assert as_type(odd, np.uint8).ravel().tolist() == [0, 255, 0, 255, 1, 0]
    with pytest.raises(UserError, match="pixels: type"):
        as_type(every, np.int32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_edges_are_not_darkened(dtype: type) -> None:
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    known = np.zeros((20, 20), bool)
    known[5:12, 3:15] = True
    pixels = (np.array([0.8, 0.5, 0.2])[:, None, None] * known * top).astype(dtype)
    given = Picture(pixels, (known[None] * top).astype(dtype))
    plain = as_type(smooth_double(pixels), dtype)
    found = with_alpha(given, smooth_double)
    assert found.pixels.dtype == found.alpha.dtype == dtype
    assert found.pixels.shape == (3, 40, 40)
    visible = found.alpha[0] > 0
    colour = pixels[:, 5, 3][:, None].astype(float)
    assert abs(found.pixels[:, visible] - colour).max() <= top * 1e-5 + (top > 1)
    assert abs(plain[:, visible] - colour).max() > 0.2 * top  # without the filling


def test_modes_of_alpha() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (3, 6, 8), dtype=np.uint8)
    alpha = generator.integers(0, 256, (1, 6, 8), dtype=np.uint8)
    given = Picture(pixels, alpha)
    assert np.array_equal(with_alpha(given, double).alpha, double(alpha))
    assert with_alpha(given, double, "drop").alpha is None
    bicubic = with_alpha(given, double, "bicubic").alpha
    expected = as_type(smooth_double(alpha).clip(0, 1), np.uint8)
    assert np.array_equal(bicubic, expected)
    with pytest.raises(UserError, match="alpha must be"):
        with_alpha(given, double, "other")  # type: ignore[arg-type]


def test_identity_keeps_colours_under_transparency() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 65536, (3, 9, 8), dtype=np.uint16)
    alpha = generator.integers(0, 2, (1, 9, 8), dtype=np.uint16) * np.uint16(65535)
    found = with_alpha(Picture(pixels, alpha), lambda planes: planes)
    assert np.array_equal(found.pixels, pixels)
    assert np.array_equal(found.alpha, alpha)


def test_a_matte_of_one_value_is_not_transformed() -> None:
    calls = []

    def transform(pixels: np.ndarray) -> np.ndarray:
        calls.append(pixels)
        return double(pixels)

    alpha = np.full((1, 4, 4), 255, np.uint8)
    found = with_alpha(Picture(np.zeros((3, 4, 4), np.uint8), alpha), transform)
    assert len(calls) == 1
    assert found.alpha.shape == (1, 8, 8)
    assert found.alpha.min() == 255


def test_filling_is_smooth_and_keeps_known_pixels() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 65536, (3, 37, 53), dtype=np.uint16)
    known = generator.random((37, 53)) > 0.9
    known[:20, :30] = False
    filled = fill_colours(pixels, known)
    assert np.array_equal(filled[:, known], pixels[:, known])
    for shape in ((40, 51), (1, 7), (33, 2)):
        known = np.zeros(shape, bool)
        known[0, 1] = True
        flat = np.where(known, 200, 0).astype(np.uint8)[None]
        assert (fill_colours(flat, known) == 200).all()
    nothing = np.zeros(shape, bool)
    assert np.array_equal(fill_colours(flat, nothing), flat)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_sizes(dtype: type) -> None:
    generator = np.random.default_rng(0)
    pixels = as_type(generator.random((3, 12, 18), dtype=np.float32), dtype)
    half = resize_to(pixels, 9, 6)
    means = pixels.astype(np.float64).reshape(3, 6, 2, 9, 2).mean((2, 4))
    assert abs(half - means).max() <= (1e-6 if dtype == np.float32 else 0.51)
    mixed = resize_to(pixels, 36, 5)
    assert mixed.shape == (3, 5, 36)
    assert mixed.dtype == dtype
    assert resize_to(pixels, 18, 12) is pixels
    flat = np.full((1, 5, 5), pixels.max(), dtype)
    assert np.allclose(resize_to(flat, 13, 11), flat.flat[0])
    with pytest.raises(UserError, match="at least 1×1"):
        resize_to(pixels, 0, 3)

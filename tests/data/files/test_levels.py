"""Levels turn stored values into [0, 1] and back, for all bands or for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.levels import Levels, check_levels
from srtoolbox.data.files.windows import open_image
from srtoolbox.errors import UserError


def test_one_level_for_all() -> None:
    pixels = np.array([[[0, 100, 4095, 65535]]], np.uint16)
    wanted = ((pixels.astype(np.float32) - 100) / np.float32(3995)).clip(0, 1)
    levels = Levels(4095, 100)
    assert np.array_equal(levels.apply(pixels), wanted)
    assert levels.apply(pixels).dtype == np.float32
    assert levels.invert(levels.apply(pixels), "uint16").tolist() == [[[100, 100, 4095, 4095]]]


def test_a_level_for_each_band() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(-1000, 10000, (2, 4, 6, 5)).astype(np.int16)
    white, black = [9000, 10000.0, 11000, 12000], [-1000, 0, -500, 3]
    levels = Levels(white, black)
    result = levels.apply(pixels)
    for band in range(4):
        alone = Levels(white[band], black[band]).apply(pixels[:, band : band + 1])
        assert np.array_equal(result[:, band : band + 1], alone)
    assert result.min() == 0 and result.max() == 1
    inside = pixels.clip(np.array(black)[:, None, None], np.array(white)[:, None, None])
    assert np.array_equal(levels.invert(result, np.int16), inside)
    with pytest.raises(UserError, match="4 numbers for 3 bands"):
        levels.apply(pixels[:, :3])


def test_types() -> None:
    levels = Levels(1000)
    for dtype in (np.uint8, np.float32):
        pixels = np.ones((1, 2, 2), dtype)
        assert levels.apply(pixels) is pixels
    pixels = np.full((1, 2, 2), 2500, np.float32)
    scaled = Levels(10000, scale_floats=True)
    assert scaled.apply(pixels).ravel().tolist() == [0.25] * 4
    assert scaled.invert(scaled.apply(pixels), "float32").ravel().tolist() == [2500] * 4
    plain = Levels()
    assert plain.apply(pixels) is pixels and not plain.changed
    half = np.full((1, 1, 1), 0.5, np.float32)
    stored = {dtype: plain.invert(half, dtype).item() for dtype in ("uint8", "uint16", "int16")}
    assert stored == {"uint8": 128, "uint16": 32768, "int16": 16384}
    assert plain.invert(half, "float32").item() == 0.5
    assert Levels(None, -100).apply(np.full((1, 1, 1), 32767, np.int16)).item() == 1


@pytest.mark.parametrize(
    "options",
    [
        {"white_level": 0},
        {"white_level": 70000},
        {"white_level": [10, 20], "black_level": [5, 20]},
        {"white_level": [10, 20], "black_level": [5, 6, 7]},
        {"white_level": []},
        {"white_level": float("nan")},
        {"white_level": 1, "black_level": 2, "scale_floats": True},
    ],
)
def test_levels_that_contradict(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"white_level .* and black_level .*: expected"):
        Levels(**options)


@pytest.mark.parametrize(("dtype", "percent"), [("uint16", "6.2%"), ("int16", "12.5%")])
@pytest.mark.parametrize("large", [1, 2**30], ids=["windows", "whole"])
def test_dark_files(tmp_path: Path, dtype: str, percent: str, large: int) -> None:
    options = ReadOptions(channels=4, nodata=-1, any_range=True)
    pixels = np.zeros((600, 700, 4), dtype)
    pixels[300, 350] = 4095
    path, kind = tmp_path / "a.tif", {"photometric": "minisblack", "planarconfig": "contig"}
    for value in (4095, 30000, 0):
        pixels[pixels > 0] = value
        tifffile.imwrite(path, pixels, tile=(128, 128), **kind)
        warning = check_levels([path], lambda path: open_image(path, options, large), "x", options)
        assert (warning is not None) == (value == 4095)
        if warning:
            assert f"x: {dtype} pixels of at most 4095, {percent} of their range" in warning

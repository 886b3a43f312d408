"""Reads with rasterio what other decoders cannot read, and says so where it is not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.reader import image_info, read_image
from srtoolbox.errors import UserError

rasterio = pytest.importorskip("rasterio", reason='needs rasterio: pip install "srtoolbox[geo]"')

RNG = np.random.default_rng(0)
TILED = {"tiled": True, "blockxsize": 32, "blockysize": 16}


def write(path: Path, planes: np.ndarray, driver: str = "GTiff", **options: Any) -> Path:
    count, height, width = planes.shape
    form = {"count": count, "height": height, "width": width, "dtype": planes.dtype.name}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(path, "w", driver=driver, **form, **options) as target,
    ):
        target.write(planes)
    return path


def smooth(count: int, dtype: str, largest: int) -> np.ndarray:
    """Values (C, 50, 70) that lossy methods keep roughly."""
    y, x = np.mgrid[:50, :70]
    planes = np.stack([(np.sin(y / 9 + c) + np.cos(x / 11) + 2) / 4 for c in range(count)])
    return (planes * largest).astype(dtype)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("tiles", [{}, TILED], ids=["strips", "tiles"])
@pytest.mark.parametrize(
    ("count", "dtype", "options"),
    [
        (4, "uint8", {"compress": "lzw"}),
        (4, "uint16", {"compress": "lzw", "predictor": 2}),
        (13, "uint16", {"compress": "zstd"}),
        (8, "int16", {"compress": "deflate", "predictor": 2}),
        (2, "float32", {"compress": "deflate", "predictor": 3}),
        (3, "float64", {"compress": "lzw"}),
        (1, "float32", {"compress": "deflate", "predictor": 3}),
        (3, "uint8", {"compress": "lzw", "photometric": "minisblack"}),
    ],
)
def test_compressed_tiff(
    tmp_path: Path, interleave: str, tiles: dict, count: int, dtype: str, options: dict
) -> None:
    planes = RNG.random((count, 50, 70)).astype(dtype)
    if planes.dtype.kind != "f":
        planes = RNG.integers(0, 200, planes.shape, dtype)
    path = write(tmp_path / "a.tif", planes, interleave=interleave, **tiles, **options)
    read = read_image(path, ReadOptions(channels=count, any_range=True))
    assert np.array_equal(read, planes.astype(read.dtype)) and read.dtype != "float64"
    if count > 1:
        chosen = read_image(path, ReadOptions(bands=(2, 1), any_range=True))
        assert np.array_equal(chosen, read[1::-1])


def test_tiff_of_jpeg_tiles(tmp_path: Path) -> None:
    planes = smooth(4, "uint8", 255)
    path = write(tmp_path / "a.tif", planes, compress="jpeg", jpeg_quality=95, **TILED)
    read = read_image(path, ReadOptions(channels=4))
    assert np.abs(read.astype(int) - planes).max() < 8


@pytest.mark.parametrize(
    ("count", "dtype", "bits"),
    [
        (1, "uint8", 8),
        (4, "uint8", 8),
        (1, "uint16", 12),
        (1, "uint16", 15),
        (2, "uint16", 9),
        (3, "uint16", 10),
        (4, "uint16", 15),
        pytest.param(13, "uint16", 16, marks=pytest.mark.slow),
        (3, "int16", 16),
        (3, "uint8", 8),
    ],
)
def test_jpeg_2000(tmp_path: Path, count: int, dtype: str, bits: int) -> None:
    low = -300 if dtype == "int16" else 0
    planes = RNG.integers(low, 2 ** min(bits, 15), (count, 50, 70)).astype(dtype)
    options = {"QUALITY": "100", "REVERSIBLE": "YES"} | ({"NBITS": bits} if bits % 8 else {})
    path = write(tmp_path / "a.jp2", planes, "JP2OpenJPEG", **options)
    options = ReadOptions(channels=count, any_range=dtype == "int16")
    read = read_image(path, options)
    assert read.dtype == dtype and np.array_equal(read, planes)
    assert image_info(path, options)[:4] == (*planes.shape, dtype)
    if dtype == "uint16" and count in (1, 3):  # also without the options
        assert np.array_equal(read_image(path), planes)


def test_without_rasterio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planes = smooth(4, "uint16", 4095)
    tiff = write(tmp_path / "a.tif", planes, compress="lzw")
    jp2 = write(tmp_path / "a.jp2", planes, "JP2OpenJPEG")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    for path, words in ((tiff, "compressed by LZW"), (jp2, "JPEG 2000 with 4 bands of uint16")):
        for read in (image_info, read_image):
            with pytest.raises(UserError, match=rf"{words}.*pip install \"srtoolbox\[geo\]\"$"):
                read(path, ReadOptions(channels=4))
        with pytest.raises(UserError, match="4 channels; expected 1"):  # nobody needs it here
            image_info(path)


@pytest.mark.parametrize("name", ["a.tif", "a.jp2"])
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    driver = "GTiff" if name == "a.tif" else "JP2OpenJPEG"
    options = {"compress": "lzw"} if name == "a.tif" else {"QUALITY": "100", "REVERSIBLE": "YES"}
    planes = RNG.integers(0, 4095, (4, 50, 70)).astype("uint16")
    path = write(tmp_path / name, planes, driver, **options)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)
    path.write_bytes(content)
    try:
        read_image(path, ReadOptions(channels=4))
    except UserError as error:
        assert name in str(error) and "\n" not in str(error)
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(UserError, match=rf"{name}: truncated") as info:
        read_image(path, ReadOptions(channels=4))
    assert "\n" not in str(info.value)

"""Windows and strips of large images have the values of the whole image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from srtoolbox.data.files import other_formats, tiff, windows
from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.files.windows import WindowedImage, open_image

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 150, 131


def noise(count: int, dtype: str) -> np.ndarray:
    """(H, W, C) with clouds of missing pixels: −9999, or 0 of unsigned integers."""
    pixels = RNG.random((HEIGHT, WIDTH, count))
    if np.dtype(dtype).kind != "f":
        pixels = 1 + pixels * 200
    missing = cv2.GaussianBlur(RNG.random((HEIGHT, WIDTH)), (0, 0), 5)
    pixels[missing > np.quantile(missing, 0.7)] = 0 if np.dtype(dtype).kind == "u" else -9999
    pixels[40:130, 50:125, 0] = 0 if np.dtype(dtype).kind == "u" else -9999  # wider than filling
    return pixels.astype(dtype)


def saved(path: Path, form: str, pixels: np.ndarray) -> None:
    """Writes the pixels (H, W, C) in one of the forms that are read by windows."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    if form.startswith(("strips", "tiles", "piece")):
        layout, _, order = form.partition(", ")
        options = {"rowsperstrip": 7} if layout.startswith("strips") else {}
        options |= {"tile": (32, 48)} if layout.startswith("tiles") else {}
        options |= {"compression": "zlib"} if "deflate" in layout else {}
        planar = {"planarconfig": order or "contig"} if pixels.shape[2] > 1 else {}
        pixels = planes if order == "separate" else pixels
        tifffile.imwrite(path, pixels.squeeze(), photometric="minisblack", **planar, **options)
        return
    rasterio = pytest.importorskip("rasterio", reason="needs the extra geo")
    count, height, width = planes.shape
    kind = {"count": count, "height": height, "width": width, "dtype": planes.dtype.name}
    options = {
        "lzw": {"compress": "lzw", "tiled": True, "blockxsize": 32, "blockysize": 48},
        "planar lzw": {"compress": "lzw", "interleave": "band"},
        "jpeg": {"compress": "jpeg", "tiled": True, "blockxsize": 32, "blockysize": 48},
        "jp2": {"driver": "JP2OpenJPEG", "BLOCKXSIZE": 64, "BLOCKYSIZE": 64},
        "reversible jp2": {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"},
    }[form]
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(path, "w", **kind, **options) as target,
    ):
        target.write(planes)


FORMS = [
    ("piece", 3, "uint8"),
    ("piece, separate", 4, "float64"),
    ("strips", 4, "int16"),
    ("strips deflate", 1, "uint16"),
    ("strips deflate, separate", 5, "float32"),
    ("tiles", 13, "uint16"),
    ("tiles deflate", 3, "uint16"),
    ("tiles, separate", 4, "float32"),
    ("lzw", 3, "uint8"),
    ("lzw", 4, "int16"),
    ("planar lzw", 3, "uint16"),
    ("jpeg", 4, "uint8"),
    pytest.param("jp2", 4, "uint16", marks=pytest.mark.slow),
    ("reversible jp2", 1, "uint16"),
    ("jp2", 3, "uint8"),
]


@pytest.fixture(autouse=True)
def small_files_have_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tiff, other_formats):
        monkeypatch.setattr(module, "_MIN_WINDOWED", 1)


def opened(path: Path, options: ReadOptions) -> WindowedImage:
    image = open_image(path, options, large=1)
    assert isinstance(image, WindowedImage)
    return image


@pytest.mark.parametrize(("form", "count", "dtype"), FORMS)
@pytest.mark.parametrize("nodata", [False, True], ids=["plain", "nodata"])
def test_windows_and_strips(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    count: int,
    dtype: str,
    nodata: bool,
) -> None:
    path = tmp_path / ("a.jp2" if "jp2" in form else "a.tif")
    saved(path, form, noise(count, dtype))
    value = None if not nodata else (0.0 if dtype.startswith("uint") else -9999.0)
    bands = None if count < 5 else (5, 1, 4)
    channels = count if bands is None else None
    options = ReadOptions(channels=channels, bands=bands, nodata=value, any_range=True)
    whole, image = read_image(path, options), opened(path, options)
    assert image.shape == whole.shape and image.dtype == whole.dtype and image.ndim == 3
    assert len(image) == len(whole) and np.array_equal(np.asarray(image), whole)
    if nodata and form != "jpeg":
        assert 0 < whole[-1].mean() < 1
    keys = [np.s_[:, 0:1, 0:1], np.s_[:, -9:, -9:], np.s_[:, 60:61], np.s_[0], np.s_[..., 5:50]]
    keys += [np.s_[-1, 3, 4], np.s_[:, 90:20:-7, ::3], np.s_[:, 7:7], np.s_[1:0, 2:9, 2:9]]
    for _ in range(12):
        y, x = RNG.integers(0, HEIGHT - 1), RNG.integers(0, WIDTH - 1)
        keys.append(np.s_[:, y : y + RNG.integers(1, 60), x : x + RNG.integers(1, 60)])
    for key in keys:
        window = image[key]
        assert window.dtype == whole.dtype
        assert np.array_equal(window, whole[key]), key
    for size in (20 * WIDTH * count * whole.itemsize, 2**25):
        monkeypatch.setattr(windows, "_STRIP", size)
        tops, strips = zip(*image.strips(), strict=True)
        assert np.array_equal(np.concatenate(strips, axis=1), whole)
        assert list(tops) == [0, *np.cumsum([strip.shape[1] for strip in strips])[:-1]]


def test_other_indices(tmp_path: Path) -> None:
    saved(tmp_path / "a.tif", "strips", noise(3, "uint8"))
    image = opened(tmp_path / "a.tif", ReadOptions(channels=3))
    for key in (None, [0, 1], np.s_[0, 0, 0, 0], np.zeros(3, bool)):
        with pytest.raises(TypeError, match="integers and slices"):
            image[key]
    with pytest.raises(IndexError):
        image[3]


def save_turned(path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(3, "uint8")).save(path, exif=exif)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.png", lambda path: Image.fromarray(noise(3, "uint8")).save(path)),
        ("turned.tif", save_turned),
        ("a.npy", lambda path: np.save(path, noise(3, "uint8"))),
    ],
)
def test_others_are_read_whole(tmp_path: Path, name: str, save: Callable[[Path], None]) -> None:
    save(tmp_path / name)
    read = open_image(tmp_path / name, large=1)
    assert isinstance(read, np.ndarray) and np.array_equal(read, read_image(tmp_path / name))


def test_small_files_and_large_pieces_are_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "a.tif", "tiles deflate", noise(3, "uint8"))
    assert isinstance(open_image(tmp_path / "a.tif"), np.ndarray)
    monkeypatch.setattr(tiff, "_MAX_SEGMENT", 100)
    assert isinstance(open_image(tmp_path / "a.tif", large=1), np.ndarray)

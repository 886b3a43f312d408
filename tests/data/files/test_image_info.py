"""Reads any number of bands and every depth, chooses bands, and names what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from srtoolbox.data.files.image_info import ImageInfo, ReadOptions
from srtoolbox.data.files.reader import as_mask, image_info, read_image
from srtoolbox.errors import UserError

RNG = np.random.default_rng(0)


def noise(count: int, dtype: str, height: int = 21, width: int = 34) -> np.ndarray:
    """Values (C, H, W) over the whole range of integers, in [0, 1] of floats."""
    if np.dtype(dtype).kind == "f":
        return RNG.random((count, height, width)).astype(dtype)
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, (count, height, width), dtype, endpoint=True)


def save(path: Path, planes: np.ndarray, separate: bool = False, **options: Any) -> Path:
    """Writes (C, H, W) as a TIFF file, interleaved or with one plane after the other."""
    pixels = planes if separate else np.ascontiguousarray(planes.transpose(1, 2, 0))
    planar = {"planarconfig": "separate"} if separate else {"planarconfig": "contig"}
    if len(planes) == 1:
        pixels, planar = planes[0], {}
    tifffile.imwrite(path, pixels, photometric="minisblack", **planar, **options)
    return path


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 13])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("separate", [False, True], ids=["interleaved", "planar"])
def test_tiff_of_any_bands(tmp_path: Path, count: int, dtype: str, separate: bool) -> None:
    planes = noise(count, dtype)
    save(tmp_path / "a.tif", planes, separate, compression="zlib" if count == 8 else None)
    options = ReadOptions(channels=count, any_range=dtype == "int16")
    read = read_image(tmp_path / "a.tif", options)
    wanted = planes.astype("float32") if dtype == "float64" else planes
    assert read.dtype == wanted.dtype and np.array_equal(read, wanted)
    assert image_info(tmp_path / "a.tif", options) == ImageInfo(*wanted.shape, wanted.dtype.name)
    chosen = tuple(range(count, 0, -2))
    options = ReadOptions(bands=chosen, any_range=True)
    read = read_image(tmp_path / "a.tif", options)
    assert np.array_equal(read, wanted[[number - 1 for number in chosen]])
    assert image_info(tmp_path / "a.tif", options).channels == len(chosen)


def test_npy_and_png_of_other_bands(tmp_path: Path) -> None:
    planes = noise(5, "uint16")
    np.save(tmp_path / "a.npy", planes.transpose(1, 2, 0))
    assert np.array_equal(read_image(tmp_path / "a.npy", ReadOptions(channels=5)), planes)
    read = read_image(tmp_path / "a.npy", ReadOptions(bands=(4, 3, 2)))
    assert np.array_equal(read, planes[[3, 2, 1]])
    Image.fromarray(noise(4, "uint8").transpose(1, 2, 0).copy()).save(tmp_path / "rgba.png")
    assert cv2.imwrite(str(tmp_path / "deep.png"), noise(4, "uint16").transpose(1, 2, 0))
    Image.fromarray(noise(2, "uint8").transpose(1, 2, 0).copy(), "LA").save(tmp_path / "la.png")
    for name in ("rgba", "deep"):
        read = read_image(tmp_path / f"{name}.png", ReadOptions(channels=4, convert=True))
        stored = cv2.imread(str(tmp_path / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(read, stored.transpose(2, 0, 1)[[2, 1, 0, 3]])
        alpha = read_image(tmp_path / f"{name}.png", ReadOptions(bands=(4, 1)))
        assert np.array_equal(alpha, read[[3, 0]])
    assert len(read_image(tmp_path / "la.png", ReadOptions(channels=2))) == 2


@pytest.mark.parametrize("found", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 13])
def test_the_number_of_bands_must_fit(tmp_path: Path, found: int, wanted: int) -> None:
    planes = noise(found, "uint8")
    save(tmp_path / "a.tif", planes)
    options = ReadOptions(channels=wanted)
    if found == wanted or (found, wanted) == (1, 3):
        assert len(read_image(tmp_path / "a.tif", options)) == found
        return
    with pytest.raises(UserError) as info:
        read_image(tmp_path / "a.tif", options)
    assert info.value.kind == "wrong channels"  # type: ignore[attr-defined]
    text = str(info.value)
    names = {1: "grey", 3: "RGB"}
    if wanted == 3:
        assert f"{found} channels; expected 1 (grey) or 3 (RGB)" in text
    else:
        shown = [names.get(count, f"{count} bands") for count in (found, wanted)]
        assert f"a.tif: {shown[0]}; expected {shown[1]}: " in text
    if found > wanted:
        assert "bands: [" in text


def test_a_grey_network_and_rgb_files(tmp_path: Path) -> None:
    Image.fromarray(noise(3, "uint8").transpose(1, 2, 0).copy()).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"RGB; expected grey: choose 1 of them.*bands: \[1\]"):
        image_info(tmp_path / "a.png", ReadOptions(channels=1))
    with pytest.raises(UserError, match=r"RGB; bands: \[4, 2\] needs files of 4 or more"):
        image_info(tmp_path / "a.png", ReadOptions(bands=(4, 2)))
    assert len(read_image(tmp_path / "a.png", ReadOptions(bands=(2,)))) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bands": (0, 1)}, "the first band is 1"),
        ({"bands": (2, 2)}, "different numbers"),
        ({"bands": ()}, "different numbers"),
        ({"bands": (1, 2), "channels": 3}, "2 bands, but channels is 3"),
        ({"bands": (1, 2), "raw": True}, "RAW files"),
        ({"channels": 0}, "at least 1"),
    ],
)
def test_options_that_contradict(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ReadOptions(**options)


def test_values_beyond_the_range(tmp_path: Path) -> None:
    save(tmp_path / "int.tif", noise(4, "int16"))
    with pytest.raises(UserError, match=r"int\.tif: int16 pixels; .*set white_level"):
        read_image(tmp_path / "int.tif", ReadOptions(channels=4))
    planes = noise(4, "float32") * 20000 - 50
    save(tmp_path / "float.tif", planes)
    with pytest.raises(UserError, match="expected 0 to 1"):
        read_image(tmp_path / "float.tif", ReadOptions(channels=4))
    read = read_image(tmp_path / "float.tif", ReadOptions(channels=4, any_range=True))
    assert np.array_equal(read, planes)
    planes[0, 0, 0] = np.inf
    save(tmp_path / "float.tif", planes)
    with pytest.raises(UserError, match="expected finite numbers"):
        read_image(tmp_path / "float.tif", ReadOptions(channels=4, any_range=True))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("nodata", [-9999, 0, float("nan")])
def test_missing_pixels(tmp_path: Path, dtype: str, nodata: float) -> None:
    planes = noise(4, dtype)
    planes[planes == 0] = 1
    is_float = planes.dtype.kind == "f"
    storable = is_float or (nodata == nodata and nodata >= np.iinfo(dtype).min)
    missing = RNG.random(planes.shape) < 0.1
    if storable:
        planes[missing] = nodata
    else:
        missing[:] = False
    tag = (42113, "s", 0, f"{nodata}", True)
    stated = save(tmp_path / "stated.tif", planes, extratags=[tag])
    plain = save(tmp_path / "plain.tif", planes)
    info = image_info(stated, ReadOptions(channels=4, any_range=True))
    assert info.channels == 4 and info.nodata is not None
    assert info.nodata == nodata or (np.isnan(info.nodata) and np.isnan(nodata))
    options = ReadOptions(channels=4, nodata="file", any_range=True)
    read = read_image(stated, options)
    assert image_info(stated, options)[:4] == (5, *planes.shape[1:], read.dtype.name)
    assert np.array_equal(read[4], ~missing.any(0)) and read.shape == (5, *planes.shape[1:])
    stored = planes.astype(read.dtype)
    assert np.array_equal(read[:4][~missing], stored[~missing])
    assert np.isfinite(read).all()
    if missing.any():  # filled from neighbours
        assert read[:4][missing].min() >= stored[~missing].min()
    again = read_image(plain, ReadOptions(channels=4, nodata=nodata, any_range=True))
    assert np.array_equal(again, read)
    chosen = read_image(stated, ReadOptions(bands=(3,), nodata="file", any_range=True))
    assert np.array_equal(chosen, np.stack([read[2], ~missing[2]]).astype(read.dtype))
    if not is_float or nodata == 0:  # a file that states nothing has no missing pixels
        unstated = read_image(plain, options)
        assert np.array_equal(unstated[:4], stored) and unstated[4].all()


def test_missing_floats_need_not_be_in_the_range(tmp_path: Path) -> None:
    planes = noise(3, "float32")
    planes[:, 3:5, 3:9] = -3.4028234663852886e38
    tag = (42113, "s", 0, "-3.40282346638528898e+38", True)
    save(tmp_path / "a.tif", planes, extratags=[tag])
    read = read_image(tmp_path / "a.tif", ReadOptions(channels=3, nodata="file"))
    assert read[3].sum() == 21 * 34 - 12 and 0 <= read.min() <= read.max() <= 1


def test_masks(tmp_path: Path) -> None:
    mask = np.zeros((2, 3, 4), np.uint16)
    mask[1, 2, 3] = 5
    assert as_mask(mask).tolist() == (mask.max(0, keepdims=True) > 0).tolist()

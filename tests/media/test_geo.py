"""Tests ``srtoolbox.media.geo`` on rasters that they make themselves."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srtoolbox.errors import RunError, UserError
from srtoolbox.media.geo import fill_near, geo_info, is_geotiff, upscale_geotiff
from srtoolbox.media.image_file import write_picture
from srtoolbox.media.picture import Picture

rasterio = pytest.importorskip("rasterio", reason="needs rasterio; pip install srtoolbox[geo]")
from rasterio.control import GroundControlPoint  # noqa: E402
from rasterio.enums import ColorInterp  # noqa: E402
from rasterio.rpc import RPC  # noqa: E402
from rasterio.transform import Affine  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

PLACE = Affine(10.0, 0, 500000, 0, -10.0, 4600000)
TYPES = ["uint8", "uint16", "int16", "int32", "uint32", "float32", "float64"]


def identity(pixels: np.ndarray) -> np.ndarray:
    return pixels


def double(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, axis=1).repeat(2, axis=2)


def smooth_double(pixels: np.ndarray) -> np.ndarray:
    """Doubles by Pillow's bicubic, which sees two pixels around each."""
    size = 2 * pixels.shape[2], 2 * pixels.shape[1]
    planes = [Image.fromarray(p).resize(size, Image.Resampling.BICUBIC) for p in pixels]
    return np.stack([np.asarray(plane) for plane in planes])


def save(path: Path, values: np.ndarray, **options: Any) -> Path:
    count, height, width = values.shape
    form = {"driver": "GTiff", "count": count, "height": height, "width": width}
    form |= {"crs": "EPSG:32650", "transform": PLACE, "dtype": values.dtype.name}
    with rasterio.open(path, "w", **(form | options)) as target:
        target.write(values)
    return path


def values_of(dtype: str, shape: tuple[int, ...] = (3, 40, 50), seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.normal(100, 50, shape).astype(dtype)
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -30000), min(limits.max, 60000)
    return generator.integers(low, high, shape, dtype=dtype, endpoint=True)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    if found.dtype.kind != "f":
        return np.array_equal(found, expected)
    return np.allclose(found, expected, rtol=0, atol=1e-6 * abs(expected).max())


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_passes_unchanged(tmp_path: Path, dtype: str) -> None:
    values = values_of(dtype)
    path = save(tmp_path / "ä b%.tif", values)
    for text in ("auto", "p2-p98", "10,200"):  # values beyond the range are not lost
        upscale_geotiff(path, tmp_path / "b.tif", identity, 1, value_range=text)
        with rasterio.open(tmp_path / "b.tif") as found:
            assert found.dtypes == (dtype,) * 3
            assert close(found.read(), values)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b.tif", path.name]


@pytest.mark.parametrize("cog", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_place_and_descriptions_are_kept(tmp_path: Path, cog: bool) -> None:
    path = save(tmp_path / "a.tif", values_of("uint16", (4, 300, 280)), nodata=0)
    with rasterio.open(path, "r+") as source:
        source.update_tags(SENSOR="X", AREA_OR_POINT="Point")
        source.update_tags(2, WAVELENGTH="560", STATISTICS_MEAN="7")
        source.descriptions = ("blue", "green", "red", "near infrared")
        source.units = ("reflectance",) * 4
        source.scales, source.offsets = (0.0001,) * 4, (1.0, 2.0, 3.0, 4.0)
    result = upscale_geotiff(path, tmp_path / "b.tif", double, 2, window=128, halo=4, cog=cog)
    assert result.windows == 9
    assert result.notes == ()
    before, after = geo_info(path), geo_info(tmp_path / "b.tif")
    assert (after.width, after.height) == (560, 600)
    assert after.bounds == before.bounds
    assert (after.crs, after.nodata, after.dtype) == (before.crs, 0, "uint16")
    assert after.descriptions == before.descriptions
    with rasterio.open(path) as source, rasterio.open(tmp_path / "b.tif") as found:
        assert found.res == (5, 5)
        assert np.array_equal(found.read(), double(source.read()))
        assert found.tags()["SENSOR"] == "X"
        assert found.tags()["AREA_OR_POINT"] == "Point"
        assert found.tags(2)["WAVELENGTH"] == "560"
        assert "STATISTICS_MEAN" not in found.tags(2)
        assert found.units == source.units
        assert (found.scales, found.offsets) == (source.scales, source.offsets)
        if cog:
            assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert found.overviews(1)
    assert is_geotiff(path)
    assert is_geotiff(tmp_path / "b.tif")


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
@pytest.mark.parametrize("side", [29, 64])
def test_windows_equal_the_whole(tmp_path: Path, dtype: str, side: int) -> None:
    values = values_of(dtype, (2, 110, 130))
    generator = np.random.default_rng(1)
    missing = generator.random((2, 110, 130)) < 0.02
    missing[:, 30:80, 50:95] = True
    missing[0, :, 110:] = True
    values[missing] = 7
    missing = values == 7
    path = save(tmp_path / "a.tif", values, nodata=7)
    for name, window in (("whole.tif", 1000), ("windows.tif", side)):
        upscale_geotiff(path, tmp_path / name, smooth_double, 2, window=window, halo=3)
    with (
        rasterio.open(tmp_path / "whole.tif") as whole,
        rasterio.open(tmp_path / "windows.tif") as windows,
    ):
        assert np.array_equal(whole.read(), windows.read())
        assert np.array_equal(whole.read() == 7, double(missing))


def test_missing_pixels_do_not_spread(tmp_path: Path) -> None:
    values = np.full((1, 60, 60), 1000, np.int16)
    values[0, 20:40, 20:40] = -9999
    values[0, 0, 0] = 1020
    path = save(tmp_path / "a.tif", values, nodata=-9999)
    upscale_geotiff(path, tmp_path / "b.tif", smooth_double, 2)
    with rasterio.open(tmp_path / "b.tif") as found:
        result = found.read()
    assert np.array_equal(result == -9999, double(values == -9999))
    edge = result[:, 36:84, 36:84]
    assert set(np.unique(edge)) == {-9999, 1000}


def test_a_result_is_never_the_value_of_missing_pixels(tmp_path: Path) -> None:
    values = values_of("uint8", (1, 20, 20))
    values[0, :10] = 0
    path = save(tmp_path / "a.tif", values, nodata=0)
    upscale_geotiff(path, tmp_path / "b.tif", lambda pixels: pixels * 0, 1)
    with rasterio.open(tmp_path / "b.tif") as found:
        assert np.array_equal(found.read(), (values > 0) * np.uint8(1))
    path = save(tmp_path / "c.tif", values, nodata=255)
    upscale_geotiff(path, tmp_path / "d.tif", lambda pixels: pixels * 0 + 1, 1)
    with rasterio.open(tmp_path / "d.tif") as found:
        assert set(np.unique(found.read()[values != 255])) == {254}


def test_nan_is_missing(tmp_path: Path) -> None:
    values = values_of("float32", (2, 30, 30))
    values[:, 5:12, 3:9] = np.nan
    values[0, 20, 20] = np.inf
    for nodata in (None, np.nan, -1e9):
        path = save(tmp_path / "a.tif", values, nodata=nodata)
        upscale_geotiff(path, tmp_path / "b.tif", double, 2)
        with rasterio.open(tmp_path / "b.tif") as found:
            result = found.read()
        lost = result == nodata if nodata == -1e9 else np.isnan(result)
        assert np.array_equal(lost, double(~np.isfinite(values)))


def test_another_value_of_missing_pixels(tmp_path: Path) -> None:
    values = values_of("int16", (1, 20, 20))
    values[0, 3:6] = -5
    plain, declared = save(tmp_path / "a.tif", values), tmp_path / "c.tif"
    save(declared, values, nodata=-5)
    for path, nodata in ((plain, -5), (declared, -32768)):
        upscale_geotiff(path, tmp_path / "b.tif", double, 2, nodata=nodata)
        with rasterio.open(tmp_path / "b.tif") as found:
            assert found.nodata == nodata
            assert np.array_equal(found.read() == nodata, double(values == -5))
    with pytest.raises(UserError, match="nodata 1e\\+06 is no value of int16"):
        upscale_geotiff(plain, tmp_path / "b.tif", double, 2, nodata=1e6)


def test_masks_and_alpha_bands_are_enlarged(tmp_path: Path) -> None:
    values, generator = values_of("uint8", (4, 30, 40)), np.random.default_rng(3)
    values[3] = generator.integers(0, 2, (30, 40)) * 255
    calls = []

    def transform(pixels: np.ndarray) -> np.ndarray:
        calls.append(pixels.shape)
        return double(pixels)

    path = save(tmp_path / "a.tif", values, photometric="RGB", ALPHA="YES")
    upscale_geotiff(path, tmp_path / "b.tif", transform, 2)
    assert calls == [(3, 30, 40)]
    with rasterio.open(tmp_path / "b.tif") as found:
        assert found.colorinterp[3] == ColorInterp.alpha
        assert np.array_equal(found.read(4), double(values[3:])[0])
        seen = double(values[3:])[0] > 0
        assert np.array_equal(found.read()[:3, seen], double(values[:3])[:, seen])

    path = save(tmp_path / "c.tif", values[:3])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as source:
        source.write_mask(values[3] > 0)
    upscale_geotiff(path, tmp_path / "d.tif", double, 2, window=16)
    with rasterio.open(tmp_path / "d.tif") as found:
        assert np.array_equal(found.dataset_mask(), double(values[3:])[0])


def test_bands_are_chosen(tmp_path: Path) -> None:
    values = values_of("uint16", (5, 20, 20))
    path = save(tmp_path / "a.tif", values)
    upscale_geotiff(path, tmp_path / "b.tif", identity, 1, bands=[4, 2])
    with rasterio.open(tmp_path / "b.tif") as found:
        assert np.array_equal(found.read(), values[[3, 1]])
    with pytest.raises(UserError, match="bands 6; expected numbers of 1, 2, 3, 4, 5"):
        upscale_geotiff(path, tmp_path / "b.tif", identity, 1, bands=[6])


def test_value_ranges(tmp_path: Path) -> None:
    values = np.arange(10000, dtype=np.uint16).reshape(1, 100, 100)
    values[0, 0, 0] = 65535
    path = save(tmp_path / "a.tif", values, nodata=65535)

    def range_of(path: Path, text: str) -> tuple[float, float]:
        return upscale_geotiff(path, tmp_path / "b.tif", identity, 1, value_range=text).value_range

    assert range_of(path, "auto") == (1, 9999)
    assert range_of(path, " -5, 1e4") == (-5, 10000)
    low, high = range_of(path, "p2-p98")
    assert (low, high) == pytest.approx((200, 9799), abs=2)
    unit = save(tmp_path / "c.tif", np.linspace(0.2, 0.7, 400, dtype=np.float32).reshape(1, 20, 20))
    assert range_of(unit, "auto") == (0, 1)
    assert range_of(unit, "p10-p90") == pytest.approx((0.25, 0.65), abs=0.002)
    assert range_of(save(tmp_path / "d.tif", values_of("uint8")), "auto") == (0, 255)
    small = save(tmp_path / "f.tif", np.linspace(-0.5, 0.25, 400).reshape(1, 20, 20))
    assert range_of(small, "auto") == (-0.5, 0.25)
    flat = save(tmp_path / "e.tif", np.full((1, 9, 9), 7, np.int16))
    assert range_of(flat, "p2-p98") == range_of(flat, "auto") == (7, 8)
    for text in ("5,5", "p98-p2", "half", "p2-p200"):
        with pytest.raises(UserError, match="value range"):
            range_of(path, text)


def test_the_transformation_sees_zero_to_one(tmp_path: Path) -> None:
    seen = []

    def transform(pixels: np.ndarray) -> np.ndarray:
        seen.append((pixels.dtype, pixels.min() >= 0, pixels.max() <= 1, pixels.max() > 0.99))
        return pixels

    path = save(tmp_path / "a.tif", values_of("float64"), nodata=-9999)
    result = upscale_geotiff(path, tmp_path / "b.tif", transform, 1, value_range="p5-p95")
    assert seen == [(np.float32, True, True, True)]
    assert "24 bits" in result.notes[0]


def test_nothing_known(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.full((1, 20, 20), 3, np.int16), nodata=3)
    upscale_geotiff(path, tmp_path / "b.tif", double, 2)
    with rasterio.open(tmp_path / "b.tif") as found:
        assert (found.read() == 3).all()


def test_ground_control_points_and_polynomials(tmp_path: Path) -> None:
    points = [
        GroundControlPoint(row, column, 100 + column, 50 - row)
        for row, column in ((0, 0), (0, 50), (40, 0), (40, 50))
    ]
    path = save(tmp_path / "a.tif", values_of("uint8"), crs=None, transform=None)
    with rasterio.open(path, "r+") as source:
        source.gcps = points, "EPSG:4326"
    upscale_geotiff(path, tmp_path / "b.tif", double, 2)
    with rasterio.open(tmp_path / "b.tif") as found:
        scaled, crs = found.gcps
    assert crs.to_epsg() == 4326
    assert [(p.row, p.col, p.x, p.y) for p in scaled] == [
        (2 * p.row, 2 * p.col, p.x, p.y) for p in points
    ]
    coefficients = [float(number) for number in range(20)]
    rpc = RPC(
        **{"height_off": 1.0, "height_scale": 2.0, "lat_off": 3.0, "lat_scale": 4.0},
        **{"long_off": 5.0, "long_scale": 6.0, "line_off": 20.0, "line_scale": 20.0},
        **{"samp_off": 25.0, "samp_scale": 25.0, "line_num_coeff": coefficients},
        **{"line_den_coeff": coefficients, "samp_num_coeff": coefficients},
        samp_den_coeff=coefficients,
    )
    path = save(tmp_path / "c.tif", values_of("uint8"), crs=None, transform=None)
    with rasterio.open(path, "r+") as source:
        source.rpcs = rpc
    upscale_geotiff(path, tmp_path / "d.tif", double, 2)
    with rasterio.open(tmp_path / "d.tif") as found:
        assert found.rpcs.line_off == 40.5
        assert found.rpcs.samp_scale == 50
        assert found.rpcs.line_num_coeff == coefficients


def test_what_cannot_be_enlarged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out" / "b.tif"
    palette = save(tmp_path / "a.tif", values_of("uint8", (1, 9, 9)))
    with rasterio.open(palette, "r+") as source:
        source.write_colormap(1, {0: (1, 2, 3, 255)})
        source.colorinterp = [ColorInterp.palette]
    wave = save(tmp_path / "c.tif", np.zeros((1, 9, 9), np.complex64))
    plain = save(tmp_path / "d.tif", values_of("uint8"))
    (tmp_path / "e.tif").write_bytes(plain.read_bytes()[:200])
    for path, message in (
        (palette, "colour table"),
        (wave, "complex64"),
        (tmp_path / "e.tif", "e.tif: "),
        (tmp_path / "missing.tif", "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            upscale_geotiff(path, target, double, 2)
    large = save(tmp_path / "f.tif", values_of("uint8", (3, 300, 300)), compress="deflate")
    content = bytearray(large.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    large.write_bytes(content)
    with pytest.raises(UserError, match=r"f\.tif: truncated or broken"):
        upscale_geotiff(large, target, double, 2)
    with pytest.raises(UserError, match="window 0"):
        upscale_geotiff(plain, target, double, 2, window=0)
    with pytest.raises(RunError, match=r"returned \(3, 40, 50\); expected \(3, 80, 100\)"):
        upscale_geotiff(plain, target, identity, 2)
    assert not target.parent.exists() or not list(target.parent.iterdir())
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(UserError, match=r"pip install .srtoolbox\[geo\]"):
        geo_info(plain)
    assert is_geotiff(plain)


def test_ordinary_pictures_are_no_maps(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.tif", Picture(values_of("uint8")))
    write_picture(tmp_path / "a.png", Picture(values_of("uint8")))
    assert not is_geotiff(tmp_path / "a.tif")
    assert not is_geotiff(tmp_path / "a.png")
    for form, start in (("<IQ", 2**64 - 1), ("<IQ", 2**63), ("<IQ", 40)):
        (tmp_path / "b.tif").write_bytes(b"II+\0" + struct.pack(form, 8, start))
        assert not is_geotiff(tmp_path / "b.tif")


def test_filling_is_local() -> None:
    generator = np.random.default_rng(0)
    values = generator.random((2, 60, 70), dtype=np.float32)
    known = generator.random((2, 60, 70)) < 0.02
    whole = fill_near(values, known, 4)
    part = fill_near(values[:, 10:50, 20:60], known[:, 10:50, 20:60], 4)
    assert np.array_equal(part[:, 4:-4, 4:-4], whole[:, 14:46, 24:56])
    assert np.array_equal(whole[known], values[known])
    assert (fill_near(values, np.zeros_like(known)) == 0.5).all()


def test_progress(tmp_path: Path) -> None:
    path, seen = save(tmp_path / "a.tif", values_of("uint8")), []
    upscale_geotiff(
        path, tmp_path / "b.tif", double, 2, window=25, progress=lambda *args: seen.append(args)
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_raster(tmp_path: Path) -> None:
    peaks = []
    for side in (192, 192, 576):  # the first also loads what is imported on use
        path = save(tmp_path / "a.tif", values_of("uint16", (1, side, side)), tiled=True)
        tracemalloc.start()
        options = {"window": 64, "halo": 8, "value_range": "0,65535"}
        upscale_geotiff(path, tmp_path / "b.tif", double, 2, **options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    inner = 64 + 2 * (8 + 16), 64 + 16 + 8 + 16  # a window inside, and one at a corner
    assert peaks[2] < 1.1 * peaks[1] * (inner[0] / inner[1]) ** 2

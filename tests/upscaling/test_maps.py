from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.upscaling import small_network, texture
from torch import nn

from srtoolbox.errors import UserError
from srtoolbox.media.geo import geo_info
from srtoolbox.media.picture import as_type
from srtoolbox.upscaling.maps import upscale_map
from srtoolbox.upscaling.options import upscale_options

rasterio = pytest.importorskip("rasterio", reason="needs rasterio; pip install srtoolbox[geo]")
from rasterio.transform import Affine  # noqa: E402

PLACE = Affine(0.3, 0, 400000.1, 0, -0.3, 4600000.7)


class Bands(nn.Module):
    """Repeats pixels of frames with any number of bands."""

    scales = (2,)
    scale = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, lq):
        return lq.repeat_interleave(2, -1).repeat_interleave(2, -2)


def save(path: Path, values: np.ndarray, **options: Any) -> Path:
    count, height, width = values.shape
    form = {"driver": "GTiff", "count": count, "height": height, "width": width}
    form |= {"crs": "EPSG:32650", "transform": PLACE, "dtype": values.dtype.name}
    with rasterio.open(path, "w", **(form | options)) as target:
        target.write(values)
    return path


def values_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


@pytest.fixture
def run(tmp_path, upscaler):
    """Upscales a map by networks, with options by keyword."""

    def upscale(source: Path, *nets: nn.Module, progress=None, **options: Any):
        checked = upscale_options(options)
        target = tmp_path / "out" / "b.tif"
        return upscale_map(upscaler(*nets, **options), source, target, checked, progress)

    return upscale


def test_bounds_and_coordinate_system(tmp_path, run):
    source = save(tmp_path / "a.tif", texture(37, 41, dtype=np.uint16), nodata=0)
    seen = []
    result = run(source, small_network("EDSR", 4), window=16, progress=lambda *n: seen.append(n))
    assert (result.width, result.height, result.notes) == (164, 148, ())
    before, after = geo_info(source), geo_info(result.path)
    assert after.bounds == before.bounds
    assert (after.crs, after.nodata, after.dtype) == (before.crs, before.nodata, "uint16")
    assert seen[-1] == (9, 9)


@pytest.mark.parametrize("options", [{}, {"back_projection": 2}, {"blend": 0.5}])
@pytest.mark.parametrize(
    "names", [("EDSR",), pytest.param(("EDSR", "UpConv7"), marks=pytest.mark.slow)]
)
def test_windows_equal_the_whole(tmp_path, run, names, options):
    source = save(tmp_path / "a.tif", texture(70, 50))
    nets = [small_network(name) for name in names]
    whole = values_of(run(source, *nets, window=512, **options).path)
    parts = values_of(run(source, *nets, window=17, **options).path)
    assert np.abs(whole.astype(int) - parts).max() <= 1  # a rounding
    assert (whole != parts).mean() < 1e-3


@pytest.mark.slow
def test_windows_begin_where_the_network_s_do(tmp_path, run):
    net = small_network("MSTTSTVSR", 4)  # of patches: multiples of 8 pixels
    source = save(tmp_path / "a.tif", texture(40, 30))
    result = run(source, net, window=17, tile=0)
    assert result.notes == ("the network sees 4 times the same map",)
    assert (result.width, result.height) == (120, 160)


def test_bands(tmp_path, run, upscaler):
    net = small_network()
    image = texture(30, 20, channels=5)
    source = save(tmp_path / "a.tif", image)
    result = run(source, net, bands=[3, 2, 1])
    assert result.notes == ()
    expected = upscaler(net).image(np.ascontiguousarray(image[2::-1]))
    assert np.abs(values_of(result.path).astype(int) - as_type(expected, np.uint8)).max() <= 1
    result = run(source, net)
    assert result.notes == (
        "the network takes 3 bands, the map has 5: each is enlarged by itself; --bands chooses 3 "
        "as its colours",
    )
    each = [upscaler(net).image(band[None]) for band in image]
    found = values_of(result.path)
    assert np.abs(found.astype(int) - as_type(np.concatenate(each), np.uint8)).max() <= 1
    single = run(source, net, bands=[4])
    assert single.notes == ()
    assert np.array_equal(values_of(single.path), found[3:4])
    two = run(source, net, bands=[4, 1])
    assert two.notes == ("the network takes 3 bands, the map has 2: each is enlarged by itself",)
    assert np.array_equal(values_of(two.path), found[[3, 0]])


def test_networks_of_other_bands(tmp_path, run):
    image = texture(30, 20, channels=5)
    source = save(tmp_path / "a.tif", image)
    for channels, notes in ((5, 0), (1, 1)):
        result = run(source, Bands(channels))
        assert len(result.notes) == notes
        assert np.array_equal(values_of(result.path), image.repeat(2, 1).repeat(2, 2))
    with pytest.raises(UserError, match=r"a.tif: 5 bands, but the network takes 4; choose 4 with"):
        run(source, Bands(4))


def test_an_alpha_band_is_no_colour(tmp_path, run):
    image = texture(20, 20, channels=4)
    image[3] = 255
    source = save(tmp_path / "a.tif", image, photometric="RGB", alpha="YES")
    result = run(source, small_network())
    assert result.notes == ()
    assert (values_of(result.path)[3] == 255).all()


def test_the_size_is_the_network_s_multiple(tmp_path, run):
    source = save(tmp_path / "a.tif", texture(30, 20))
    with pytest.raises(UserError, match=r"a.tif: the result of a map has 40×60 pixels"):
        run(source, small_network(), outscale=3)
    assert run(source, small_network(), outscale=2).width == 40
    assert run(source, small_network(), width=40).height == 60


def test_options_of_maps(tmp_path, run):
    image = texture(30, 20, dtype=np.uint16)
    image[:, :5] = 7
    source = save(tmp_path / "a.tif", image)
    result = run(source, small_network(), nodata=7, value_range="0,65535", halo=3, cog=True)
    found = values_of(result.path)
    assert (found[:, :10] == 7).all() and geo_info(result.path).nodata == 7
    with pytest.raises(UserError, match="value_range: 'x'; expected auto"):
        run(source, small_network(), value_range="x")

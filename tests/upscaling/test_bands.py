"""Networks of any number of bands on users' files: bands, levels, depth and place of the result."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.upscaling import texture
from torch import Tensor, nn

import srtoolbox
from srtoolbox.archs.edsr import EDSR
from srtoolbox.engine.weights.load import save_weights
from srtoolbox.engine.weights.pixels import PixelFacts
from srtoolbox.errors import UserError
from srtoolbox.media.geo import geo_info, is_map
from srtoolbox.media.image_file import npy_bands, read_picture, write_picture
from srtoolbox.media.picture import Picture
from srtoolbox.upscaling.inputs import kind_of
from srtoolbox.upscaling.options import upscale_options
from srtoolbox.upscaling.run import find

SENTINEL = PixelFacts(3, (4, 3, 2), 10000)


class Nearest(nn.Module):
    """Repeats pixels; ``out`` makes the result of the first bands. It records what it sees."""

    scales = (2,)
    scale = 2

    def __init__(
        self, channels: int, out: int | None = None, facts: PixelFacts | None = None
    ) -> None:
        super().__init__()
        self.channels, self.out_channels = channels, out or channels
        self.seen: list[Tensor] = []
        if facts is not None:
            self.pixel_facts = facts

    def forward(self, lq: Tensor) -> Tensor:
        self.seen.append(lq.clone())
        return lq[:, : self.out_channels].repeat_interleave(2, -1).repeat_interleave(2, -2)


def repeated(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, -1).repeat(2, -2)


def sentinel(height: int, width: int, bands: int = 13, seed: int = 0) -> np.ndarray:
    """Returns reflectance × 10000 as uint16."""
    values = np.random.default_rng(seed).integers(100, 9000, (bands, height, width))
    return values.astype(np.uint16)


def upscale(net: nn.Module, source: Path, target: Path, **options: Any) -> tuple[str, ...]:
    report = srtoolbox.upscale(net, source, target, **options)
    assert not report.failed, report.failed
    return report.done[0].notes


class TestMaps:
    rasterio = pytest.importorskip("rasterio", reason='needs pip install "srtoolbox[geo]"')

    def save(self, path: Path, values: np.ndarray, **options: Any) -> Path:
        from rasterio.transform import Affine

        count, height, width = values.shape
        driver = options.get("driver", "GTiff")
        form = {"driver": driver, "count": count, "height": height, "width": width}
        place = Affine(10, 0, 399960.0, 0, -10, 4600020.3)
        form |= {"crs": "EPSG:32650", "transform": place, "dtype": values.dtype.name}
        form |= {"photometric": "MINISBLACK"} if form["driver"] == "GTiff" else {}
        with self.rasterio.open(path, "w", **(form | options)) as target:
            target.write(values)
            if form["driver"] == "GTiff":
                target.descriptions = [f"B{place}" for place in range(1, count + 1)]
        return path

    def read(self, path: Path) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rasters without a place
            with self.rasterio.open(path) as source:
                return source.read()

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
    @pytest.mark.parametrize("channels", [1, 4, 13])
    def test_a_map_of_n_bands(self, tmp_path: Path, channels: int, dtype: str) -> None:
        values = texture(21, 17, channels, np.float32)
        if dtype != "float32":
            low, high = {"uint8": (0, 255), "uint16": (0, 9000), "int16": (-900, 9000)}[dtype]
            values = (low + (high - low) * values).astype(dtype)
        source = self.save(tmp_path / "a.tif", values, nodata=7)
        values[:, 4:6, 4:6] = 7
        source = self.save(tmp_path / "a.tif", values, nodata=7)
        torch.manual_seed(0)
        net = EDSR(scale=4, num_feat=4, num_block=1, num_in_ch=channels).eval()
        upscale(net, source, tmp_path / "b.tif")
        before, after = geo_info(source), geo_info(tmp_path / "b.tif")
        assert after.bounds == before.bounds  # to the last digit
        assert (after.crs, after.dtype, after.nodata) == (before.crs, dtype, 7)
        assert (after.num_band, after.width, after.height) == (channels, 68, 84)
        assert after.descriptions == before.descriptions
        found = self.read(tmp_path / "b.tif") == 7
        assert found[:, 16:24, 16:24].all() and found.sum() == channels * 64

    def test_bands_and_levels_come_from_the_training(self, tmp_path: Path) -> None:
        values = sentinel(9, 8)
        source = self.save(tmp_path / "a.tif", values)
        net = Nearest(3, facts=SENTINEL)
        notes = upscale(net, source, tmp_path / "b.tif")
        assert notes == (
            "as in the network's training: bands 4, 3, 2, values 0 to 10000 as 0 to 1; --bands and "
            "--value-range set others",
        )
        chosen = values[[3, 2, 1]]
        assert np.array_equal(self.read(tmp_path / "b.tif"), repeated(chosen))
        assert geo_info(tmp_path / "b.tif").descriptions == ("B4", "B3", "B2")

    def test_options_replace_them(self, tmp_path: Path) -> None:
        values = sentinel(9, 8, 3)
        source = self.save(tmp_path / "a.tif", values)
        given = {"bands": [3, 1, 2], "value_range": "0,20000"}
        assert upscale(Nearest(3, facts=SENTINEL), source, tmp_path / "b.tif", **given) == ()
        assert np.array_equal(self.read(tmp_path / "b.tif"), repeated(values[[2, 0, 1]]))
        # The map lacks band 4, so it is taken as it is; the range is that of the training.
        (note,) = upscale(Nearest(3, facts=SENTINEL), source, tmp_path / "c.tif")
        assert "bands" not in note.split(";")[0] and "values 0 to 10000" in note
        assert np.array_equal(self.read(tmp_path / "c.tif"), repeated(values))

    def test_levels_do_not_apply_to_other_types(self, tmp_path: Path) -> None:
        source = self.save(tmp_path / "a.tif", texture(9, 8, 3))
        assert upscale(Nearest(3, facts=PixelFacts(white_level=4095)), source, tmp_path / "b") == ()

    @pytest.mark.parametrize("given", ["facts", "option"])
    def test_a_range_for_each_band(self, tmp_path: Path, upscaler, given: str) -> None:
        values = np.stack([np.full((6, 5), value, np.uint16) for value in (100, 200, 300, 400)])
        source = self.save(tmp_path / "a.tif", values)
        ranges = [(0, 1000), (100, 300), (0, 300), (0, 100)]
        facts, options = None, {}
        if given == "facts":
            black, white = zip(*ranges, strict=True)
            facts = PixelFacts(4, None, white, black)
        else:
            options = {"value_range": ";".join(f"{low},{high}" for low, high in ranges)}
        net = Nearest(4, facts=facts)
        run = upscaler(net, **options)
        (job,) = find(run, [source], tmp_path / "b.tif", upscale_options(options)).jobs
        from srtoolbox.upscaling.maps import upscale_map

        upscale_map(run, job.source, job.target, upscale_options(options))
        assert net.seen[-1][0, :, 0, 0].tolist() == pytest.approx([0.1, 0.5, 1, 1])
        assert np.array_equal(self.read(job.target), repeated(values))  # also beyond the range

    def test_ranges_found_in_each_band(self, tmp_path: Path) -> None:
        values = sentinel(9, 8, 2) // np.array([1, 10])[:, None, None].astype(np.uint16)
        source = self.save(tmp_path / "a.tif", values)
        net = Nearest(2)
        from srtoolbox.upscaling.maps import upscale_map
        from srtoolbox.upscaling.upscaler import Upscaler

        options = upscale_options({"value_range": "each:p0-p100"})
        upscale_map(Upscaler([net], options), source, tmp_path / "b.tif", options)
        low, high = net.seen[-1].amin((0, 2, 3)), net.seen[-1].amax((0, 2, 3))
        assert low.tolist() == pytest.approx([0, 0], abs=1e-3)
        assert high.tolist() == pytest.approx([1, 1], abs=1e-3)
        assert np.array_equal(self.read(tmp_path / "b.tif"), repeated(values))

    def test_a_wrong_number_of_ranges(self, tmp_path: Path) -> None:
        source = self.save(tmp_path / "a.tif", sentinel(5, 5, 4))
        report = srtoolbox.upscale(Nearest(4), source, tmp_path / "b.tif", value_range="0,1;0,2")
        words = "2 ranges for 4 bands; give one, or one for each band"
        assert words in report.failed[0][1]

    @pytest.mark.parametrize(("channels", "out"), [(4, 3), (13, 1), (1, 3), (3, 8)])
    def test_other_bands_come_out(self, tmp_path: Path, channels: int, out: int) -> None:
        class Mixed(Nearest):
            def forward(self, lq: Tensor) -> Tensor:
                bands = torch.arange(self.out_channels) % self.channels
                return lq[:, bands].repeat_interleave(2, -1).repeat_interleave(2, -2)

        values = texture(8, 7, channels)
        source = self.save(tmp_path / "a.tif", values, nodata=0)
        notes = upscale(Mixed(channels, out), source, tmp_path / "b.tif")
        assert f"the network turns {channels} bands into {out}: names, units" in notes[0]
        info = geo_info(tmp_path / "b.tif")
        assert (info.num_band, info.descriptions) == (out, (None,) * out)
        assert (info.bounds, info.nodata) == (geo_info(source).bounds, 0)
        expected = repeated(values[np.arange(out) % channels])
        assert np.array_equal(self.read(tmp_path / "b.tif"), np.where(expected == 0, 1, expected))
        text = ";".join(f"0,{255 + band}" for band in range(channels))
        if channels > 1:
            report = srtoolbox.upscale(
                Mixed(channels, out), source, tmp_path / "c", value_range=text
            )
            assert "give one MIN,MAX" in report.failed[0][1]

    def test_a_wrong_number_of_bands(self, tmp_path: Path) -> None:
        source = self.save(tmp_path / "a.tif", texture(8, 7, 5))
        report = srtoolbox.upscale(Nearest(4), source, tmp_path / "b.tif")
        assert "a.tif: 5 bands, but the network takes 4; choose 4 with" in report.failed[0][1]

    @pytest.mark.parametrize("bands", [1, 3, 4])
    def test_jpeg_2000_becomes_a_geotiff(self, tmp_path: Path, bands: int) -> None:
        values = sentinel(64, 64, bands)
        options = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
        source = self.save(tmp_path / "T50_B02.jp2", values, **options)
        assert is_map(source) and kind_of(source) == "map"
        upscale(Nearest(bands), source, tmp_path / "out")
        target = tmp_path / "out" / "T50_B02.tif"
        assert geo_info(target).bounds == geo_info(source).bounds
        assert np.array_equal(self.read(target), repeated(self.read(source)))
        assert np.array_equal(self.read(source), values)

    @pytest.mark.parametrize(
        ("values", "is_raster"),
        [
            (sentinel(8, 8, 5), True),
            (sentinel(8, 8, 4), True),
            (sentinel(8, 8, 1).astype(np.int16), True),
            (sentinel(8, 8, 1).astype(np.uint32), True),
            (sentinel(8, 8, 1), False),
            (texture(8, 8, 1, np.float32), False),
        ],
    )
    def test_tiff_without_a_place(
        self, tmp_path: Path, values: np.ndarray, is_raster: bool
    ) -> None:
        import tifffile

        path = tmp_path / "a.tif"
        planes = values[0] if len(values) == 1 else values
        planar = None if len(values) == 1 else "separate"
        options = {"photometric": "minisblack", "planarconfig": planar}
        tifffile.imwrite(path, planes, metadata=None, **options)
        assert is_map(path) is is_raster
        upscale(Nearest(len(values)), path, tmp_path / "b.tif")
        found = self.read(tmp_path / "b.tif")
        assert found.dtype == values.dtype
        assert np.array_equal(found, repeated(values))
        pixels = read_picture(path).pixels if not is_raster else None
        assert pixels is None or np.array_equal(pixels, values)

    def test_rgb_and_rgba_tiff_stay_pictures(self, tmp_path: Path) -> None:
        for mode in ("RGB", "RGBA", "LA", "L"):
            path = tmp_path / f"{mode}.tif"
            Image.new(mode, (8, 8)).save(path)
            assert kind_of(path) == "picture"


class TestPictures:
    @pytest.mark.parametrize("channels", [2, 4, 13])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_npy(self, tmp_path: Path, channels: int, dtype: type) -> None:
        values = texture(7, 9, channels, dtype)
        np.save(tmp_path / "a.npy", values.transpose(1, 2, 0))
        assert npy_bands(tmp_path / "a.npy") == channels
        assert upscale(Nearest(channels), tmp_path / "a.npy", tmp_path / "out") == ()
        found = np.load(tmp_path / "out" / "a.npy")
        assert found.dtype == dtype
        assert np.allclose(found.transpose(2, 0, 1), repeated(values), atol=1e-7)

    def test_npy_of_colours_becomes_png_as_before(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", texture(7, 9).transpose(1, 2, 0))
        upscale(Nearest(3), tmp_path / "a.npy", tmp_path / "out")
        assert (tmp_path / "out" / "a.png").exists()
        upscale(Nearest(3), tmp_path / "a.npy", tmp_path / "b.npy")
        assert np.load(tmp_path / "b.npy").shape == (14, 18, 3)

    def test_rgba_is_four_bands_only_for_a_network_of_four(self, tmp_path: Path) -> None:
        values = texture(8, 9, 4)
        Image.fromarray(values.transpose(1, 2, 0)).save(tmp_path / "a.png")
        four = Nearest(4)
        (note,) = upscale(four, tmp_path / "a.png", tmp_path / "b.png")
        assert note == "the network takes 4 channels: transparency is the fourth"
        assert np.array_equal(
            np.asarray(Image.open(tmp_path / "b.png")).transpose(2, 0, 1), repeated(values)
        )
        assert upscale(Nearest(3), tmp_path / "a.png", tmp_path / "c.png") == ()
        assert Image.open(tmp_path / "c.png").mode == "RGBA"
        upscale(Nearest(4, 3), tmp_path / "a.png", tmp_path / "d.png")
        assert Image.open(tmp_path / "d.png").mode == "RGB"
        Image.fromarray(values[:3].transpose(1, 2, 0)).save(tmp_path / "e.png")
        report = srtoolbox.upscale(Nearest(4), tmp_path / "e.png", tmp_path / "f.png")
        assert "Nearest takes 4 channels, the input has 3" in report.failed[0][1]

    def test_a_grey_network_gets_each_colour(self, tmp_path: Path) -> None:
        values = texture(8, 9)
        Image.fromarray(values.transpose(1, 2, 0)).save(tmp_path / "a.png")
        net = Nearest(1)
        (note,) = upscale(net, tmp_path / "a.png", tmp_path / "b.png")
        assert note == "the network takes 1 band, the picture has 3: each by itself"
        assert np.array_equal(
            np.asarray(Image.open(tmp_path / "b.png")).transpose(2, 0, 1), repeated(values)
        )
        Image.fromarray(values[0]).save(tmp_path / "g.png")
        assert upscale(net, tmp_path / "g.png", tmp_path / "h.png") == ()
        assert Image.open(tmp_path / "h.png").mode == "L"

    def test_levels_of_the_training(self, tmp_path: Path, upscaler) -> None:
        values = texture(8, 9, 3, np.uint16) // 16
        values[1] = 5000  # beyond the white level
        write_picture(tmp_path / "a.png", Picture(values))
        facts = PixelFacts(white_level=4095, black_level=64)
        (note,) = upscale(Nearest(3, facts=facts), tmp_path / "a.png", tmp_path / "b.png")
        assert note == "as in the network's training: values 64 to 4095 as 0 to 1"
        assert np.array_equal(read_picture(tmp_path / "b.png").pixels, repeated(values))
        net = Nearest(3, facts=facts)
        from srtoolbox.upscaling.pictures import upscale_picture

        options = upscale_options({})
        upscale_picture(upscaler(net), tmp_path / "a.png", tmp_path / "c.png", options)
        expected = ((values.astype(np.float64) - 64) / 4031).clip(0, 1)
        assert np.allclose(net.seen[-1][0].numpy(), expected, atol=1e-6)
        # Files of 8 bits are used by the range of their type, as in a training.
        write_picture(tmp_path / "d.png", Picture(texture(8, 9)))
        assert upscale(Nearest(3, facts=facts), tmp_path / "d.png", tmp_path / "e.png") == ()

    def test_colours_are_not_chosen_by_bands(self, tmp_path: Path) -> None:
        values = texture(8, 9)
        write_picture(tmp_path / "a.png", Picture(values))
        upscale(Nearest(3, facts=PixelFacts(3, (3, 2, 1))), tmp_path / "a.png", tmp_path / "b.png")
        assert np.array_equal(read_picture(tmp_path / "b.png").pixels, repeated(values))

    def test_bands_without_effect_are_named(self, tmp_path: Path) -> None:
        write_picture(tmp_path / "a.png", Picture(texture(8, 9)))
        notes = upscale(Nearest(3), tmp_path / "a.png", tmp_path / "b.png", bands=[3, 2, 1])
        assert notes == (
            "--bands has no effect on PNG files; it chooses bands of TIFF, JPEG 2000 and NPY files",
        )
        values = texture(8, 9)
        assert np.array_equal(read_picture(tmp_path / "b.png").pixels, repeated(values))

    def test_a_sequence_and_a_burst(self, tmp_path: Path) -> None:
        class Clip(Nearest):
            num_frame = 3
            reference = 1

            def forward(self, lq: Tensor) -> Tensor:
                return super().forward(lq[:, 1])

        frames = [texture(8, 9, 3, np.uint16) // (16 + shift) for shift in range(3)]
        for number, frame in enumerate(frames):
            (tmp_path / "in").mkdir(exist_ok=True)
            write_picture(tmp_path / "in" / f"{number}.png", Picture(frame))
        net = Clip(3, facts=PixelFacts(white_level=4095))
        for burst, name in ((False, "out"), (True, "burst")):
            report = srtoolbox.upscale(
                net, tmp_path / "in", tmp_path / name, burst=burst, reference=1
            )
            assert not report.failed
        for number, frame in enumerate(frames):
            pixels = read_picture(tmp_path / "out" / f"{number}.png").pixels
            assert np.array_equal(pixels, repeated(frame))
        (result,) = (tmp_path / "burst").glob("*.png")
        assert np.array_equal(read_picture(result).pixels, repeated(frames[1]))

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".ppm"])
    def test_formats_without_bands(self, tmp_path: Path, suffix: str) -> None:
        with pytest.raises(UserError, match="holds grey or RGB, the picture has 5 bands; write it"):
            write_picture(tmp_path / f"a{suffix}", Picture(texture(4, 4, 5)))

    def test_tiff_of_bands(self, tmp_path: Path) -> None:
        import tifffile

        values = texture(6, 5, 5, np.uint16)
        write_picture(tmp_path / "a.tif", Picture(values))
        assert np.array_equal(tifffile.imread(tmp_path / "a.tif").transpose(2, 0, 1), values)


class TestArrays:
    @pytest.mark.parametrize("channels", [1, 2, 4, 13])
    def test_bands(self, channels: int) -> None:
        values = texture(6, 7, channels)
        found = srtoolbox.upscale(Nearest(channels), values.transpose(1, 2, 0))
        assert np.array_equal(found.transpose(2, 0, 1), repeated(values))
        tensor = torch.rand(2, channels, 6, 7)
        expected = tensor.repeat_interleave(2, -1).repeat_interleave(2, -2)
        assert torch.equal(srtoolbox.upscale(Nearest(channels), tensor), expected)

    @pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64", ">u2"])
    def test_levels_and_bands_of_the_training(self, dtype: str, tmp_path: Path) -> None:
        path = tmp_path / "net.safetensors"
        arch = {"type": "Bicubic", "scale": 2}
        facts = PixelFacts(3, (4, 3, 2), 10000, scale_floats=True)
        save_weights(path, arch, srtoolbox.archs.Bicubic(scale=2), pixels=facts)
        values = sentinel(6, 7).transpose(1, 2, 0).astype(dtype)
        found = srtoolbox.upscale(Nearest(3, facts=facts), values)
        assert found.dtype == np.dtype(dtype)
        expected = values[..., [3, 2, 1]].repeat(2, 0).repeat(2, 1)
        assert np.allclose(found, expected, atol=1e-2)
        assert srtoolbox.upscale(srtoolbox.load(path), values).shape == (12, 14, 3)
        chosen = srtoolbox.upscale(Nearest(3, facts=facts), values, bands=[1, 2, 3])
        assert np.allclose(chosen, values[..., :3].repeat(2, 0).repeat(2, 1), atol=1e-2)

    def test_other_numbers_of_results(self) -> None:
        values = texture(6, 7, 4).transpose(1, 2, 0)
        assert srtoolbox.upscale(Nearest(4, 3), values).shape == (12, 14, 3)
        assert srtoolbox.upscale(Nearest(4, 1), values).shape == (12, 14, 1)
        with pytest.raises(UserError, match=r"bands 9: expected different numbers from 1 to 4"):
            srtoolbox.upscale(Nearest(1), values, bands=[9])
        with pytest.raises(UserError, match="back_projection: Nearest gives 3 channels for 4"):
            srtoolbox.upscale(Nearest(4, 3), values, back_projection=2)
        with pytest.raises(
            UserError, match="chain: Nearest takes 4 channels, the result of Nearest"
        ):
            srtoolbox.upscale([Nearest(4, 3), Nearest(4)], values)

    def test_results_depend_on_the_facts(self, upscaler) -> None:
        keys = [upscaler(Nearest(3, facts=facts)).key for facts in (None, PixelFacts(), SENTINEL)]
        assert keys[0] == keys[1] != keys[2]
        assert "pixels" not in keys[0]


@pytest.mark.parametrize("text", ["4095", "abc", "5,1", "p9-p2", "0,1;x", "each:1", "1..2,3"])
def test_a_wrong_value_range_is_a_wrong_option(text: str) -> None:
    with pytest.raises(UserError, match="value_range"):
        upscale_options({"value_range": text})


@pytest.mark.parametrize("text", ["auto", "0,4095", " -1 , .5e3", "p2-p98", "0,1;2,3", "each:auto"])
def test_forms_of_a_value_range(text: str) -> None:
    assert upscale_options({"value_range": text}).value_range == text

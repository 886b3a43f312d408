"""Multi-band images made from photographs: spectra, missing pixels, and the files written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage import data
from support.generated import content, stop_at_file
from support.images import chw, picture, save

from srtoolbox.cli import main
from srtoolbox.data.datasets.paired_images import PairedImages
from srtoolbox.data.datasets.synthetic_bursts import SyntheticBursts
from srtoolbox.data.degradations.spectrum import ALBEDO, SENTINEL2, Scene, choose_bands
from srtoolbox.data.prepare import multiband
from srtoolbox.data.prepare.generate import plain_tiff
from srtoolbox.data.prepare.multiband import MultibandPipeline, generate_multiband
from srtoolbox.errors import UserError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def photograph() -> np.ndarray:
    """A crop (3, 96, 128) of the photograph of an astronaut."""
    return chw(data.astronaut())[:, 20:116, 160:288]


class TestSpectrum:
    @pytest.mark.parametrize("count", range(1, 14))
    def test_bands_are_in_the_order_of_their_wavelengths(self, count: int) -> None:
        bands = choose_bands(count)
        assert len(bands) == count
        assert list(bands) == sorted(bands, key=lambda band: band.wavelength)

    def test_usual_choices(self) -> None:
        names = {count: [band.name for band in choose_bands(count)] for count in (1, 3, 4, 10)}
        assert names[1] == ["B4"] and names[3] == ["B2", "B3", "B4"]
        assert names[4] == ["B2", "B3", "B4", "B8"]
        assert names[10] == ["B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"]
        assert choose_bands(13) == SENTINEL2

    @pytest.mark.parametrize("count", [0, 14])
    def test_other_numbers_are_refused(self, count: int) -> None:
        with pytest.raises(ValueError, match="1 to 13"):
            choose_bands(count)

    def test_visible_bands_are_the_colours(self) -> None:
        scene, linear = Scene(haze=0), rng().random((3, 5, 6))
        for wavelength, plane in ((665, 0), (560, 1), (492, 2)):
            seen = scene.reflectance(linear, wavelength)
            assert np.allclose(seen, ALBEDO * linear[plane])

    def test_leaves_are_bright_and_water_is_dark_in_the_near_infrared(self) -> None:
        scene = Scene()
        leaf, water, stone = (
            [[[r]], [[g]], [[b]]]
            for r, g, b in ((0.1, 0.3, 0.05), (0.05, 0.1, 0.3), (0.2, 0.2, 0.2))
        )
        near = {
            name: (
                scene.reflectance(np.array(pixel), 833) / scene.reflectance(np.array(pixel), 665)
            )[0, 0]
            for name, pixel in (("leaf", leaf), ("water", water), ("stone", stone))
        }
        assert near["leaf"] > 2 > near["stone"] > 1 > near["water"]

    def test_spectra_are_smooth(self) -> None:
        linear = rng().random((3, 8, 8))
        path = np.stack([Scene().reflectance(linear, x) for x in np.arange(443, 2200, 1.0)])
        assert np.abs(np.diff(path, axis=0)).max() < 0.01

    def test_grey_images_have_bands_that_are_not_multiples(self) -> None:
        linear = np.broadcast_to(rng().random((1, 16, 16)), (3, 16, 16))
        red, near = (Scene(haze=0).reflectance(linear, x) for x in (665, 833))
        assert (near / red).std() > 0.01


class TestPipeline:
    def test_it_has_12_bits_and_correlated_independent_bands(self) -> None:
        made = MultibandPipeline(4).make(photograph(), rng())
        assert made.dtype == np.uint16 and 1000 < made.max() <= 4095
        flat = made.reshape(4, -1).astype(float)
        assert np.corrcoef(flat).min() > 0.3
        size = np.linalg.svd(flat - flat.mean(1, keepdims=True), compute_uv=False)
        assert size[3] > 0.005 * size[0]

    def test_depth_of_the_photograph_does_not_matter(self) -> None:
        image = photograph()
        deep = image.astype(np.uint16) * 257
        for other in (deep, image.astype(np.float32) / 255):
            made = [MultibandPipeline(5).make(pixels, rng()) for pixels in (image, other)]
            assert np.abs(made[0].astype(int) - made[1]).max() <= 1

    def test_missing_pixels_lie_beyond_a_slanted_edge(self) -> None:
        for seed in range(8):
            bare = MultibandPipeline(3).make(photograph(), rng(seed))
            made = MultibandPipeline(3, nodata=0).make(photograph(), rng(seed))
            missing = (made == 0).all(0)
            assert np.array_equal(missing, (made == 0).any(0))
            assert 0.02 < missing.mean() < 0.4
            count = missing.sum(1)
            assert count.min() < count.max()  # slanted
            kept = np.where(bare == 0, 1, bare)
            assert np.array_equal(made[:, ~missing], kept[:, ~missing])

    @pytest.mark.parametrize("options", [{"channels": 14}, {"nodata": 65536}, {"nodata": -1}])
    def test_wrong_options(self, options: dict) -> None:
        with pytest.raises(UserError, match=next(iter(options))):
            MultibandPipeline(**options)


class TestFiles:
    @pytest.fixture
    def images(self, tmp_path: Path) -> list[Path]:
        folder = tmp_path / "photos"
        sizes = {"a": (40, 52), "b": (33, 48), "c": (64, 41)}
        return [save(folder / f"{n}.png", picture(*size)) for n, size in sizes.items()]

    @pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
    @pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
    def test_with_and_without_a_map(
        self, images: list[Path], tmp_path: Path, channels: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rasterio = pytest.importorskip("rasterio", reason="needs the extra geo")
        options = {"channels": channels, "nodata": 7}
        assert generate_multiband(images, tmp_path / "map", **options) == 3
        monkeypatch.setattr(multiband, "find_spec", lambda name: None)
        assert generate_multiband(images, tmp_path / "plain", **options) == 3
        for path in images:
            found = {}
            for folder in ("map", "plain"):
                file = tmp_path / folder / "HR" / f"{path.stem}.tif"
                with tifffile.TiffFile(file) as tiff:
                    assert len(tiff.pages) == 1
                    assert tiff.pages[0].nodata == 7
                with rasterio.open(file) as raster:
                    found[folder] = raster.read()
                    assert raster.nodata == 7
                    if folder == "map":
                        assert raster.crs.to_epsg() == 32650 and raster.res == (10, 10)
                        names = [f"{band.name} {band.title}" for band in choose_bands(channels)]
                        assert list(raster.descriptions) == names
                        assert float(raster.tags(channels)["wavelength"]) >= 665
                        assert "synthetic" in raster.tags()["content"]
            assert np.array_equal(found["map"], found["plain"])

    def test_it_depends_on_name_and_seed_only(self, images: list[Path], tmp_path: Path) -> None:
        generate_multiband(images, tmp_path / "all")
        generate_multiband(images[1:2], tmp_path / "one")
        generate_multiband(images, tmp_path / "other", seed=1)
        made, one, other = (content(tmp_path / name) for name in ("all", "one", "other"))
        assert made["HR/b.tif"] == one["HR/b.tif"] != other["HR/b.tif"]

    def test_an_interruption_changes_nothing(
        self, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generate_multiband(images, tmp_path / "whole")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_at_file(patch, 3)  # the second image; the first file is the card
            generate_multiband(images, tmp_path / "parts")
        assert generate_multiband(images, tmp_path / "parts") == 2
        assert generate_multiband(images, tmp_path / "parts") == 0
        assert content(tmp_path / "parts") == content(tmp_path / "whole")

    def test_other_options_need_another_folder(self, images: list[Path], tmp_path: Path) -> None:
        generate_multiband(images, tmp_path / "set")
        with pytest.raises(UserError, match="other options"):
            generate_multiband(images, tmp_path / "set", channels=5)


@pytest.mark.slow
class TestCommand:
    def test_images_are_made_checked_and_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name, seed in (("a", 0), ("b", 1)):
            save(tmp_path / "photos" / f"{name}.png", picture(40, 48, seed))
        command = ["prepare", "multiband", "--source", "photos", "--channels", "5", "--nodata", "0"]
        assert main(command) == 0
        shown = capsys.readouterr().out
        assert "num_in_ch: 5" in shown and "dataroot: datasets/Multiband/train" in shown
        options = {"dataroot": "datasets/Multiband/train", "num_frame": 2, "gt_size": 16}
        bursts = SyntheticBursts("multiband", channels=5, cache="datasets/.cache", **options)
        sample = bursts[0]
        assert sample["lq"].shape == (2, 5, 10, 12) and sample["gt"].shape == (5, 40, 48)
        assert sample["gt"].dtype == np.float32 and 0.2 < sample["gt"].max() <= 1  # of 4095
        assert 0 < (~sample["mask"]).mean() < 0.4
        assert main(["prepare", "multiband", "--source", "datasets/Multiband/train"]) == 0
        assert main([*command[:-4], "--channels", "4"]) == 2
        assert "other options" in capsys.readouterr().err

    def test_lr_files_of_bands(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        save(tmp_path / "photos" / "a.png", picture(40, 48))
        generate_multiband([tmp_path / "photos" / "a.png"], tmp_path / "own", channels=4)
        before = PairedImages(dataroot="own", channels=4)[0]["lq"]
        command = ["prepare", "folder", "--source", "own", "--make-lr", "--no-cache"]
        assert main([*command, "--channels", "4"]) == 0
        assert (tmp_path / "own" / "LR" / "a.tif").is_file()
        assert np.array_equal(PairedImages(dataroot="own", channels=4)[0]["lq"], before)

    def test_int16_with_levels_and_missing_pixels(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "own" / "HR").mkdir(parents=True)
        pixels = (picture(40, 48)[..., :1] * np.array([1, 20, 30, 39])).astype(np.int16)
        pixels[:8, :8] = -9999
        (tmp_path / "own" / "HR" / "a.tif").write_bytes(
            plain_tiff(pixels.transpose(2, 0, 1), -9999)
        )
        command = ["prepare", "folder", "--source", "own", "--channels", "4"]
        assert main(command) == 2
        assert "white_level" in capsys.readouterr().err
        assert main([*command, "--white-level", "10000", "--black-level", "0"]) == 0
        shown = capsys.readouterr().out
        assert "white_level: 10000" in shown and "black_level" not in shown
        sample = PairedImages(
            dataroot="own", channels=4, white_level=10000, cache="datasets/.cache"
        )[0]
        assert sample["lq"].shape == (1, 4, 10, 12)
        assert not sample["mask"][..., :8, :8].any() and sample["mask"][..., 8:, 8:].all()
        assert np.allclose(sample["gt"][:, 8:, 8:] * 10000, pixels.transpose(2, 0, 1)[:, 8:, 8:])
        assert main([*command, "--white-level", "1,2"]) == 2
        assert "white_level lists 2 numbers, but 4 bands" in capsys.readouterr().err

    def test_chosen_bands(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        save(tmp_path / "photos" / "a.png", picture(40, 48))
        generate_multiband([tmp_path / "photos" / "a.png"], tmp_path / "own", channels=4)
        assert main(["prepare", "folder", "--source", "own", "--bands", "4", "1"]) == 0
        both = [PairedImages(dataroot="own", bands=b)[0]["gt"] for b in ([4, 1], [1, 2, 3, 4])]
        assert np.array_equal(both[0], both[1][[3, 0]])

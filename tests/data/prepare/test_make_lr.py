"""LR files made by the toolbox equal those of the datasets' publishers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from srtoolbox.data.datasets.paired_images import PairedImages
from srtoolbox.data.files.find import scan
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.layouts import get_layout
from srtoolbox.data.prepare.dataset import prepare
from srtoolbox.data.prepare.make_lr import make_lr
from srtoolbox.errors import UserError

PLANES = {"photometric": "minisblack", "planarconfig": "contig"}


def run(name: str, split: str, root: Path, scale: int, out: Path | None = None) -> int:
    layout = get_layout(name)
    items, faults = scan(layout.without_lq(), root, split, scale)
    assert faults == []
    return make_lr(layout, split, items, root, out or root, scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_set5_is_that_of_matlab(reference: Path, tmp_path: Path, scale: int) -> None:
    names = ("img_003", "img_005")
    (tmp_path / "HR").mkdir()
    for name in names:
        shutil.copy(reference / f"data/Set5/HR/{name}.png", tmp_path / "HR")
    assert run("set5", "test", tmp_path, scale) == 2
    made = sorted((tmp_path / f"LR_bicubic/X{scale}").iterdir())
    assert [path.name for path in made] == [f"{name}x{scale}.png" for name in names]
    for name, path in zip(names, made, strict=True):
        official = reference / f"data/Set5/LR_bicubic/X{scale}/{name}.png"
        assert np.array_equal(read_image(path), read_image(official))


def test_a_clip_of_jilin_is_that_of_its_authors(reference: Path, tmp_path: Path) -> None:
    gt = reference / "data/Jilin/001/GT"
    (tmp_path / "eval/GT/001").mkdir(parents=True)
    for path in sorted(gt.iterdir())[:2]:
        shutil.copy(path, tmp_path / "eval/GT/001")
    assert run("jilin189", "test", tmp_path, 4) == 2
    for path in (tmp_path / "eval/LR4x/001").iterdir():
        theirs = reference / "data/Jilin/001/LR" / path.name
        assert np.array_equal(read_image(path), read_image(theirs))


def test_names_with_two_levels(tmp_path: Path) -> None:
    root = tmp_path / "vimeo_septuplet"
    for frame in range(1, 8):
        path = root / f"sequences/00001/0002/im{frame}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((8, 12), 9 * frame, np.uint8))
    (root / "sep_trainlist.txt").write_text("00001/0002\n")
    assert run("vimeo90k", "train", tmp_path, 4) == 7
    made = tmp_path / "vimeo_septuplet_matlabLRx4/sequences/00001/0002"
    assert sorted(path.name for path in made.iterdir()) == [f"im{n}.png" for n in range(1, 8)]
    assert read_image(made / "im3.png").shape == (1, 2, 3)  # grey stays grey
    assert run("vimeo90k", "train", tmp_path, 4) == 0


def test_16_bits_keep_their_colours(tmp_path: Path) -> None:
    (tmp_path / "HR").mkdir()
    pixels = np.zeros((8, 8, 3), np.uint16)
    pixels[..., 2] = 40000  # OpenCV's red
    assert cv2.imwrite(str(tmp_path / "HR/a.png"), pixels)
    run("folder", "all", tmp_path, 4)
    (path,) = (tmp_path / "LR").iterdir()
    assert read_image(path)[:, 0, 0].tolist() == [40000, 0, 0]


def test_files_that_png_cannot_store_are_named(tmp_path: Path) -> None:
    (tmp_path / "HR").mkdir()
    pixels = np.zeros((16, 16, 4), np.int16)
    tifffile.imwrite(
        tmp_path / "HR" / "a.tif", pixels, photometric="minisblack", planarconfig="contig"
    )
    given = {"scale": 2, "channels": 4, "make_lr": True, "cache": None}
    with pytest.raises(UserError, match=r"a\.tif: int16 .*prepare: --white-level, --black-level"):
        prepare("folder", tmp_path, **given)
    words = r"a\.tif: int16 pixels; --make-lr writes LR files of uint8 and uint16 only: convert"
    with pytest.raises(UserError, match=words):
        prepare("folder", tmp_path, **given, white_level=10000)


class TestOtherOptions:
    """LR files of an earlier call are right, or refused."""

    @pytest.fixture
    def bands(self, tmp_path: Path) -> Path:
        pixels = np.random.default_rng(0).integers(1, 255, (16, 16, 4), dtype=np.uint8)
        pixels[:4, :4] = 0
        (tmp_path / "HR").mkdir()
        tifffile.imwrite(tmp_path / "HR/a.tif", pixels, **PLANES)
        return tmp_path

    @staticmethod
    def run(root: Path, **options: Any) -> int | None:
        given = {"scale": 2, "make_lr": True, "cache": None, **options}
        return prepare("folder", root, **given).parts[0].made

    def test_bands(self, bands: Path) -> None:
        """A file has all bands, so it fits any choice of them, and stays that of the dataset."""

        def sample(choice: list[int]) -> np.ndarray:
            options = {"layout": "folder", "scale": 2, "gt_size": 8, "bands": choice}
            return np.asarray(PairedImages(dataroot=str(bands), **options)[0]["lq"])

        choices = ([4, 3, 2], [3, 2, 1], [2, 1])
        expected = [sample(choice) for choice in choices]
        made = [self.run(bands, bands=choice) for choice in choices]
        assert made == [1, 0, 0]
        assert [path.name for path in (bands / "LR").iterdir()] == ["a.tif"]
        for choice, pixels in zip(choices, expected, strict=True):
            assert np.array_equal(sample(choice), pixels)

    def test_nodata(self, bands: Path, tmp_path: Path) -> None:
        self.run(bands, channels=4)
        with pytest.raises(UserError, match=r"LR files of all x2 .* other options, see make_lr"):
            self.run(bands, channels=4, nodata=0)
        shutil.rmtree(bands / "LR")
        assert self.run(bands, channels=4, nodata=0) == 1

    def test_alpha(self, tmp_path: Path) -> None:
        (tmp_path / "HR").mkdir()
        assert cv2.imwrite(str(tmp_path / "HR/a.png"), np.full((8, 8, 4), 90, np.uint8))
        self.run(tmp_path, convert=True)
        with pytest.raises(UserError, match=r"a\.png: an LR file .* which give a\.tif; remove"):
            self.run(tmp_path, channels=4)

    def test_a_degradation(self, bands: Path, tmp_path: Path) -> None:
        plain, degraded = tmp_path / "plain", tmp_path / "degraded"
        assert self.run(bands, bands=[4, 3, 2], out=degraded, degradation="bsrgan") == 1
        assert self.run(bands, bands=[4, 3, 2], out=degraded, degradation="bsrgan") == 0
        with pytest.raises(UserError, match="an LR file that was not made with these options"):
            self.run(bands, bands=[4, 3, 2], out=degraded)
        self.run(bands, channels=4, out=plain)
        with pytest.raises(UserError, match="an LR file that was made otherwise"):
            self.run(bands, channels=4, out=plain, degradation="first_order")
        shutil.rmtree(plain)
        self.run(bands, channels=4, out=plain, degradation="first_order")
        with pytest.raises(UserError, match="LR files of a random degradation"):
            self.run(bands, channels=4, out=plain)

"""Files made for measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.pictures import Pictures, open_pictures, write_pictures, write_tiles
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.resize.array import imresize
from srtoolbox.errors import UserError

KINDS = ("images", "clips", "bursts")
SMALL = Pictures(size=(66, 100), count=2, num_frame=3)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}


@pytest.mark.parametrize("data", KINDS)
def test_the_same_options_give_the_same_files(data: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", data, SMALL, 4)
    write_pictures(tmp_path / "b", data, SMALL, 4)
    first = files(tmp_path / "a")
    assert first == files(tmp_path / "b")
    assert len(set(first.values())) == len(first), "two pictures are alike"


@pytest.mark.slow
@pytest.mark.parametrize(("data", "hr", "lq", "gt"), [
    ("images", 2, (1, 3, 8, 8), (3, 32, 32)),
    ("clips", 12, (3, 3, 8, 8), (3, 32, 32)),
    ("bursts", 2, (3, 3, 8, 8), (3, 32, 32)),
])  # fmt: skip
def test_datasets_read_them(data: str, hr: int, lq: tuple, gt: tuple, tmp_path: Path) -> None:
    write_pictures(tmp_path / "whole", data, SMALL, 4)
    write_tiles(tmp_path / "tiles", tmp_path / "whole", data, 32, 4)
    assert len(files(tmp_path / "whole" / "GT")) == hr
    assert len(files(tmp_path / "tiles" / "GT")) == hr * 2 * 3
    plain = open_pictures(tmp_path / "whole", data, SMALL, 4, 32, None)
    cached = open_pictures(tmp_path / "whole", data, SMALL, 4, 32, tmp_path / "cache")
    tiles = open_pictures(tmp_path / "tiles", data, SMALL, 4, 32, None)
    samples = [one.draw(0, np.random.default_rng(0)) for one in (plain, cached, tiles)]
    assert {one["lq"].shape for one in samples} == {lq}
    assert {one["gt"].shape for one in samples} == {gt}
    np.testing.assert_array_equal(samples[0]["gt"], samples[1]["gt"])


def test_lr_files_are_reductions_of_the_hr_files(tmp_path: Path) -> None:
    write_pictures(tmp_path / "whole", "images", SMALL, 4)
    write_tiles(tmp_path / "tiles", tmp_path / "whole", "images", 32, 4)
    gt, lq = (read_image(tmp_path / "whole" / kind / "0001.png") for kind in ("GT", "LR"))
    assert gt.shape == (3, 64, 100), "HR sizes are multiples of the scale"
    np.testing.assert_array_equal(imresize(gt.transpose(1, 2, 0), 1 / 4).transpose(2, 0, 1), lq)
    tile = read_image(tmp_path / "tiles" / "LR" / "0001_s004.png")
    np.testing.assert_array_equal(tile, lq[:, 8:16, 8:16])


def test_pictures_may_be_larger_than_the_photographs(tmp_path: Path) -> None:
    write_pictures(tmp_path, "images", Pictures(size=(1600, 40), count=1), 4)
    gt = read_image(tmp_path / "GT" / "0000.png").astype(float)
    assert gt.shape == (3, 1600, 40) and gt[:, -200:].std() > 5


def test_crops_must_fit(tmp_path: Path) -> None:
    write_pictures(tmp_path, "images", SMALL, 4)
    with pytest.raises(UserError, match="expected at least 128×128"):
        open_pictures(tmp_path, "images", SMALL, 4, 128, None)

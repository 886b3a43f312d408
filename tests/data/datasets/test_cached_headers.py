"""A dataset whose files are in the cache opens none of them, and still finds every change."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.images import assert_same, picture, save
from support.pixel_cache import the_store

from srtoolbox.data.datasets.paired_images import PairedImages
from srtoolbox.data.files import checks
from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.reader import OpenedFile
from srtoolbox.errors import UserError

SCALE = 2
CROP = 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pairs of NPY files, whose sizes in bytes depend on the number of pixels alone."""
    for number in range(3):
        save(tmp_path / "lq" / f"{number}.npy", picture(6, 6, number))
        save(tmp_path / "gt" / f"{number}.npy", picture(12, 12, number))
    dataset(tmp_path)
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose headers are read, as ``gt/0.npy``."""
    names: list[str] = []
    read = checks.open_file

    def open_file(path: Path, options: ReadOptions) -> OpenedFile:
        names.append(f"{path.parent.name}/{path.name}")
        return read(path, options)

    monkeypatch.setattr(checks, "open_file", open_file)
    return names


def dataset(root: Path, **options: Any) -> PairedImages:
    """Builds the dataset as a training does."""
    roots = {"dataroot_gt": str(root / "gt"), "dataroot_lq": str(root / "lq")}
    given = {**roots, "cache": str(root / "cache"), "scale": SCALE, "gt_size": CROP, **options}
    pairs = PairedImages(**given)
    pairs.check_training()
    return pairs


def samples(pairs: PairedImages) -> list[dict]:
    draws = [pairs.draw(i, np.random.default_rng(i)) for i in range(len(pairs))]
    return [*draws, *(pairs[i] for i in range(len(pairs)))]


def test_no_file_is_opened(root: Path, opened: list[str]) -> None:
    pairs = dataset(root)
    assert opened == []
    plain = dataset(root, cache=None)
    once = [f"{side}/{i}.npy" for side in ("gt", "lq") for i in range(3)]
    assert sorted(opened) == once
    sizes = {root / "gt" / f"{i}.npy": (12, 12) for i in range(3)}
    assert pairs.gt_sizes() == plain.gt_sizes() == sizes
    assert_same(samples(pairs), samples(plain))


def test_lr_made_here(root: Path, opened: list[str]) -> None:
    dataset(root, dataroot_lq=None)
    assert opened == []


def test_a_file_of_the_same_size_with_another_time(root: Path, opened: list[str]) -> None:
    path = root / "lq" / "1.npy"
    before = path.stat()
    save(path, picture(4, 9))
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(UserError, match=r"lq/1\.npy: 9×4; expected 6×6"):
        dataset(root)
    assert "lq/1.npy" in opened and "gt/1.npy" not in opened
    save(path, picture(6, 6, 99))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 2))
    changed = dataset(root)
    assert np.array_equal(changed[1]["lq"][0], picture(6, 6, 99).transpose(2, 0, 1))


def test_a_file_of_another_size(root: Path) -> None:
    path = root / "gt" / "2.npy"
    before = path.stat()
    save(path, picture(6, 6))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match=r"lq/2\.npy: 6×6; expected 3×3"):
        dataset(root)


def test_a_damaged_file(root: Path) -> None:
    path = root / "gt" / "0.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"gt/0\.npy: truncated"):
        dataset(root)


def test_removed_renamed_and_added_files(root: Path, opened: list[str]) -> None:
    (root / "lq" / "1.npy").rename(root / "lq" / "one.npy")
    with pytest.raises(UserError, match=r"gt/1\.npy: has no partner"):
        dataset(root)
    (root / "lq" / "one.npy").unlink()
    with pytest.raises(UserError, match=r"gt/1\.npy: has no partner"):
        dataset(root)
    (root / "gt" / "1.npy").unlink()
    assert len(dataset(root)) == 2
    opened.clear()
    save(root / "gt" / "new.npy", picture(14, 12))
    with pytest.raises(UserError, match=r"gt/new\.npy: has no partner"):
        dataset(root)
    save(root / "lq" / "new.npy", picture(6, 6))
    with pytest.raises(UserError, match=r"lq/new\.npy: 6×6; expected 6×7"):
        dataset(root)
    assert {"gt/new.npy", "lq/new.npy"} <= set(opened)
    save(root / "lq" / "new.npy", picture(7, 6))
    assert len(dataset(root)) == 3


def test_a_link_that_points_elsewhere_later(root: Path) -> None:
    path = root / "gt" / "0.npy"
    path.rename(root / "a.npy")
    save(root / "b.npy", picture(20, 12))
    path.symlink_to(root / "a.npy")
    dataset(root)
    path.unlink()
    path.symlink_to(root / "b.npy")
    with pytest.raises(UserError, match=r"lq/0\.npy: 6×6; expected 6×10"):
        dataset(root)


def test_a_removed_cache(root: Path, opened: list[str]) -> None:
    wanted = samples(dataset(root))
    shutil.rmtree(root / "cache")
    pairs = dataset(root)
    assert len(opened) == 6
    assert_same(samples(pairs), wanted)


@pytest.mark.parametrize("damage", ["empty", "torn", "other form", "other place", "no list"])
def test_a_damaged_index(root: Path, opened: list[str], damage: str) -> None:
    shutil.rmtree(root / "cache")
    dataset(root, dataroot_lq=None)
    opened.clear()
    path = the_store(root / "cache") / "index.json"
    content = path.read_bytes()
    index = json.loads(content)
    if damage == "empty":
        content = b""
    elif damage == "torn":
        content = content[: len(content) // 2]
    elif damage == "no list":
        content = b"[]"
    else:
        if damage == "other form":
            index["files"][1][2] = [3, 6, 24]
        else:
            index["files"][1][1] = 0
        content = json.dumps(index).encode()
    path.write_bytes(content)
    pairs = dataset(root, dataroot_lq=None)
    assert len(opened) == 3
    assert_same(samples(pairs), samples(dataset(root, dataroot_lq=None, cache=None)))


def test_a_cache_of_an_earlier_version_has_no_checksum(root: Path, opened: list[str]) -> None:
    for path in (root / "cache").glob("*/index.json"):
        index = json.loads(path.read_bytes())
        del index["crc32"]
        path.write_text(json.dumps(index))
    dataset(root)
    assert opened == []


def test_training_checks_of_cached_files(root: Path) -> None:
    with pytest.raises(UserError, match=r"gt/0\.npy: 12×12; expected at least 14×14"):
        dataset(root, gt_size=14)
    save(root / "gt" / "1.npy", picture(12, 12, dtype=np.uint16))
    save(root / "lq" / "1.npy", picture(6, 6, dtype=np.uint16))
    for _ in range(2):  # the second time, the cache has the files
        with pytest.raises(UserError, match=r"gt/1\.npy: uint16 pixels, but 2 of 3"):
            dataset(root)


def test_options_that_share_a_cache_but_ask_for_other_channels(
    root: Path, opened: list[str]
) -> None:
    with pytest.raises(UserError, match=r"gt/0\.npy: RGB; expected grey"):
        dataset(root, channels=1)
    opened.clear()
    dataset(root, channels=3)
    assert opened == []


def test_pixels_of_any_range(root: Path, opened: list[str]) -> None:
    for number in range(3):
        save(root / "lq" / f"{number}.npy", picture(6, 6).astype(np.int16))
        save(root / "gt" / f"{number}.npy", picture(12, 12).astype(np.int16))
    dataset(root, white_level=4000)
    opened.clear()
    dataset(root, white_level=4000)
    assert opened == []
    with pytest.raises(UserError, match="int16 pixels; expected"):
        dataset(root)


def test_missing_pixels(root: Path, opened: list[str]) -> None:
    dataset(root, nodata=0)
    opened.clear()
    plain, cached = (dataset(root, nodata=0, cache=c) for c in (None, str(root / "cache")))
    assert len(opened) == 6
    assert_same(samples(plain), samples(cached))
    with pytest.raises(UserError, match=r"gt/0\.npy: RGB; expected 4 bands"):
        dataset(root, nodata=0, channels=4)

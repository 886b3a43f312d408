"""The cache of decoded pixels is built once, shared, and memory-mapped."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pixel_cache import check, the_store

from srtoolbox.data.cache.pixels import open_pixels
from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.reader import read_image
from srtoolbox.errors import UserError


def bases(array: np.ndarray) -> Iterator[object]:
    base: object = array
    while base is not None:
        base = getattr(base, "base", None)
        yield base


def test_pixels_are_those_of_the_files(files: list[Path], tmp_path: Path) -> None:
    check(open_pixels(files, None), files)
    check(open_pixels(files, tmp_path / "a" / "cache"), files)


def test_views_are_memory_mapped_and_cannot_be_written(files: list[Path], tmp_path: Path) -> None:
    view = open_pixels(files, tmp_path / "cache")(files[3])
    assert any(isinstance(base, np.memmap) for base in bases(view))
    assert view.flags.c_contiguous and view.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 0


@pytest.mark.parametrize("cached", [False, True])
def test_pickled_without_the_pixels(files: list[Path], tmp_path: Path, cached: bool) -> None:
    pixels = open_pixels(files, tmp_path / "cache" if cached else None)
    pixels(files[0])
    content = pickle.dumps(pixels)
    assert len(content) < 200 * len(files)
    check(pickle.loads(content), files)


def test_built_once_for_a_list_in_any_order(
    files: list[Path], tmp_path: Path, decoded: list[str]
) -> None:
    open_pixels(files, tmp_path / "cache")
    assert sorted(decoded) == [path.name for path in files]
    link = tmp_path / "link"
    link.symlink_to(files[0].parent)
    for other in (files[::-1], [*files, files[0]], [link / path.name for path in files]):
        check(open_pixels(other, tmp_path / "cache"), other)
    assert len(decoded) == len(files)
    assert not list(the_store(tmp_path / "cache").parent.glob("*.part"))


def test_a_relative_folder_stays_where_it_is(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = open_pixels(files, Path("cache"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    check(pixels, files)


def test_changed_files_and_other_lists_are_decoded_anew(
    files: list[Path], tmp_path: Path, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    open_pixels(files, cache)
    Image.fromarray(np.full((5, 5, 3), 7, np.uint8)).save(files[0])
    check(open_pixels(files, cache), files)
    os.utime(files[1], ns=(1, 1))
    check(open_pixels(files, cache), files)
    check(open_pixels(files[:4], cache), files[:4])
    open_pixels(files[:4], cache, options=ReadOptions(raw=True))
    assert len(decoded) == 3 * len(files) + 8


def test_raw_is_in_the_order_of_the_file(files: list[Path], tmp_path: Path) -> None:
    pixels = open_pixels(files[:1], tmp_path / "cache", options=ReadOptions(raw=True))
    assert np.array_equal(pixels(files[0]), read_image(files[0])[::-1])


def test_no_files(tmp_path: Path) -> None:
    open_pixels([], tmp_path / "cache")


@pytest.mark.parametrize("damage", ["short blob", "no blob", "torn index", "other index"])
def test_a_damaged_cache_is_built_again_with_a_warning(
    files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    cache = tmp_path / "cache"
    open_pixels(files, cache)
    blob, index = the_store(cache) / "pixels.bin", the_store(cache) / "index.json"
    if damage == "short blob":
        os.truncate(blob, blob.stat().st_size - 1)
    elif damage == "no blob":
        blob.unlink()
    elif damage == "torn index":
        index.write_bytes(index.read_bytes()[:-9])
    else:
        content = json.loads(index.read_text())
        content["files"][2][1] = 10**9
        index.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING, "srtoolbox"):
        check(open_pixels(files, cache), files)
    assert "damaged; building it again" in caplog.text


def test_missing_files_and_impossible_folders(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.png: no such file"):
        open_pixels([*files, tmp_path / "none.png"], tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cache: .*/file/cache cannot be created"):
        open_pixels(files, tmp_path / "file" / "cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o555)
    with pytest.raises(UserError, match=r"cannot be locked \(Permission denied\)"):
        open_pixels(files, tmp_path / "cache")

"""The cache of decoded pixels is built once, shared, and memory-mapped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.pixel_cache import check, the_store

from srtoolbox.data.cache.pixels import open_pixels
from srtoolbox.data.files import windows
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


def multi_band_files(folder: Path) -> list[Path]:
    """Files of 4 bands with missing pixels; the last is large enough to be read by strips."""
    rng, files = np.random.default_rng(0), []
    for number, (height, width) in enumerate([(30, 41), (25, 25), (340, 290)]):
        pixels = rng.integers(-500, 9000, (height, width, 4)).astype(np.int16)
        pixels[rng.random((height, width)) < 0.2] = -9999
        pixels[10:60, 9:70] = -9999
        files.append(folder / f"{number}.tif")
        tag = (42113, "s", 0, "-9999", True)
        options = {"photometric": "minisblack", "planarconfig": "contig", "tile": (64, 32)}
        tifffile.imwrite(files[-1], pixels, extratags=[tag], **options)
    return files


def test_cached_bands_are_those_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LARGE", 90_000)
    monkeypatch.setattr(windows, "_STRIP", 200_000)
    files = multi_band_files(tmp_path)
    for number, options in enumerate(
        [
            ReadOptions(channels=4, any_range=True),
            ReadOptions(bands=(4, 2), any_range=True),
            ReadOptions(channels=4, nodata="file", any_range=True),
            ReadOptions(channels=4, nodata=-9999, any_range=True),
            ReadOptions(bands=(3,), nodata="file", any_range=True),
        ]
    ):
        pixels = open_pixels(files, tmp_path / "cache", options=options)
        without = open_pixels(files, None, options=options)
        assert isinstance(without(files[2]), windows.WindowedImage)
        for path in files:
            wanted = read_image(path, options)
            assert pixels(path).dtype == wanted.dtype
            assert np.array_equal(pixels(path), wanted)
            assert np.array_equal(without(path)[:, 3:20, 5:], wanted[:, 3:20, 5:])
        stores = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
        assert len(stores) == number + 1


def test_which_options_share_a_cache(files: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    """Options that change no value use the cache that is there, others their own."""
    files = [path for path in files if path.suffix == ".png"]
    cache = tmp_path / "cache"
    check(open_pixels(files, cache, options=ReadOptions(any_range=True)), files)
    decoded.clear()
    for options in (
        ReadOptions(),
        ReadOptions(channels=3),
        ReadOptions(channels=3, any_range=True),
    ):
        check(open_pixels(files, cache, options=options), files)
    assert decoded == []
    name = the_store(cache).name
    sources = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    key = json.dumps([2, False, False, sources])  # as it always was
    assert name == f"pixels-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    open_pixels(files, cache, options=ReadOptions(channels=3, nodata=0))
    open_pixels([files[0]], cache, options=ReadOptions(bands=(3,)))
    assert len(decoded) == len(files) + 1


def test_unchecked_floats_are_not_shared(tmp_path: Path) -> None:
    path, cache = tmp_path / "a.npy", tmp_path / "cache"
    np.save(path, np.full((4, 5), 7, np.float32))
    read = open_pixels([path], cache, options=ReadOptions(any_range=True))
    assert read(path).max() == 7
    with pytest.raises(UserError, match="expected 0 to 1"):
        open_pixels([path], cache)
    np.save(path, np.full((4, 5), 0.5, np.float32))
    open_pixels([path], cache)
    before = sorted(cache.iterdir())
    open_pixels([path], cache, options=ReadOptions(any_range=True))
    assert sorted(cache.iterdir()) == before

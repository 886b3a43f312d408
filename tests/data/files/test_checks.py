"""Checks of the files of a dataset: every kind of fault is found and named once."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from srtoolbox.data.files import checks, reader, windows
from srtoolbox.data.files.checks import (
    check_items,
    raise_faults,
    remember_checked_files,
    report_faults,
)
from srtoolbox.data.files.find import Fault, Item
from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.reader import OpenedFile
from srtoolbox.data.layouts import Layout
from srtoolbox.errors import UserError


class Folder:
    """Writes images of noise, which no format can compress."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rng = np.random.default_rng(0)

    def __call__(
        self, name: str, height: int, width: int, channels: int = 3, dtype: str = "uint8"
    ) -> Path:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        shape = (height, width, channels)[: 2 if channels == 1 else 3]
        pixels = self._rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)
        assert cv2.imwrite(str(path), pixels)
        return path

    def pair(self, name: str, gt: tuple = (32, 48), lq: tuple = (8, 12), suffix="png") -> Item:
        return Item(name, (self(f"gt/{name}.{suffix}", *gt),), (self(f"lq/{name}.{suffix}", *lq),))

    def frames(self, name: str, count: int, *form: Any) -> tuple[Path, ...]:
        return tuple(self(f"{name}/{t}.png", *form) for t in range(count))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def check(
    *items: Item, scale: int = 4, kind: Any = "image", raw: bool = False, **options: Any
) -> list[Fault]:
    return check_items(items, Layout("any", kind, "any", {}, raw=raw), scale, **options)


def only(faults: list[Fault]) -> tuple[str, str, str]:
    (fault,) = faults
    return fault.path.name, fault.kind, fault.text


@pytest.mark.parametrize("gt", [(32, 48), (33, 48), (35, 51), (32, 49)])
def test_a_ground_truth_may_be_larger_by_less_than_an_lr_pixel(folder: Folder, gt: tuple) -> None:
    assert check(folder.pair("a", gt), deep=True) == []


@pytest.mark.parametrize("gt", [(36, 48), (31, 48), (32, 52), (32, 47), (48, 32), (8, 12)])
def test_wrong_scale(folder: Folder, gt: tuple) -> None:
    item = folder.pair("a", gt)
    name, kind, text = only(check(item))
    wanted = f"{gt[1] // 4}×{gt[0] // 4}"
    assert (name, kind) == ("a.png", "wrong scale")
    assert (
        text
        == f"12×8; expected {wanted}, because {item.gt[0]} is {gt[1]}×{gt[0]} and the scale is 4"
    )


def test_order_and_progress(folder: Folder) -> None:
    items = [folder.pair(name, (8, 8)) for name in "cab"]
    seen: list[tuple[int, int]] = []
    faults = check(*items, progress=lambda *state: seen.append(state))
    assert [fault.path.stem for fault in faults] == ["c", "a", "b"]
    assert seen == [(count, 6) for count in range(1, 7)]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_cut_off_files_are_found_without_decoding_the_others(
    folder: Folder, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [folder.pair(name, suffix=suffix) for name in "ab"]
    path = items[1].gt[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    opened: list[Path] = []
    read = checks.read_opened
    monkeypatch.setattr(
        checks, "read_opened", lambda path, *args: (opened.append(path), read(path, *args))[1]
    )
    name, kind, text = only(check(*items))
    assert (name, kind) == (f"b.{suffix}", "truncated")
    assert "replace or remove it" in text and str(path) not in text
    assert opened in ([], [path])


def test_bytes_after_the_end_are_no_fault(folder: Folder) -> None:
    item = folder.pair("a")
    with item.gt[0].open("ab") as file:
        file.write(b"a camera's remarks")
    assert check(item) == []


def test_deep_finds_damage_in_the_middle(folder: Folder) -> None:
    item = folder.pair("a", (64, 64), (16, 16))
    content = bytearray(item.gt[0].read_bytes())
    content[3000:3010] = bytes(10)
    item.gt[0].write_bytes(content)
    assert check(item) == []
    assert only(check(item, deep=True))[1] == "truncated"


def test_files_that_are_no_images(folder: Folder) -> None:
    items = [folder.pair(name) for name in ("empty", "text", "link", "gone", "good")]
    paths = [item.lq[0] for item in items]
    paths[0].write_bytes(b"")
    paths[1].write_text("no image")
    paths[2].unlink()
    paths[2].symlink_to("nowhere.png")
    paths[3].unlink()
    faults = check(*items)
    assert [fault.kind for fault in faults] == [
        "empty file",
        "not an image",
        "broken link",
        "missing",
    ]
    assert [fault.path for fault in faults] == paths[:4]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(folder: Folder) -> None:
    item = folder.pair("a")
    item.lq[0].chmod(0)
    assert only(check(item))[1:] == ("unreadable", "cannot be read (Permission denied)")


def test_wrong_channels(folder: Folder) -> None:
    alpha = Item("a", (folder("a.png", 32, 32, 4),), (folder("a4.png", 8, 8),))
    name, kind, text = only(check(alpha))
    assert (name, kind) == ("a.png", "wrong channels") and "alpha" in text
    grey = Item("g", (folder("g.png", 32, 32),), (folder("g4.png", 8, 8, 1),))
    name, kind, text = only(check(grey))
    assert (name, kind) == ("g4.png", "wrong channels")
    assert text == f"grey; expected RGB like {grey.gt[0]}"
    both = Item("b", (folder("b.png", 32, 32, 1),), (folder("b4.png", 8, 8, 1),))
    colour = Item("c", (folder("c.png", 32, 32, 1),), (folder("c4.png", 8, 8),))
    assert check(both, colour) == []


def raw_burst(folder: Folder, channels: int = 4) -> Item:
    lq = folder.frames("raw", 3, 8, 8, channels, "uint16")
    return Item("raw", (folder("rgb.png", 64, 64, 3, "uint16"),), lq)


def test_raw_has_four_channels_and_half_the_size(folder: Folder) -> None:
    assert check(raw_burst(folder), kind="burst", raw=True, gt_size=64) == []
    faults = check(raw_burst(folder, 3), kind="burst", raw=True)
    assert {fault.text for fault in faults} == {"RGB; expected packed RAW"}
    assert len(faults) == 3
    assert only(check(raw_burst(folder), scale=2, kind="burst", raw=True))[1] == "wrong scale"


@pytest.mark.parametrize("kind", ["clip", "burst"])
def test_mixed_frames(folder: Folder, kind: str) -> None:
    lq = list(folder.frames("lq", 5, 8, 12))
    gt = folder.frames("gt", 5 if kind == "clip" else 1, 32, 48)
    item = Item("x", gt, tuple(lq))
    assert check(item, kind=kind) == []
    folder("lq/0.png", 8, 8)
    folder("lq/3.png", 8, 12, 3, "uint16")
    faults = check(item, kind=kind)
    assert [(fault.path.name, fault.kind) for fault in faults] == [
        ("0.png", "mixed sizes"),
        ("3.png", "mixed types"),
    ]
    assert faults[0].text == "8×8; expected 12×8 like the other frames of x"
    assert faults[1].text == "uint16, RGB; expected uint8, RGB like the other frames of x"


def test_a_burst_of_another_size_than_its_ground_truth_is_one_fault(folder: Folder) -> None:
    item = Item("x", (folder("gt.png", 30, 48),), folder.frames("lq", 14, 8, 12))
    assert only(check(item, kind="burst"))[:2] == ("0.png", "wrong scale")


def test_images_may_differ(folder: Folder) -> None:
    assert check(folder.pair("a"), folder.pair("b", (16, 16), (4, 4))) == []


def test_one_fault_has_no_sequel(folder: Folder) -> None:
    """A frame of the wrong size is not reported again for its scale, nor is its partner."""
    item = Item("x", folder.frames("gt", 3, 32, 48), folder.frames("lq", 3, 8, 12))
    folder("gt/1.png", 20, 20)
    assert only(check(item, kind="clip", gt_size=32))[:2] == ("1.png", "mixed sizes")


def test_too_small(folder: Folder) -> None:
    item = folder.pair("a", (35, 48))
    assert check(item, gt_size=32) == []
    name, kind, text = only(check(item, gt_size=36))
    assert (name, kind) == ("a.png", "too small")
    assert text == "48×35; expected at least 36×36 (gt_size 36); lower gt_size or leave it out"
    alone = Item("b", (folder("b.png", 3, 40),), ())
    assert only(check(alone))[1:] == ("too small", "40×3; smaller than scale 4")
    blind = Item("c", (), folder.frames("c", 2, 8, 12))
    texts = [fault.text for fault in check(blind, kind="burst", gt_size=40)]
    assert (
        texts == ["12×8; expected at least 10×10 (gt_size 40); lower gt_size or leave it out"] * 2
    )


def test_report(folder: Folder) -> None:
    faults = [Fault(Path(f"{number}.png"), "truncated", "broken") for number in range(12)]
    raise_faults([], "Set5")
    assert report_faults(faults[:1], "Set5") == "Set5: 1 fault\n  0.png: broken"
    lines = report_faults(faults, "Set5").splitlines()
    assert lines[0] == "Set5: 12 faults" and len(lines) == 12
    assert lines[10:] == ["  9.png: broken", "  … and 2 more"]
    assert len(report_faults(faults, "Set5", limit=20).splitlines()) == 13
    with pytest.raises(UserError, match="Set5: 12 faults"):
        raise_faults(faults, "Set5")


def test_a_file_of_two_items_is_reported_once(folder: Folder) -> None:
    gt = folder("gt.png", 32, 48, 4)
    one = Item("1", (gt,), (folder("1.png", 8, 12),))
    two = Item("2", (gt,), (folder("2.png", 8, 12),))
    assert only(check(one, two))[0] == "gt.png"


def test_real_pairs_are_in_order(reference: Path) -> None:
    root = reference / "data" / "Set14"
    items = [
        Item(path.stem, (path,), (root / "LR_bicubic" / "X2" / path.name,))
        for path in sorted((root / "HR").iterdir())
    ]
    faults = check(*items, scale=2, deep=True)
    assert faults == []


def bands(path: Path, height: int, width: int, count: int, dtype: str = "uint16") -> Path:
    path.parent.mkdir(exist_ok=True)
    kind = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(path, np.full((height, width, count), 9, dtype), **kind)
    return path


def test_any_number_of_bands(tmp_path: Path) -> None:
    item = Item(
        "a", (bands(tmp_path / "gt.tif", 32, 48, 3),), (bands(tmp_path / "lq.tif", 8, 12, 4),)
    )
    four, three = ReadOptions(channels=4, nodata=0), ReadOptions(channels=3)
    assert check(item, options=three, lq_options=four, deep=True) == []
    assert check(item, options=ReadOptions(bands=(3, 1, 2), nodata="file")) == []
    fault = only(check(item, options=four))
    assert fault[:2] == ("gt.tif", "wrong channels") and fault[2].startswith(
        "RGB; expected 4 bands"
    )
    fault = only(check(item, options=three))
    assert fault[:2] == ("lq.tif", "wrong channels") and fault[2].startswith("4 channels; expected")


def test_mixed_bands_and_types_of_frames(tmp_path: Path) -> None:
    lq = [bands(tmp_path / f"{t}.tif", 8, 12, 4 + (t == 2), "int16") for t in range(4)]
    lq.append(bands(tmp_path / "4.tif", 8, 12, 4, "uint16"))
    item = Item("x", (), tuple(lq))
    faults = check(item, kind="clip", options=ReadOptions(channels=4, any_range=True))
    assert [(fault.path.name, fault.kind) for fault in faults] == [
        ("2.tif", "wrong channels"),
        ("4.tif", "mixed types"),
    ]
    assert faults[0].text.startswith("5 bands; expected 4 bands: choose 4 of them")
    assert faults[1].text == "uint16, 4 bands; expected int16, 4 bands like the other frames of x"


def test_grey_lr_of_an_rgb_ground_truth_may_be_asked_for(folder: Folder) -> None:
    item = folder.pair("a", lq=(8, 12, 1))
    assert len(check(item)) == 1
    assert check(item, lq_options=ReadOptions(channels=1)) == []


def test_masks_have_the_size_of_their_ground_truth(folder: Folder) -> None:
    pair = folder.pair("a")
    good = replace(pair, mask=(folder("mask/a.png", 32, 48, 1),))
    assert check(good, deep=True, training=True) == []
    other = replace(pair, mask=(folder("mask/b.png", 8, 12, 1),))
    assert only(check(other)) == ("b.png", "wrong size", f"12×8; expected 48×32 like {pair.gt[0]}")
    good.mask[0].write_bytes(b"")
    assert only(check(good))[:2] == ("a.png", "empty file")


def test_large_files_are_decoded_by_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bands(tmp_path / "a.tif", 300, 40, 4, "float32")
    item, options = Item("a", (path,), ()), ReadOptions(channels=4)
    monkeypatch.setattr(windows, "LARGE", 1)
    assert only(check(item, options=options, deep=True))[1] == "wrong range"
    assert check(item, options=options) == []
    assert check(item, options=replace(options, any_range=True), deep=True) == []


class TestRememberedFiles:
    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of the files that are opened."""
        names: list[str] = []

        def open_file(path: Path, options: ReadOptions) -> OpenedFile:
            names.append(path.stem)
            return reader.open_file(path, options)

        monkeypatch.setattr(checks, "open_file", open_file)
        return names

    def test_each_file_is_opened_once(self, folder: Folder, opened: list[str]) -> None:
        items = [folder.pair(name) for name in "abc"]
        with remember_checked_files():
            assert check(*items, deep=True) == check(*items) == []
            assert len(opened) == 6
            assert check(*items[:2], folder.pair("d")) == []
            assert opened[6:] == ["d", "d"]
            assert only(check(*items, gt_size=64)[:1])[1] == "too small"
            assert len(opened) == 8
            check(*items, deep=True)  # decodes all files, whatever is known
            assert len(opened) == 14
        opened.clear()
        check(*items)
        check(*items)
        assert len(opened) == 12  # nothing is remembered outside

    def test_other_options_are_another_check(self, folder: Folder, opened: list[str]) -> None:
        item = folder.pair("a")
        with remember_checked_files():
            assert check(item) == []
            found = check(item, options=ReadOptions(channels=1))
            assert [fault.kind for fault in found] == ["wrong channels"] * 2

    @pytest.mark.parametrize("change", ["in place", "replaced", "removed", "cut off"])
    def test_a_changed_file_is_opened_again(self, folder: Folder, change: str) -> None:
        item = folder.pair("a", suffix="bmp")
        path = item.lq[0]
        with remember_checked_files():
            assert check(item) == []
            state = path.stat()
            if change == "removed":
                path.unlink()
            elif change == "cut off":
                os.truncate(path, state.st_size // 2)
            else:
                if change == "replaced":
                    path.rename(path.with_name("old.bmp"))  # keeps the inode
                folder("lq/a.bmp", 12, 8)  # rows of 24 and 36 bytes need no padding
                assert path.stat().st_size == state.st_size
                later = state.st_mtime_ns + (change == "in place")
                os.utime(path, ns=(state.st_atime_ns, later))
            wanted = {"removed": "missing", "cut off": "truncated"}.get(change, "wrong scale")
            assert only(check(item))[1] == wanted

    def test_a_fault_is_not_remembered(self, folder: Folder) -> None:
        item = folder.pair("a")
        content = item.lq[0].read_bytes()
        item.lq[0].write_bytes(content[:30])
        with remember_checked_files():
            assert only(check(item))[1] == "truncated"
            item.lq[0].write_bytes(content)
            assert check(item) == []


def test_items_like_others_share_the_check_of_forms_only(folder: Folder) -> None:
    """An item with the forms of one without faults has none; other items are checked."""
    items = [folder.pair("a"), folder.pair("b"), folder.pair("c", (32, 52)), folder.pair("d")]
    items.append(replace(items[0], key="e", lq=()))
    items.append(Item("f", items[0].gt, folder.pair("f", (8, 8), (8, 12, 1)).lq))
    found = check(*items)
    assert [(fault.path.name, fault.kind) for fault in found] == [
        ("c.png", "wrong scale"),
        ("f.png", "wrong channels"),
    ]

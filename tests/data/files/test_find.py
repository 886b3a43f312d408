"""Finds the files of every known layout, and names every fault in names and folders."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srtoolbox.data.files import walk
from srtoolbox.data.files.find import Fault, Item, compare_counts, scan, scan_pair
from srtoolbox.data.files.walk import natural
from srtoolbox.data.layouts import LAYOUTS, Layout, Split, get_layout
from srtoolbox.errors import UserError

SCALE = 4
ARRANGEMENTS = [
    pytest.param(layout, part, found, id=f"{layout.name}-{part}-{i}")
    for layout in LAYOUTS.values()
    for part, split in layout.splits.items()
    for i, found in enumerate(split)
]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def path_of(root: Path, files: str, key: str, frame: str = "") -> Path:
    """Returns the path of a file of an item, independently of the code under test."""
    folder, _, name = files.rpartition("/")
    for part in key.split("/"):
        folder = folder.replace("{clip}", part, 1)
    text = f"{folder}/{name}.png".replace("{clip}", key.split("/")[-1])
    values = {"stem": key, "frame": frame, "any": "q-7", "-any": "-q-7", "scale": str(SCALE)}
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return root / text.lstrip("/")


def plant(root: Path, files: str | None, key: str, frames: list[str]) -> tuple[Path, ...]:
    if files is None:
        return ()
    if "{frame}" not in files:
        return (touch(path_of(root, files, key)),)
    return tuple(touch(path_of(root, files, key, frame)) for frame in frames)


def plant_clips(root: Path, *sides: str, clips=("000", "001"), count: int = 8) -> None:
    for side in sides:
        for clip in clips:
            for t in range(count):
                touch(root / side / clip / f"{t:08d}.png")


def kinds(faults: list[Fault]) -> list[str]:
    return [fault.kind for fault in faults]


@pytest.mark.parametrize(("layout", "part", "found"), ARRANGEMENTS)
def test_every_arrangement_is_found(tmp_path: Path, layout: Layout, part: str, found: Split):
    two_levels = "{clip}/{clip}" in (found.gt or found.lq).rpartition("/")[0]
    keys = list(found.only[:2]) or (["00001/0266", "00002/0010"] if two_levels else ["7", "12"])
    frames = ["00", "01", "02"]
    sides = (found.gt, found.lq, found.mask, found.lq_mask)
    expected = [Item(key, *(plant(tmp_path, side, key, frames) for side in sides)) for key in keys]
    for key in found.without[:1]:
        plant(tmp_path, found.gt, key, frames)
    if found.listing:
        touch(tmp_path / found.listing).write_text("\n".join([*keys, "", " "]))
        plant(tmp_path, found.gt, "00009/0001", frames)  # not in the list
    touch(tmp_path / "Thumbs.db")
    touch(expected[0].gt[0].with_name("readme.txt") if found.gt else tmp_path / "readme.txt")
    items, faults = scan(layout, tmp_path, part, SCALE)
    assert faults == []
    assert items == expected


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14)])
def test_benchmark_images(reference: Path, name: str, count: int, scale: int):
    layout = get_layout(name.lower())
    items, faults = scan(layout, reference / "data" / name, "test", scale)
    assert faults == []
    assert [item.key for item in items] == [f"img_{i:03d}" for i in range(1, count + 1)]
    for item in items:
        assert item.lq[0].parent.name == f"X{scale}"
        assert item.gt[0].stem == item.lq[0].stem == item.key
    assert compare_counts(layout, "test", items) == []


def test_real_clips(reference: Path):
    items, faults = scan(get_layout("vid4"), reference / "data/Vid4", "test", 4)
    assert faults == []
    assert [(item.key, len(item.gt), len(item.lq)) for item in items] == [
        (clip, 9, 0) for clip in ("calendar", "city", "foliage", "walk")
    ]
    for name, part in (("jilin189", "test"), ("clips", "all")):
        items, faults = scan(get_layout(name), reference / "data/Jilin", part, 4)
        assert faults == []
        assert [(item.key, len(item.gt), len(item.lq)) for item in items] == [("001", 7, 7)]
    notes = compare_counts(get_layout("jilin189"), "test", items)
    assert notes == [
        "clips: 1; Jilin-189 has 12 in split 'test'",
        "clips that do not have 100 frames: 1, 001 (7)",
    ]


def test_frames_and_items_are_in_natural_order(tmp_path: Path):
    for clip in ("clip10", "clip9"):
        for t in (1, 2, 9, 10):
            touch(tmp_path / clip / f"im{t}.png")
        for t in range(3, 9):
            touch(tmp_path / clip / f"im{t}.png")
    items, faults = scan(get_layout("clips"), tmp_path, "all", 4)
    assert faults == []
    assert [item.key for item in items] == ["clip9", "clip10"]
    assert [path.stem for path in items[0].gt] == [f"im{t}" for t in range(1, 11)]


def test_a_missing_partner_is_named_on_either_side(tmp_path: Path):
    for stem in ("a", "b", "c"):
        touch(tmp_path / "HR" / f"{stem}.png")
        touch(tmp_path / "LR_bicubic" / "X4" / f"{stem}x4.png")
    (tmp_path / "HR/a.png").unlink()
    (tmp_path / "LR_bicubic/X4/cx4.png").unlink()
    items, faults = scan(get_layout("set5"), tmp_path, "test", 4)
    assert [item.key for item in items] == ["b"]
    assert kinds(faults) == ["missing partner"] * 2
    assert faults[0].path.name == "ax4.png"
    assert faults[0].text == f"has no partner {tmp_path}/HR/a.*"
    assert faults[1].path.name == "c.png"
    assert faults[1].text == f"has no partner {tmp_path}/LR_bicubic/X4/cx4.*"


def test_missing_frames_are_named(tmp_path: Path):
    plant_clips(tmp_path, "train/GT", "train/LR4x", count=16)
    for t in range(5, 10):
        (tmp_path / f"train/LR4x/000/{t:08d}.png").unlink()
    (tmp_path / "train/GT/001/00000012.png").unlink()
    items, faults = scan(get_layout("jilin189"), tmp_path, "train", 4)
    assert [fault.text for fault in faults] == [
        "clip 000 lacks LR frame 00000005, 00000006, 00000007 and 2 more (11 files for 16)",
        "clip 001 lacks HR frame 00000012 (15 files for 16)",
    ]
    assert faults[0].path == tmp_path / "train/LR4x/000"
    assert kinds(faults) == ["missing partner"] * 2
    assert [(len(item.gt), len(item.lq)) for item in items] == [(11, 11), (15, 15)]
    assert [path.name for path in items[0].gt] == [path.name for path in items[0].lq]


def test_a_missing_clip_is_named(tmp_path: Path):
    plant_clips(tmp_path, "train/GT")
    plant_clips(tmp_path, "train/LR4x", clips=("001", "002"))
    items, faults = scan(get_layout("jilin189"), tmp_path, "train", 4)
    assert [item.key for item in items] == ["001"]
    assert faults[0].text == f"clip 000 has no LR files {tmp_path}/train/LR4x/000/*.*"
    assert faults[1].text == f"clip 002 has no HR files {tmp_path}/train/GT/002/*.*"


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ((0, 1, 3, 4), "clip 5 lacks frame 00000002"),
        ((0, 1, 7), "clip 5 lacks frame 00000002, 00000003, 00000004 and 2 more"),
        ((0, 2, 6), "clip 5 lacks frame 00000004"),
        ((4, 5, 6), None),
        ((0, 2, 4), None),
        ((0, 33, 67, 100), None),
        ((0, 1, 10**12), "clip 5 lacks frame 00000002, 00000003, 00000004 and 999999999995 more"),
    ],
)
def test_gaps_in_the_numbering_are_named(tmp_path: Path, frames: tuple, text: str | None):
    for t in frames:
        touch(tmp_path / "5" / f"{t:08d}.png")
    items, faults = scan(get_layout("clips"), tmp_path, "all", 4)
    assert len(items[0].gt) == len(frames)
    assert [(fault.kind, fault.text) for fault in faults] == (
        [] if text is None else [("missing frame", text)]
    )


def test_bursts_of_unequal_length_are_named(tmp_path: Path):
    for burst in ("109_28", "109_29", "110_1"):
        touch(tmp_path / f"test/GT/{burst}/109_MFSR_Sony_0028_x4.png")
        for t in range(13 if burst == "110_1" else 14):
            touch(tmp_path / f"test/LR_aligned/{burst}/109_MFSR_Sony_0028_x1_{t:02d}.png")
    items, faults = scan(get_layout("bsr"), tmp_path, "test", 4)
    assert [len(item.lq) for item in items] == [14, 14, 13]
    assert kinds(faults) == ["unequal number of frames"]
    assert faults[0].text == "burst 110_1 has 13 frames, most others have 14"


def test_duplicate_stems_are_named(tmp_path: Path):
    for name in ("0001.png", "0001.jpg", "0002.png"):
        touch(tmp_path / name)
    items, faults = scan(get_layout("folder"), tmp_path, "all", 4)
    assert [item.gt[0].name for item in items] == ["0001.jpg", "0002.png"]
    assert kinds(faults) == ["duplicate stem"]
    assert faults[0].path.name == "0001.png"
    assert "0001.jpg" in faults[0].text


def test_two_ground_truths_of_a_burst_are_named(tmp_path: Path):
    touch(tmp_path / "LR/b/0.png")
    touch(tmp_path / "GT/b/one.png")
    touch(tmp_path / "GT/b/two.png")
    items, faults = scan(get_layout("bursts"), tmp_path, "all", 4)
    assert items[0].gt[0].name == "one.png"
    assert [(fault.path.name, fault.kind) for fault in faults] == [("two.png", "duplicate stem")]


@pytest.mark.parametrize("target", [".", "..", "../..", "loop"])
def test_symlink_loops_end_and_are_named(tmp_path: Path, target: str):
    plant_clips(tmp_path, "train/GT", "train/LR4x")
    loop = tmp_path / "train/GT/loop"
    loop.symlink_to(target)
    items, faults = scan(get_layout("jilin189"), tmp_path, "train", 4)
    assert len(items) == 2
    assert [(fault.path, fault.kind) for fault in faults] == [(loop, "symlink loop")]


def test_links_that_are_no_loops_are_followed(tmp_path: Path):
    plant_clips(tmp_path / "disk", "GT")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/GT").symlink_to(tmp_path / "disk/GT")
    items, faults = scan(get_layout("vid4"), tmp_path / "data", "test", 4)
    assert faults == []
    assert [item.key for item in items] == ["000", "001"]


def test_folders_and_broken_links_in_place_of_files_are_named(tmp_path: Path):
    touch(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    (tmp_path / "c.png").symlink_to("nowhere.png")
    items, faults = scan(get_layout("folder"), tmp_path, "all", 4)
    assert [item.key for item in items] == ["a"]
    assert sorted((fault.path.name, fault.kind) for fault in faults) == [
        ("b.png", "not a file"),
        ("c.png", "broken link"),
    ]


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path):
    touch(tmp_path / "HR/a.png")
    touch(tmp_path / "LR_bicubic/X4")
    _, faults = scan(get_layout("set5"), tmp_path, "test", 4)
    assert (tmp_path / "LR_bicubic/X4", "not a folder") in [(f.path, f.kind) for f in faults]


@pytest.mark.parametrize("side", ["HR", "LR_bicubic/X4"])
def test_unreadable_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str):
    """Permissions have no effect for an administrator, so the error is simulated."""
    for folder in ("HR", "LR_bicubic/X4"):
        touch(tmp_path / folder / "a.png")
    scandir = os.scandir

    def refuse(folder: str):
        if str(folder) == str(tmp_path / side):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(walk.os, "scandir", refuse)
    items, faults = scan(get_layout("set5"), tmp_path, "test", 4)
    assert items == []
    assert (faults[0].path, faults[0].kind) == (tmp_path / side, "unreadable folder")
    assert "permissions" in faults[0].text


def test_lr_of_other_names_is_not_passed_over(tmp_path: Path):
    touch(tmp_path / "DIV2K_train_HR/0001.png")
    touch(tmp_path / "DIV2K_train_LR_bicubic/X4/0001.png")
    items, faults = scan(get_layout("div2k"), tmp_path, "train", 4)
    assert items == []
    assert kinds(faults) == ["missing partner"]
    assert "DIV2K_train_LR_bicubic/X4/*x4.*" in faults[0].text
    items, faults = scan(get_layout("div2k"), tmp_path, "train", 3)
    assert faults == []
    assert items[0].lq == ()


def test_a_missing_side_is_one_fault(tmp_path: Path):
    for stem in "abc":
        touch(tmp_path / "test/LR/b" / f"{stem}_x1_00.png")
    items, faults = scan(get_layout("realbsr_rgb"), tmp_path, "test", 4)
    assert items == []
    assert "missing partner" in kinds(faults)


def test_an_empty_root_tells_what_was_looked_for(tmp_path: Path):
    touch(tmp_path / "notes.txt")
    items, faults = scan(get_layout("jilin189"), tmp_path, "test", 4)
    assert items == []
    assert kinds(faults) == ["no files"]
    for text in (
        "layout 'jilin189', split 'test'",
        "eval/GT/<clip>/<frame> with eval/LR4x/<clip>/<frame>",
        "<clip>/truth/<frame> with <clip>/input4/<frame>",
        "zenodo.org/record/6969604",
    ):
        assert text in faults[0].text


def test_wrong_roots_and_splits_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no such folder; it should hold Set5"):
        scan(get_layout("set5"), tmp_path / "nowhere", "test", 4)
    with pytest.raises(UserError, match="has no split 'train'; it has test"):
        scan(get_layout("set5"), tmp_path, "train", 4)
    with pytest.raises(UserError, match="lq: no such folder"):
        scan(get_layout("set5"), tmp_path, "test", 4, tmp_path / "lq")


def test_reds4_is_test_and_not_train(tmp_path: Path):
    plant_clips(
        tmp_path, "train_sharp", "train_sharp_bicubic/X4", clips=("000", "001", "015", "239", "240")
    )
    layout = get_layout("reds")
    for part, expected in (("train", ["001", "239"]), ("test", ["000", "015"]), ("val", ["240"])):
        items, faults = scan(layout, tmp_path, part, 4)
        assert faults == []
        assert [item.key for item in items] == expected
    assert "236" in compare_counts(layout, "train", scan(layout, tmp_path, "train", 4)[0])[0]


def plant_vimeo(root: Path, *keys: str) -> None:
    for key in keys:
        for t in range(1, 8):
            touch(root / "sequences" / key / f"im{t}.png")


def test_listed_clips_that_are_not_there_are_counted(tmp_path: Path):
    plant_vimeo(tmp_path, "00001/0001", "00001/0002", "00001/0003")
    (tmp_path / "sep_testlist.txt").write_text("00001/0001\r\n00001/0003\r\n00096/0936\r\n\r\n")
    items, faults = scan(get_layout("vimeo90k"), tmp_path, "test", 4)
    assert [item.key for item in items] == ["00001/0001", "00001/0003"]
    assert kinds(faults) == ["missing item"]
    assert faults[0].text == "1 of the 3 items that it names do not exist: 00096/0936"


def test_a_listing_may_not_point_outside_the_dataset(tmp_path: Path):
    plant_vimeo(tmp_path, "00001/0001")
    (tmp_path / "sep_testlist.txt").write_text("00001/0001\n../../etc\n")
    with pytest.raises(UserError, match=r"line 2: '\.\./\.\./etc' points outside the dataset"):
        scan(get_layout("vimeo90k"), tmp_path, "test", 4)


def test_lr_under_another_root(tmp_path: Path):
    plant_vimeo(tmp_path / "gt", "00001/0001")
    plant_vimeo(tmp_path / "lq", "00001/0001")
    touch(tmp_path / "gt/sep_trainlist.txt").write_text("00001/0001")
    layout = get_layout("vimeo90k")
    items, faults = scan(layout, tmp_path / "gt", "train", 4, tmp_path / "lq")
    assert faults == []
    assert items[0].lq[3] == tmp_path / "lq/sequences/00001/0001/im4.png"
    items, _ = scan(layout, tmp_path / "gt", "train", 4)
    assert items[0].lq == ()


def test_the_other_root_may_be_the_very_lr_folder(tmp_path: Path):
    plant_clips(tmp_path, "GT", "elsewhere")
    items, faults = scan(get_layout("vid4"), tmp_path, "test", 4, tmp_path / "elsewhere")
    assert faults == []
    assert items[0].lq[0] == tmp_path / "elsewhere/000/00000000.png"
    touch(tmp_path / "HR/a.png")
    touch(tmp_path / "small/ax4.png")
    items, faults = scan(get_layout("set5"), tmp_path, "test", 4, tmp_path / "small")
    assert faults == []
    assert items[0].lq == (tmp_path / "small/ax4.png",)


def test_lr_asked_for_under_another_root_must_be_there(tmp_path: Path):
    plant_clips(tmp_path, "GT")
    (tmp_path / "empty").mkdir()
    items, faults = scan(get_layout("vid4"), tmp_path, "test", 4, tmp_path / "empty")
    assert items == []
    assert kinds(faults) == ["missing partner"]


def test_ground_truth_is_never_its_own_lr(tmp_path: Path):
    plant_clips(tmp_path, "GT")
    items, _ = scan(get_layout("vid4"), tmp_path, "test", 4, tmp_path)
    assert items == []


def test_pairs_of_plain_folders(tmp_path: Path):
    for stem in ("a", "b{1}"):
        touch(tmp_path / "gt" / f"{stem}.PNG")
        touch(tmp_path / "lq" / f"{stem}x4.jpg")
    touch(tmp_path / "lq/ax2.png")  # another scale in the same folder
    touch(tmp_path / "gt/._a.png")  # hidden
    items, faults = scan_pair(tmp_path / "gt", tmp_path / "lq", "{}x4")
    assert faults == []
    assert [(item.key, item.lq[0].name) for item in items] == [
        ("a", "ax4.jpg"),
        ("b{1}", "b{1}x4.jpg"),
    ]
    items, faults = scan_pair(tmp_path / "gt")
    assert [item.lq for item in items] == [(), ()]
    assert faults == []
    touch(tmp_path / "gt/c.png")
    _, faults = scan_pair(tmp_path / "gt", tmp_path / "lq", "{}x4")
    assert faults[0].text == f"has no partner {tmp_path}/lq/cx4.*"


def test_faulty_plain_folders(tmp_path: Path):
    (tmp_path / "gt").mkdir()
    assert kinds(scan_pair(tmp_path / "gt")[1]) == ["no files"]
    for template in ("x4", "{}{}", "{stem}_{}"):
        with pytest.raises(UserError, match=r"filename_tmpl '.*' must contain \{\} once"):
            scan_pair(tmp_path / "gt", tmp_path / "gt", template)
    (tmp_path / "gt" / "a.gif").touch()
    (tmp_path / "gt" / "b.gif").touch()
    (fault,) = scan_pair(tmp_path / "gt")[1]
    assert fault.text == "no images here; left out: 2 .gif files ('a.gif', …)"
    (fault,) = scan(get_layout("folder"), tmp_path / "gt", "all", 4)[1]
    assert "here; left out: 2 .gif files ('a.gif', …); looked for\n" in fault.text
    (fault,) = scan(get_layout("clips"), tmp_path, "all", 4)[1]
    assert "left out: 2 .gif files" in fault.text
    with pytest.raises(UserError, match="no such folder"):
        scan_pair(tmp_path / "none")


STEMS = st.sets(st.text("ab019_", min_size=1, max_size=4), max_size=6)


@pytest.mark.slow
@given(STEMS, STEMS)
def test_pairs_and_faults_account_for_every_image(hr: set[str], lr: set[str]):
    with TemporaryDirectory() as folder:
        gt, lq = Path(folder, "gt"), Path(folder, "lq")
        for side, stems in ((gt, hr), (lq, lr)):
            side.mkdir()
            for stem in stems:
                touch(side / f"{stem}.png")
        items, faults = scan_pair(gt, lq)
    assert [item.key for item in items] == sorted(hr & lr, key=natural)
    assert [(item.gt, item.lq) for item in items] == [
        ((gt / f"{item.key}.png",), (lq / f"{item.key}.png",)) for item in items
    ]
    if hr and lr:
        assert kinds(faults) == ["missing partner"] * len(hr ^ lr)
        assert {fault.path.stem for fault in faults} == hr ^ lr
    else:
        assert kinds(faults) == (["missing partner"] if hr | lr else ["no files"])


FRAMES = st.sets(st.integers(0, 12), min_size=1)


@pytest.mark.slow
@given(FRAMES, FRAMES)
def test_the_frames_of_a_clip_are_paired_and_others_are_named(hr: set[int], lr: set[int]):
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for side, frames in (("GT", hr), ("LR", lr)):
            for t in frames:
                touch(root / side / "clip" / f"{t}.png")
        items, faults = scan(get_layout("clips"), root, "all", 4)
    paired = [f"{t}.png" for t in sorted(hr & lr)]
    assert [path.name for item in items for path in item.gt] == paired
    assert [path.name for item in items for path in item.lq] == paired
    expected = []
    for side, have, other in (("HR", hr, lr), ("LR", lr, hr)):
        absent = [str(t) for t in sorted(other - have)]
        if absent:
            more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
            names = ", ".join(absent[:3]) + more
            counts = f"({len(have)} files for {len(other)})"
            expected.append(f"clip clip lacks {side} frame {names} {counts}")
    assert [fault.text for fault in faults if fault.kind == "missing partner"] == expected


class TestMiddleFrameOnly:
    """Only clips of Vimeo-90K may have an HR frame for the middle frame alone."""

    @staticmethod
    def scan(root: Path, layout: str, clips: dict[str, tuple[set[str], set[str]]]) -> Any:
        for clip, (hr, lr) in clips.items():
            for side, frames in (("hr", hr), ("lr", lr)):
                for frame in frames:
                    touch(root / side / clip / f"{frame}.png")
        split = "train" if layout == "jilin189" else "all"
        return scan(get_layout(layout), root / "hr", split, 4, root / "lr")

    @pytest.mark.parametrize("count", [3, 7])
    def test_of_every_clip_of_vimeo(self, tmp_path: Path, count: int) -> None:
        middle, frames = f"im{count // 2 + 1}", {f"im{t}" for t in range(1, count + 1)}
        clips = {clip: ({middle}, frames) for clip in ("a", "b")}
        items, faults = self.scan(tmp_path, "clips", clips)
        assert not faults
        assert [(len(item.gt), len(item.lq)) for item in items] == [(1, count)] * 2

    @pytest.mark.parametrize(
        ("layout", "hr", "other", "frames"),
        [
            ("clips", "3", {"3"}, {str(t) for t in range(7)}),  # not Vimeo-90K's names
            ("clips", "im3", {"im3"}, {f"im{t}" for t in range(1, 6)}),  # not its lengths
            ("clips", "im4", {f"im{t}" for t in range(1, 8)}, {f"im{t}" for t in range(1, 8)}),
            ("jilin189", "im4", {"im4"}, {f"im{t}" for t in range(1, 8)}),
        ],
    )
    def test_of_other_clips_is_a_fault(
        self, tmp_path: Path, layout: str, hr: str, other: set[str], frames: set[str]
    ) -> None:
        _, faults = self.scan(tmp_path, layout, {"a": ({hr}, frames), "b": (other, frames)})
        lacking = [fault.text for fault in faults if fault.kind == "missing partner"]
        assert len(lacking) == (1 if len(other) > 1 else 2)
        assert "clip a lacks HR frame" in lacking[0]
        assert f"(1 files for {len(frames)})" in lacking[0]

    @pytest.mark.parametrize("absent", ["im1", "im3", "im4"])
    def test_a_clip_that_lacks_an_lr_frame_is_the_only_fault(
        self, tmp_path: Path, absent: str
    ) -> None:
        frames = {f"im{t}" for t in range(1, 8)}
        clips = {"a": ({"im4"}, frames), "b": ({"im4"}, frames - {absent}), "c": ({"im4"}, frames)}
        items, faults = self.scan(tmp_path, "clips", clips)
        assert [fault.text for fault in faults] == [f"clip b lacks LR frame {absent}"]
        assert [(item.key, len(item.gt), len(item.lq)) for item in items] == [
            ("a", 1, 7),
            ("c", 1, 7),
        ]

    def test_a_clip_with_another_hr_frame_is_the_only_fault(self, tmp_path: Path) -> None:
        frames = {f"im{t}" for t in range(1, 8)}
        clips = {"a": ({"im4"}, frames), "b": ({"im3"}, frames)}
        _, faults = self.scan(tmp_path, "clips", clips)
        (text,) = [fault.text for fault in faults]
        assert text.startswith("clip b lacks HR frame im1, im2, im4 and 3 more")

    def test_single_frames_are_pairs(self, tmp_path: Path) -> None:
        items, faults = self.scan(tmp_path, "clips", dict.fromkeys("ab", ({"im4"}, {"im4"})))
        assert not faults
        assert [(len(item.gt), len(item.lq)) for item in items] == [(1, 1)] * 2


class TestLeftOut:
    """Files that are not read are counted in one warning."""

    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        folder = tmp_path / "photos"
        for name in (
            *("a.png", "b.PNG", "c.JFIF", "d.ppm", "sub/e.png", "sub/deep/a.png", "sub/b.png"),
            *("f.gif", "g.gif", "two\nlines.png", "README", "notes.txt", ".hidden.png"),
        ):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return folder

    def test_one_warning_with_kinds(self, photos: Path, caplog: pytest.LogCaptureFixture) -> None:
        items, faults = scan_pair(photos)
        assert [item.key for item in items] == ["a", "b", "c", "d"]
        assert not faults
        scan_pair(photos)
        (record,) = caplog.records
        assert "\n" not in record.message
        for words in ("2 .gif files ('f.gif', …)", "1 sub-folder ('sub')", "1 suffixless file"):
            assert words in record.message
        assert "1 line-break name" in record.message
        assert "recursive: true" in record.message
        assert "notes" not in record.message

    def test_recursive(self, photos: Path, caplog: pytest.LogCaptureFixture) -> None:
        (photos / "sub" / "link").symlink_to(photos / "sub" / "deep")
        items, faults = scan_pair(photos, recursive=True)
        assert [item.key for item in items] == ["a", "b", "c", "d", "sub/b", "sub/deep/a", "sub/e"]
        assert not faults
        assert "1 sub-folder ('link')" in caplog.text

    def test_recursive_pairs(self, tmp_path: Path) -> None:
        for name in ("gt/x/a.png", "gt/b.png", "lq/x/ax4.png", "lq/bx4.png", "gt/x/c.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        items, faults = scan_pair(tmp_path / "gt", tmp_path / "lq", "{}x4", recursive=True)
        assert [(item.key, item.lq[0].name) for item in items] == [
            ("b", "bx4.png"),
            ("x/a", "ax4.png"),
        ]
        (fault,) = faults
        assert str(tmp_path / "lq" / "x" / "cx4.*") in fault.text

    @pytest.mark.parametrize(
        "sides", [("HR/{}", "LR/{}"), ("{}",), ("{}/gt", "{}/lq"), ("{}/truth", "{}/input4")]
    )
    def test_recursive_clips(self, tmp_path: Path, sides: tuple[str, ...]) -> None:
        layout = get_layout("clips")
        plant_clips(
            tmp_path,
            *(side.format(key) for side in sides for key in ("walk", "a/day", "a/night/rain")),
            clips=("",),
            count=2,
        )
        (split,) = layout.splits
        assert [item.key for item in scan(layout, tmp_path, split, 4)[0]] == ["walk"]
        items, faults = scan(layout, tmp_path, split, 4, recursive=True)
        assert [(item.key, item.num_frame) for item in items] == [
            ("a/day", 2),
            ("a/night/rain", 2),
            ("walk", 2),
        ]
        assert not faults
        assert all(len(item.lq) == (2 if len(sides) == 2 else 0) for item in items)

    def test_recursive_clips_without_partner(self, tmp_path: Path) -> None:
        for name in ("HR/a/b/1.png", "HR/c/1.png", "LR/c/1.png", "LR/a/d/1.png"):
            touch(tmp_path / name)
        items, faults = scan(get_layout("clips"), tmp_path, "all", 4, recursive=True)
        assert [item.key for item in items] == ["c"]
        assert {str(fault.path.relative_to(tmp_path)) for fault in faults} == {"HR/a/b", "LR/a/d"}
        assert any("LR/a/b/*.*" in fault.text for fault in faults)

    def test_known_datasets_may_have_other_files(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in ("HR/baby.png", "HR/baby.mat"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        assert scan(get_layout("set5"), tmp_path, "test", 4)[0]
        assert not caplog.records

    def test_images_beside_clips(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for name in ("GT/clip/1.png", "GT/clip/2.png", "GT/stray.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        assert scan(get_layout("clips"), tmp_path, "all", 4)[0]
        assert "1 stray image ('stray.png')" in caplog.text


def test_composed_and_decomposed_names_are_one_name(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "Übung") for form in ("NFC", "NFD"))
    for folder, name in (("gt", nfc), ("lq", nfd)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.png").touch()
    items, faults = scan_pair(tmp_path / "gt", tmp_path / "lq")
    assert [item.key for item in items] == [nfc]
    assert not faults
    (tmp_path / "gt" / f"{nfd}.png").touch()
    assert kinds(scan_pair(tmp_path / "gt")[1]) == ["duplicate stem"]


def test_files_that_are_no_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "whole.png").touch()
    items, faults = scan_pair(tmp_path)
    assert [item.key for item in items] == ["whole"]
    assert {fault.path.name: fault.text.split(",")[0] for fault in faults} == {
        "pipe.png": "is a pipe or a device",
        "zero.png": "is a pipe or a device",
        "folder.png": "is a folder where an image should be",
    }


def test_masks_of_the_ground_truth(tmp_path: Path):
    """Each ground truth has its mask; a missing one is named."""
    burst = Layout(
        "any", "burst", "any", {"test": (Split("{clip}/HR", "{clip}/LR{frame}", mask="{clip}/SM"),)}
    )
    for clip in ("a", "b"):
        for name in ("HR", "SM", "LR000", "LR001", "QM000"):
            touch(tmp_path / clip / f"{name}.png")
    items, faults = scan(burst, tmp_path, "test", 3)
    assert faults == [] and [item.key for item in items] == ["a", "b"]
    assert items[1].mask == (tmp_path / "b" / "SM.png",)
    assert items[1].num_frame == 2
    (tmp_path / "a" / "SM.png").unlink()
    items, (fault,) = scan(burst, tmp_path, "test", 3)
    assert [item.key for item in items] == ["b"]
    assert (fault.path, fault.kind) == (tmp_path / "a" / "HR.png", "missing mask")
    assert fault.text == f"has no mask {tmp_path / 'a' / 'SM'}.*"


def test_masks_of_clips_and_plain_folders(tmp_path: Path):
    split = Split("gt/{clip}/{frame}", "lq/{clip}/{frame}", mask="mask/{clip}/{frame}")
    for side in ("gt", "lq", "mask"):
        for frame in range(3):
            touch(tmp_path / side / "a" / f"{frame}.png")
    layout = Layout("any", "clip", "any", {"test": (split,)})
    (item,), faults = scan(layout, tmp_path, "test", 4)
    assert faults == [] and [path.stem for path in item.mask] == ["0", "1", "2"]
    (tmp_path / "mask" / "a" / "1.png").unlink()
    items, (fault,) = scan(layout, tmp_path, "test", 4)
    assert items == [] and fault.path == tmp_path / "gt" / "a" / "1.png"
    assert fault.text.endswith("mask/a/1.*")
    folders = tmp_path / "gt" / "a", None, "{}", False, tmp_path / "mask" / "a"
    items, faults = scan_pair(*folders)
    assert [item.key for item in items] == ["0", "2"] and kinds(faults) == ["missing mask"]
    assert items[1].mask == (tmp_path / "mask" / "a" / "2.png",)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        scan_pair(tmp_path / "gt", mask_dir=tmp_path / "nowhere")

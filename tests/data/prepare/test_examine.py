"""Checks all files of datasets that option files describe."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from srtoolbox.data.files.find import Fault
from srtoolbox.data.layouts import get_layout
from srtoolbox.data.prepare.examine import (
    decoded_size,
    examine,
    headers,
    report_by_kind,
)
from srtoolbox.errors import UserError


def write(path: Path, height: int, width: int, channels: int = 3, dtype: str = "uint8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 200, (height, width, channels)).astype(dtype)
    assert cv2.imwrite(str(path), pixels)
    return path


def kinds(spec: dict, scale: int = 4, training: bool = False) -> list[str]:
    return [fault.kind for fault in examine(spec, scale, training).faults]


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def test_files_are_decoded(tmp_path: Path) -> None:
    spec = {"type": "PairedImages", "dataroot_gt": str(tmp_path / "HR")}
    image = write(tmp_path / "HR/0.png", 32, 32)
    assert kinds(spec) == []
    spoil(image)
    assert len(kinds(spec)) == 1


def test_pairs_of_folders(tmp_path: Path) -> None:
    write(tmp_path / "a/0.png", 32, 32)
    write(tmp_path / "b/0_small.png", 8, 8)
    spec = {"type": "PairedImages", "filename_tmpl": "{}_small"}
    spec |= {"dataroot_gt": str(tmp_path / "a"), "dataroot_lq": str(tmp_path / "b")}
    assert kinds(spec) == []
    assert kinds(spec, scale=2) == ["wrong scale"]
    assert kinds({**spec, "scale": 2}) == ["wrong scale"]


def test_crops_count_in_training_only(tmp_path: Path) -> None:
    write(tmp_path / "HR/0.png", 64, 64)
    spec = {"type": "PairedImages", "dataroot": str(tmp_path)}
    assert kinds(spec, training=True) == ["too small"]  # for the default of 192
    assert kinds({**spec, "gt_size": 64}, training=True) == []
    assert kinds(spec) == []


def test_bursts_made_from_images_do_not_need_their_lr_files(tmp_path: Path) -> None:
    write(tmp_path / "HR/0.png", 32, 32)
    spoil(write(tmp_path / "LR/0.png", 8, 8))
    assert kinds({"type": "SyntheticBursts", "dataroot": str(tmp_path)}) == []
    spec = {"type": "SBSRBursts", "dataroot": str(tmp_path), "gt_size": 64}
    assert kinds(spec) == []
    assert kinds(spec, training=True) == ["too small"]
    assert kinds({**spec, "image_size": 64, "resize": True}, training=True) == []
    assert kinds({"type": "PairedImages", "dataroot": str(tmp_path)}) != []


@pytest.mark.parametrize(("size", "found"), [(48, ["too small"]), (40, [])])
def test_raw_bursts_are_counted_in_pixels_of_the_sensor(
    tmp_path: Path, size: int, found: list[str]
) -> None:
    write(tmp_path / "train/a/canon/im_raw.png", 48, 48, 3, "uint16")
    for frame in range(2):
        write(tmp_path / f"train/a/samsung_{frame:02d}/im_raw.png", 6, 6, 4, "uint16")
    spec = {"type": "Bursts", "layout": "burstsr", "dataroot": str(tmp_path), "split": "train"}
    # One packed pixel, eight of HR, is spent on keeping the Bayer pattern.
    seen = kinds({**spec, "gt_size": size}, scale=8, training=True)
    assert sorted(set(seen)) == found


def test_an_absent_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        examine({"type": "Clips", "dataroot": str(tmp_path / "no")}, 4, False)


def test_other_data_are_not_looked_at() -> None:
    assert examine({"type": "SampleBursts"}, 4, True) is None


def test_decoded_size(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.png", 4, 5), write(tmp_path / "b.png", 4, 5, 3, "uint16")]
    assert decoded_size(headers(paths)) == 3 * 4 * 5 * (1 + 2)


def test_layouts_without_lr() -> None:
    layout = get_layout("div2k").without_lq()
    assert all(found.gt and found.lq is None for split in layout.splits.values() for found in split)
    assert get_layout("burstsr").without_lq().splits["test"] == ()


def test_faults_stand_together_by_kind_and_none_is_left_out() -> None:
    faults = [Fault(Path(f"{n}.png"), "odd" if n % 2 else "even", f"is {n}") for n in range(30)]
    report = report_by_kind([*faults, faults[0]], "numbers").splitlines()
    assert report[:3] == ["numbers: 30 faults of 2 kinds", "  even (15)", "    0.png: is 0"]
    assert report[17:19] == ["  odd (15)", "    1.png: is 1"]
    assert len(report) == 33
    assert report_by_kind(faults[:1], "one").startswith("one: 1 fault\n")

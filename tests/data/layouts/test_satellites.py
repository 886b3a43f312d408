"""Layouts of satellite images in the form of their archives: PROBA-V with status maps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from srtoolbox.data.datasets.bursts import Bursts
from srtoolbox.data.files.find import scan
from srtoolbox.data.layouts import get_layout
from srtoolbox.errors import UserError

SIDE, WHITE = 8, 16383


def plant(root: Path, part: str, band: str, number: int, clear: list[int], mask: int = 255) -> Path:
    """Writes an image set as ESA does, smaller; frame t has ``clear[t]`` clear rows.

    Every pixel of frame t is 1000 + t, so that a test sees which frames were read.
    """
    folder = root / part / band / f"imgset{number:04d}"
    folder.mkdir(parents=True)

    def write(name: str, pixels: np.ndarray) -> None:
        assert cv2.imwrite(str(folder / f"{name}.png"), pixels)

    for t, rows in enumerate(clear):
        write(f"LR{t:03d}", np.full((SIDE, SIDE), 1000 + t, np.uint16))
        status = np.zeros((SIDE, SIDE), np.uint8)
        status[:rows] = mask
        write(f"QM{t:03d}", status)
    if part != "test":
        rng = np.random.default_rng(number)
        write("HR", rng.integers(0, WHITE + 1, (3 * SIDE, 3 * SIDE), np.uint16))
    status = np.full((3 * SIDE, 3 * SIDE), mask, np.uint8)
    status[:, :5] = 0
    write("SM", status)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plant(tmp_path, "train", "RED", 0, [8, 5, 8, 6, 7, 8, 1, 2, 3])
    plant(tmp_path, "train", "NIR", 594, [1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 5])
    plant(tmp_path, "test", "RED", 1160, [8] * 9)
    (tmp_path / "norm.csv").write_text("imgset0000 46.2\nimgset0594 47.1\n")
    return tmp_path


def bursts(root: Path, **more: object) -> Bursts:
    options = {"split": "train", "scale": 3, "num_frame": 4, "gt_size": 12, "channels": 1}
    return Bursts("probav", str(root), **{**options, **more})


def test_the_clearest_frames_come_first_and_ties_by_name(root: Path) -> None:
    dataset = bursts(root)
    assert [dataset[i]["key"] for i in range(2)] == ["NIR/imgset0594", "RED/imgset0000"]
    for index, order in ((0, [7, 6, 8, 5]), (1, [0, 2, 5, 4])):
        lq = dataset[index]["lq"]
        assert lq.shape == (4, 1, SIDE, SIDE)
        frames = np.rint(lq[:, 0, 0, 0] * WHITE).astype(int) - 1000
        assert frames.tolist() == order


def test_the_number_of_frames_may_vary(root: Path) -> None:
    assert bursts(root, num_frame=9)[0]["lq"].shape[0] == 9
    with pytest.raises(UserError, match="RED/imgset0000 has 9 frames, num_frame asks for 10"):
        bursts(root, num_frame=10)


def test_values_are_14_bits_unless_stated(root: Path) -> None:
    truth = cv2.imread(str(root / "train/RED/imgset0000/HR.png"), cv2.IMREAD_UNCHANGED)
    for white, divisor in ((None, WHITE), (65535, 65535)):
        gt = bursts(root, white_level=white)[1]["gt"]
        assert gt.dtype == np.float32
        assert np.allclose(gt[0, :, 5:], truth[:, 5:] / divisor, atol=1e-6)  # others are filled


def test_concealed_pixels_do_not_count(root: Path) -> None:
    dataset = bursts(root)
    mask = dataset[0]["mask"]
    assert mask.shape == (1, 3 * SIDE, 3 * SIDE) and mask.dtype == bool
    assert not mask[:, :, :5].any() and mask[:, :, 5:].all()
    sample = dataset.draw(0, np.random.default_rng(0))
    assert sample["mask"].shape == (1, 12, 12) and sample["lq"].shape == (4, 1, 4, 4)


def test_status_maps_may_hold_ones(tmp_path: Path) -> None:
    plant(tmp_path, "train", "RED", 3, [3, 8, 5], mask=1)
    lq = bursts(tmp_path, num_frame=2)[0]["lq"]
    assert (np.rint(lq[:, 0, 0, 0] * WHITE) - 1000).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("split", "keys"), [("train_RED", ["imgset0000"]), ("train_NIR", ["imgset0594"])]
)
def test_one_band(root: Path, split: str, keys: list[str]) -> None:
    dataset = bursts(root, split=split)
    assert [dataset[i]["key"] for i in range(len(dataset))] == keys


def test_the_test_set_has_no_ground_truth(root: Path) -> None:
    items, faults = scan(get_layout("probav"), root, "test", 3)
    assert faults == [] and [item.gt for item in items] == [()]
    with pytest.raises(UserError, match="has no ground truth"):
        bursts(root, split="test")


def test_missing_and_wrong_maps_are_named(root: Path) -> None:
    folder = root / "train/RED/imgset0000"
    cv2.imwrite(str(folder / "QM002.png"), np.zeros((3, 3), np.uint8))
    with pytest.raises(UserError, match=r"QM002.png: 3×3; expected 8×8 like"):
        bursts(root)
    (folder / "QM002.png").unlink()
    with pytest.raises(UserError, match=r"LR002.png: has no mask .*QM002"):
        bursts(root)
    (folder / "SM.png").unlink()
    with pytest.raises(UserError, match=r"HR.png: has no mask .*SM"):
        bursts(root)


@pytest.mark.parametrize("scale", [2, 4])
def test_other_scales(root: Path, scale: int) -> None:
    with pytest.raises(UserError, match="scale is one of 3"):
        bursts(root, scale=scale)

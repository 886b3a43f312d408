"""Bursts on disk: the known arrangements, aligned crops, RAW levels and pattern, faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.images import chw, picture, save

from srtoolbox.data.datasets.bursts import Bursts
from srtoolbox.data.layouts import get_layout
from srtoolbox.data.transforms.orientation import orient
from srtoolbox.errors import UserError

FRAMES = 3
SIDE = 12  # of an LR frame; packed, of RAW

RGB = {
    "realbsr_rgb": (
        "test",
        "test/LR_aligned/10{i}_28/10{i}_MFSR_Sony_0028_x1_{t:02d}.png",
        "test/GT/10{i}_28/10{i}_MFSR_Sony_0028_x4.png",
    ),
    "sbsr": (None, "LR/im{i}/im{i}_x1_{t:02d}.png", "HR/im{i}/im{i}_x4.png"),
    "bursts": (None, "LR/b{i}/{t:04d}.png", "GT/b{i}.png"),
}
RAW = {
    "realbsr_raw": (
        "train",
        "trainpatch/10{i}_0028_RAW/10{i}_MFSR_Sony_0028_x1_{t:02d}.png",
        "trainpatch/10{i}_0028_RAW/10{i}_MFSR_Sony_0028_x4_rgb.png",
    ),
    "burstsr": (
        "val",
        "val/000{i}_0001/samsung_{t:02d}/im_raw.png",
        "val/000{i}_0001/canon/im_raw.png",
    ),
    "syntheticburst": (
        None,
        "bursts/000{i}/im_raw_{t:02d}.png",
        "gt/000{i}/im_rgb.png",
    ),
}


def bursts(root: Path, layout: str, **more: Any) -> Bursts:
    split = {**RGB, **RAW}.get(layout, (None,))[0]
    given = {"layout": layout, "dataroot": str(root), "split": split, "num_frame": FRAMES}
    given |= {"scale": 8 if layout in RAW else 4, "gt_size": 32}
    return Bursts(**{**given, **more})


def small(i: int, t: int) -> np.ndarray:
    return picture(SIDE, SIDE + 2, 10 * i + t)


def write_rgb(root: Path, layout: str, num_frame: int = FRAMES) -> Path:
    """Two bursts; their truth is the reference with every pixel sixteenfold."""
    _, lq, gt = RGB[layout]
    for i in range(2):
        for t in range(num_frame):
            save(root / lq.format(i=i, t=t), small(i, t))
        save(root / gt.format(i=i), small(i, 0).repeat(4, 0).repeat(4, 1))
    return root


def write_raw(root: Path, layout: str) -> None:
    """Two bursts of a smooth scene, with files that a loader must leave alone."""
    _, lq, gt = RAW[layout]
    for i in range(2):
        truth, packed = scene(i)
        for t in range(FRAMES):
            path = root / lq.format(i=i, t=t)
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), packed.transpose(1, 2, 0) + t)
            path.with_name("meta_info.pkl").write_bytes(b"poison")
        path = root / gt.format(i=i)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), truth.transpose(1, 2, 0))


def scene(i: int) -> tuple[np.ndarray, np.ndarray]:
    """(3, H, W) = R, G, B of three unlike ramps, and what an RGGB sensor sees of them, packed."""
    side = 8 * SIDE
    y, x = np.mgrid[:side, :side]
    ramps = [600 + x // 4 * 4, 700 + y // 4 * 4, 1000 - x // 4 * 4 // 2 - y // 4 * 4 // 2]
    truth = np.stack(ramps).astype(np.uint16) + i
    places = [(0, 0, 0), (1, 0, 4), (1, 4, 0), (2, 4, 4)]
    return truth, np.stack([truth[c, a::8, b::8] for c, a, b in places])


@pytest.mark.parametrize("layout", RGB)
def test_rgb_layouts(tmp_path: Path, layout: str) -> None:
    dataset = bursts(write_rgb(tmp_path, layout), layout)
    assert (len(dataset), dataset.channels, dataset.reference) == (2, 3, 0)
    assert len(dataset.paths()) == 2 * (FRAMES + 1)
    dataset.check_training()
    for i in range(2):
        sample = dataset[i]
        assert sample["lq"].dtype == sample["gt"].dtype == np.uint8
        assert np.array_equal(sample["lq"], [chw(small(i, t)) for t in range(FRAMES)])
        assert np.array_equal(sample["gt"], chw(small(i, 0).repeat(4, 0).repeat(4, 1)))
        assert "orientation" not in sample


def test_rgb_crops_are_aligned(tmp_path: Path) -> None:
    dataset = bursts(write_rgb(tmp_path, "sbsr"), "sbsr")
    corners = set()
    codes = set()
    for seed in range(30):
        sample = dataset.draw(seed % 2, np.random.default_rng(seed))
        assert sample["lq"].shape == (FRAMES, 3, 8, 8)
        assert sample["lq"].flags.c_contiguous
        assert np.array_equal(sample["gt"], sample["lq"][0].repeat(4, -2).repeat(4, -1))
        corners.add(sample["lq"][0].tobytes())
        codes.add(sample["orientation"])
        again = dataset.draw(seed % 2, np.random.default_rng(seed))
        assert np.array_equal(sample["lq"], again["lq"])
    assert len(corners) > 15
    assert len(codes) == 8
    plain = bursts(tmp_path, "sbsr", use_hflip=False, use_rot=False)
    assert {plain.draw(0, np.random.default_rng(s))["orientation"] for s in range(9)} == {0}


def test_fewer_frames_are_the_first(tmp_path: Path) -> None:
    dataset = bursts(write_rgb(tmp_path, "bursts"), "bursts", num_frame=2)
    assert np.array_equal(dataset[1]["lq"], [chw(small(1, t)) for t in range(2)])
    with pytest.raises(UserError, match="b0 has 3 frames, num_frame asks for 4; lower num_frame"):
        bursts(tmp_path, "bursts", num_frame=4)


@pytest.mark.parametrize("layout", RAW)
def test_raw_layouts(tmp_path: Path, layout: str) -> None:
    write_raw(tmp_path, layout)
    dataset = bursts(tmp_path, layout)
    assert (len(dataset), dataset.channels) == (2, 4)
    black, white = {"realbsr_raw": (512, 16383), "burstsr": (0, 1023)}.get(layout, (0, 16384))
    for i in range(2):
        truth, packed = scene(i)
        sample = dataset[i]
        assert sample["lq"].dtype == np.float32
        for t in range(FRAMES):
            expected = ((packed + t - float(black)) / white).clip(0, 1)
            np.testing.assert_allclose(sample["lq"][t], expected, atol=1e-6)
        gt = sample["gt"]
        gain = get_layout(layout).gt_white_level
        if gain is None:
            assert np.array_equal(gt, truth)
        else:
            np.testing.assert_allclose(gt, (truth - float(black)) / gain, atol=1e-6)


def test_raw_crops_keep_the_pattern_and_its_place(tmp_path: Path) -> None:
    write_raw(tmp_path, "syntheticburst")
    dataset = bursts(tmp_path, "syntheticburst")
    dataset.check_training()
    seen = set()
    for seed in range(40):
        sample = dataset.draw(seed % 2, np.random.default_rng(seed))
        lq, gt = sample["lq"], sample["gt"]
        assert "orientation" not in sample
        assert lq.shape == (FRAMES, 4, 4, 4)
        assert gt.shape == (3, 32, 32)
        assert lq.flags.c_contiguous
        assert gt.flags.c_contiguous
        for c, (colour, y, x) in enumerate([(0, 0, 0), (1, 0, 4), (1, 4, 0), (2, 4, 4)]):
            np.testing.assert_allclose(lq[0, c], gt[colour, y::8, x::8], atol=1e-6)
        # Which way red and green grow tells the orientation.
        seen.add(tuple(np.sign([*_slope(gt[0]), *_slope(gt[1])]).astype(int)))
    assert len(seen) == 8


def _slope(image: np.ndarray) -> tuple[float, float]:
    return image[-1, 0] - image[0, 0], image[0, -1] - image[0, 0]


def test_the_cache_changes_no_sample(tmp_path: Path) -> None:
    write_raw(tmp_path, "burstsr")
    write_rgb(tmp_path / "rgb", "sbsr")
    for root, layout in ((tmp_path, "burstsr"), (tmp_path / "rgb", "sbsr")):
        plain, cached = (bursts(root, layout, cache=c) for c in (None, str(tmp_path / "cache")))
        for i in range(2):
            ours, theirs = (d.draw(i, np.random.default_rng(i)) for d in (plain, cached))
            assert np.array_equal(ours["lq"], theirs["lq"])
            assert np.array_equal(ours["gt"], theirs["gt"])


def test_oriented_crops_stay_aligned(tmp_path: Path) -> None:
    import torch

    dataset = bursts(write_rgb(tmp_path, "sbsr"), "sbsr")
    for seed in range(8):
        sample = dataset.draw(0, np.random.default_rng(seed))
        lq, gt = (orient(torch.from_numpy(sample[n]), sample["orientation"]) for n in ("lq", "gt"))
        assert torch.equal(gt, lq[0].repeat_interleave(4, -2).repeat_interleave(4, -1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataroot": None}, "dataroot is missing"),
        ({"gt_size": 30}, "gt_size 30 is not a multiple of scale 4"),
        ({"num_frame": 0}, "num_frame must be at least 1"),
        ({"layout": "vid4"}, "not bursts; use type: Clips"),
        ({"layout": "burstsr", "scale": 4}, r"is 8 \(×4 and packed\), got 4"),
        ({"layout": "burstsr", "scale": 9, "gt_size": 36}, r"is 8 \(×4 and packed\), got 9"),
        ({"layout": "realbsr_rgb", "split": None}, "name one of them as split"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_rgb(tmp_path, "sbsr")
    with pytest.raises(UserError, match=message):
        bursts(tmp_path, **{"layout": "sbsr", **options})


def test_a_split_without_truth(tmp_path: Path) -> None:
    for t in range(FRAMES):
        save(tmp_path / f"LR/b0/{t}.png", small(0, t))
    with pytest.raises(UserError, match="b0 has no ground truth"):
        bursts(tmp_path, "bursts")


def test_faulty_files_are_named(tmp_path: Path) -> None:
    write_rgb(tmp_path, "sbsr")
    with pytest.raises(UserError, match="im0"):
        bursts(tmp_path, "sbsr", gt_size=64).check_training()
    (tmp_path / "LR/im1/im1_x1_01.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"im1_x1_01\.png"):
        bursts(tmp_path, "sbsr")

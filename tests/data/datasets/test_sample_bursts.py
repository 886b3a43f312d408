"""The embedded bursts: fixed, disjoint, aligned, moved by sub-pixel shifts and noisy as stated."""

from __future__ import annotations

import socket
from typing import Any

import cv2
import numpy as np
import pytest

from srtoolbox.data.datasets.sample_bursts import PHOTOGRAPHS, SampleBursts
from srtoolbox.data.resize.array import imresize
from srtoolbox.errors import UserError


def bursts(split: str = "test", **options: Any) -> SampleBursts:
    return SampleBursts(split, **{"num_frame": 3, "gt_size": 32, **options})


def luma(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64).mean(0)


def test_form() -> None:
    sample = bursts()[0]
    assert sample["lq"].shape == (3, 3, 8, 8)
    assert sample["gt"].shape == (3, 32, 32)
    assert sample["lq"].dtype == sample["gt"].dtype == np.uint8
    assert sample["lq"].flags.c_contiguous
    assert sample["gt"].flags.c_contiguous
    assert SampleBursts.reference == 0


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_are_fixed_lists(split: str) -> None:
    one, two = bursts(split), bursts(split)
    assert len(one) == 12
    keys = [one[i]["key"] for i in range(12)]
    assert len(set(keys)) == 12
    for i in (0, 5, 11):
        assert np.array_equal(one[i]["lq"], two[i]["lq"])
        assert np.array_equal(one[i]["gt"], two[i]["gt"])
    assert not np.array_equal(one[0]["gt"], one[3]["gt"])  # another crop of one photograph
    with pytest.raises(IndexError):
        one[12]


def test_a_shorter_list_is_a_part_of_the_longer() -> None:
    assert np.array_equal(bursts(num_burst=2)[1]["lq"], bursts(num_burst=8)[1]["lq"])


def test_splits_share_no_photograph() -> None:
    names = [name for split in PHOTOGRAPHS.values() for name in split]
    assert len(set(names)) == len(names) == 12
    assert len(bursts("train")) == len(PHOTOGRAPHS["train"])


def test_validation_photographs_are_grey() -> None:
    gt = bursts("val")[0]["gt"]
    assert gt.std() > 0
    assert np.array_equal(gt[0], gt[1])
    assert np.array_equal(gt[0], gt[2])


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("no connection is needed")

    monkeypatch.setattr(socket, "socket", refuse)
    for split in PHOTOGRAPHS:
        dataset = bursts(split, gt_size=8, max_shift=1.25)  # a margin that no other test cached
        for index in range(len(PHOTOGRAPHS[split])):
            dataset.draw(index, np.random.default_rng(0))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_reference_frame_is_the_reduced_ground_truth(scale: int) -> None:
    dataset = bursts(scale=scale, gt_size=96, read_noise=(0, 0), shot_noise=(0, 0))
    for index in range(3):
        sample = dataset[index]
        small = imresize(sample["gt"].transpose(1, 2, 0), 1 / scale).transpose(2, 0, 1)
        inner = np.s_[..., 2:-2, 2:-2]  # there the crop's edge has no influence
        difference = small[inner].astype(int) - sample["lq"][0][inner]
        assert np.abs(difference).max() <= 1  # at most the tie of a rounding


def test_frames_differ_by_the_stated_sub_pixel_shifts() -> None:
    still = {"max_rotation": 0.0, "read_noise": (0, 0), "shot_noise": (0, 0)}
    dataset = bursts(gt_size=192, num_frame=6, max_shift=6.0, **still)
    shifts = []
    for index in range(6):
        frames = dataset[index]["lq"].mean(1, dtype=np.float32)
        for frame in frames[1:]:
            start = np.eye(2, 3, dtype=np.float32)
            stop = cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-6
            _, found = cv2.findTransformECC(
                frames[0], frame, start, cv2.MOTION_TRANSLATION, stop, None, 3
            )
            shifts.append(found[:, 2])
    shifts = np.abs(np.array(shifts))
    assert shifts.max() < 6 / 4 + 0.1  # max_shift in LR pixels, and the estimate's error
    assert shifts.max() > 1.25
    assert shifts.mean() == pytest.approx(6 / 4 / 2, rel=0.25)
    assert (np.abs(shifts - shifts.round()) > 0.1).mean() > 0.5  # not whole pixels


def test_without_motion_and_noise_frames_are_equal() -> None:
    still = bursts(max_shift=0.0, max_rotation=0.0, read_noise=(0, 0), shot_noise=(0, 0))
    frames = still[0]["lq"]
    assert (frames == frames[0]).all()


def test_rotation_moves_frames() -> None:
    options = {"max_shift": 0.0, "gt_size": 96, "read_noise": (0, 0), "shot_noise": (0, 0)}
    turned = bursts(max_rotation=5.0, **options)[0]["lq"].astype(int)
    change = np.abs(turned[1] - turned[0]).mean(0)
    assert change[8:16, 8:16].mean() < change[[0, -1]].mean()  # the corners move most


@pytest.mark.parametrize(("read", "shot"), [(6.0, 0.0), (0.0, 4e-3), (3.0, 2e-3)])
def test_noise_has_the_stated_variance(read: float, shot: float) -> None:
    options = {"max_shift": 0.0, "max_rotation": 0.0, "gt_size": 96, "num_frame": 40}
    sample = bursts(read_noise=(read, read), shot_noise=(shot, shot), **options)[1]
    clean = bursts(read_noise=(0, 0), shot_noise=(0, 0), **options)[1]["lq"][0] / 255
    frames = sample["lq"] / 255
    inside = (clean > 0.15) & (clean < 0.85)  # where nothing is clipped
    expected = (read / 255) ** 2 + shot * clean + 1 / 12 / 255**2  # and the rounding
    measured = ((frames - clean) ** 2).mean(0)
    assert measured[inside].mean() == pytest.approx(expected[inside].mean(), rel=0.05)


def test_noise_levels_vary_between_bursts() -> None:
    options = {"max_shift": 0.0, "max_rotation": 0.0, "num_frame": 8, "shot_noise": (0, 0)}
    dataset = bursts(read_noise=(1.0, 9.0), **options)
    levels = [dataset[i]["lq"].astype(float).std(0).mean() for i in range(6)]
    assert max(levels) > 1.5 * min(levels)


def test_training_draws() -> None:
    dataset = bursts("train")
    one, two = (dataset.draw(0, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(one["lq"], two["lq"])
    other = dataset.draw(0, np.random.default_rng(5))
    assert other["key"] == one["key"] == "coffee"
    assert not np.array_equal(one["gt"], other["gt"])


def test_every_frame_shows_the_scene_up_to_its_border() -> None:
    """The margin is wide enough: no frame shows what was made up beyond the patch."""
    options = {"gt_size": 96, "max_shift": 6.0, "max_rotation": 1.0}
    dataset = bursts("train", **options)
    wide = bursts("train", **options)
    wide.margin += 16
    for seed in range(4):
        y, x, side = 100, 100, 96 + 2 * wide.margin
        patch = np.random.default_rng(seed).integers(0, 256, (400, 400, 3), dtype=np.uint8)
        patch = cv2.GaussianBlur(patch, (0, 0), 2)
        large = patch[y : y + side, x : x + side]
        small = large[16:-16, 16:-16]
        views = [
            d._view(p, 1, np.random.default_rng(seed)) for d, p in ((dataset, small), (wide, large))
        ]
        assert np.abs(views[0] - views[1]).max() < 2 / 255


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gt_size": 30}, "gt_size 30 is not a multiple of scale 4"),
        ({"num_frame": 0}, "num_frame and num_burst must be at least 1"),
        ({"num_burst": 0}, "num_frame and num_burst must be at least 1"),
        ({"gt_size": 304}, "gt_size 304 is more than the 300 pixels .* 'test'"),
    ],
)
def test_impossible_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        bursts(**options)


@pytest.mark.parametrize(("split", "side"), [("train", 400), ("val", 300), ("test", 300)])
def test_largest_crop(split: str, side: int) -> None:
    dataset = SampleBursts(split, num_frame=1, gt_size=side)
    for index in range(len(PHOTOGRAPHS[split])):
        assert dataset.draw(index, np.random.default_rng(0))["gt"].shape == (3, side, side)


def test_colours_of_half_of_the_training_bursts_are_shuffled() -> None:
    plain = bursts("train", use_color_shuffle=False)
    shuffled = bursts("train", use_color_shuffle=True)
    orders = []
    for seed in range(40):
        one, other = (d.draw(0, np.random.default_rng(seed)) for d in (plain, shuffled))
        order = [
            next(i for i in range(3) if np.array_equal(other["gt"][c], one["gt"][i]))
            for c in range(3)
        ]
        assert np.array_equal(other["lq"], one["lq"][:, order])
        orders.append(tuple(order))
    assert len(set(orders)) >= 5
    assert 15 < orders.count((0, 1, 2)) < 32  # 40 · (1/2 + 1/2 · 1/6) are expected

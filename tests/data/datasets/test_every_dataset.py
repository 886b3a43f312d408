"""Properties of every dataset that can be trained on, drawn through the stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from srtoolbox.config.schema import build
from srtoolbox.data.base import dataset_info
from srtoolbox.data.stream import SampleStream
from srtoolbox.registry import DATASET_REGISTRY

BATCH, NUM_SOURCE = 2, 5


def save(path: Path, rng: np.random.Generator, *shape: int, deep: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = np.uint16 if deep else np.uint8
    assert cv2.imwrite(str(path), rng.integers(0, 4000 if deep else 256, shape).astype(kind))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, clips, bursts and RAW bursts, five of each."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i in range(NUM_SOURCE):
        save(folder / "images" / f"{i}.png", rng, 40 + 4 * i, 48, 3)
        for t in range(4):
            save(folder / "clips" / "GT" / f"{i}" / f"{t:08d}.png", rng, 40, 48, 3)
            save(folder / "clips" / "LR" / f"{i}" / f"{t:08d}.png", rng, 10, 12, 3)
        for t in range(3):
            save(folder / "bursts" / "LR" / f"{i}" / f"{i}_x1_{t:02d}.png", rng, 10, 12, 3)
            raw = folder / "raw" / "train" / f"{i:04d}" / f"samsung_{t:02d}" / "im_raw.png"
            save(raw, rng, 10, 10, 4, deep=True)
        save(folder / "bursts" / "HR" / f"{i}" / f"{i}_x4.png", rng, 40, 48, 3)
        save(
            folder / "raw" / "train" / f"{i:04d}" / "canon" / "im_raw.png",
            rng,
            80,
            80,
            3,
            deep=True,
        )
    return folder


CASES: dict[str, dict[str, Any]] = {
    "images": {"type": "PairedImages", "dataroot_gt": "images", "gt_size": 16},
    "images, cached": {
        "type": "PairedImages",
        "dataroot_gt": "images",
        "gt_size": 16,
        "cache": "cache",
    },
    "clips": {"type": "Clips", "dataroot": "clips", "num_frame": 3, "gt_size": 16},
    "clips backwards, all frames": {
        "type": "Clips",
        "dataroot": "clips",
        "num_frame": 3,
        "gt_size": 16,
        "target": "all",
        "random_reverse": True,
        "cache": "cache",
    },
    "degraded images": {
        "type": "PairedImages",
        "dataroot_gt": "images",
        "gt_size": 16,
        "degradation": {"type": "real_esrgan", "margin": 8},
    },
    "degraded images of the workers": {
        "type": "PairedImages",
        "dataroot_gt": "images",
        "gt_size": 16,
        "degradation": {"type": "bsrgan", "margin": 8},
        "on_device": False,
    },
    "degraded clips": {
        "type": "Clips",
        "dataroot": "clips",
        "num_frame": 3,
        "gt_size": 16,
        "degradation": {"type": "first_order", "margin": 8},
    },
    "bursts": {
        "type": "Bursts",
        "layout": "sbsr",
        "dataroot": "bursts",
        "num_frame": 3,
        "gt_size": 16,
    },
    "raw bursts": {
        "type": "Bursts",
        "layout": "burstsr",
        "split": "train",
        "dataroot": "raw",
        "scale": 8,
        "num_frame": 3,
        "gt_size": 32,
    },
    "synthetic bursts": {
        "type": "SyntheticBursts",
        "dataroot": "images",
        "num_frame": 3,
        "gt_size": 16,
    },
    "synthetic raw bursts": {
        "type": "SyntheticBursts",
        "dataroot": "images",
        "pipeline": "raw",
        "scale": 8,
        "num_frame": 3,
        "gt_size": 16,
    },
    "synthetic bursts on the device": {
        "type": "SyntheticBursts",
        "dataroot": "images",
        "num_frame": 3,
        "gt_size": 16,
        "on_device": True,
    },
    "SBSR bursts": {
        "type": "SBSRBursts",
        "dataroot": "images",
        "num_frame": 3,
        "gt_size": 16,
    },
    "space and time": {
        "type": "SpaceTimeClips",
        "dataroot": "clips",
        "num_frame": 2,
        "gt_size": 16,
        "random_reverse": True,
        "flow": "DIS",
    },
    "sample bursts": {"type": "SampleBursts", "num_frame": 3, "gt_size": 16},
}
every_dataset = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def make(root: Path) -> Callable[[str], Any]:
    def build_one(name: str) -> Any:
        paths = ("dataroot", "dataroot_gt", "cache")
        spec = {k: str(root / v) if k in paths else v for k, v in CASES[name].items()}
        return build("dataset", spec)

    return build_one


def batches(dataset: Any, start: int, stop: int, **given: int) -> list[dict[str, Any]]:
    workers = given.pop("workers", 0)
    return list(SampleStream(dataset, 7, BATCH, **given).batches(start, stop, workers))


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert len(ours) == len(theirs)
    for our_batch, their_batch in zip(ours, theirs, strict=True):
        assert our_batch["key"] == their_batch["key"]
        assert torch.equal(our_batch["lq"], their_batch["lq"])
        assert torch.equal(our_batch["gt"], their_batch["gt"])


def test_all_are_here() -> None:
    assert {case["type"] for case in CASES.values()} == set(DATASET_REGISTRY.names())


@every_dataset
def test_batches_are_what_networks_expect(make, name: str) -> None:
    dataset = make(name)
    info = dataset_info(dataset)
    if info.check_training is not None:
        info.check_training()
    (batch,) = batches(dataset, 0, 1)
    lq, gt = batch["lq"], batch["gt"]
    size = info.gt_size // dataset.scale
    assert lq.shape == (BATCH, dataset.num_frame, info.channels, size, size)
    frames = ()
    if dataset.reference is None:
        frames = (info.time_scale * (dataset.num_frame - 1) + 1,)
    assert gt.shape == (BATCH, *frames, 3, info.gt_size, info.gt_size)
    for pixels in (lq, gt):
        assert pixels.dtype == torch.float32
        assert pixels.is_contiguous()
        assert 0 <= pixels.min() < pixels.max() <= 1


@every_dataset
def test_the_optional_attributes_agree_with_the_samples(make, name: str) -> None:
    dataset = make(name)
    info = dataset_info(dataset)
    assert (info.num_source or len(dataset)) == (6 if name == "sample bursts" else NUM_SOURCE)
    assert info.clip_names is None or len(info.clip_names) == len(dataset)
    assert info.paths is None or all(path.is_file() for path in info.paths())
    assert (info.paths is None) == (name == "sample bursts")


@every_dataset
def test_samples_depend_on_nothing_but_seed_step_and_index(make, name: str) -> None:
    """Not on global random numbers, what was drawn before, or which object draws."""
    expected = batches(make(name), 0, 4)
    dataset = make(name)
    np.random.seed(1)  # noqa: NPY002 (what must not matter)
    torch.manual_seed(1)
    for step in (3, 0, 2, 1):  # as after a resume at any step
        torch.rand(1)
        assert_same(batches(dataset, step, step + 1), expected[step : step + 1])
    assert_same(batches(dataset, 2, 4), expected[2:])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@every_dataset
def test_workers_change_nothing(make, name: str) -> None:
    """Other numbers of workers are tested with the stream."""
    dataset = make(name)
    assert_same(batches(dataset, 0, 2, workers=2), batches(dataset, 0, 2))


@every_dataset
def test_two_ranks_share_the_samples_of_one(make, name: str) -> None:
    dataset = make(name)
    single = batches(dataset, 1, 3)
    ranks = [batches(dataset, 1, 3, rank=rank, world_size=2) for rank in range(2)]
    for step, whole in enumerate(single):
        for index in range(BATCH):
            part = ranks[index % 2][step]
            assert part["key"] == whole["key"][index : index + 1]
            torch.testing.assert_close(part["lq"][0], whole["lq"][index])
            torch.testing.assert_close(part["gt"][0], whole["gt"][index])


@every_dataset
def test_each_source_once_a_pass_and_each_time_otherwise(make, name: str) -> None:
    dataset = make(name)
    stream = SampleStream(dataset, 3, 1)
    length = stream.num_source
    found = list(stream.batches(0, 3 * length))
    for lap in range(3):
        drawn = Counter(batch["key"][0] for batch in found[lap * length : (lap + 1) * length])
        assert set(drawn.values()) == {1}
        assert len(drawn) == length
    by_key: dict[str, list[torch.Tensor]] = {}
    for batch in found:
        by_key.setdefault(batch["key"][0], []).append(batch["gt"])
    assert any(not torch.equal(crops[0], crops[1]) for crops in by_key.values())


def test_a_cache_changes_no_sample(make) -> None:
    assert_same(batches(make("images, cached"), 0, 3), batches(make("images"), 0, 3))

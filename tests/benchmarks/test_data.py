"""Measurements on tiny pictures: what is reported, never how fast."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch

from benchmarks.data import DataOptions, measure_data, report_data
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import check
from srtoolbox.errors import UserError

CPU = torch.device("cpu")
TREE = {
    "name": "tiny",
    "images": {"size": [64, 96], "count": 2},
    "clips": {"size": [64, 64], "count": 1, "num_frame": 3},
    "bursts": {"size": [64, 64], "count": 1, "num_frame": 2},
    "gt_size": 32,
    "tile": 48,
    "batch_size": 2,
    "num_worker": [0, 1],
    "seconds": 0.001,
    "rounds": 1,
    "data_wait": {
        "arch": {"type": "EDSR", "num_feat": 4, "num_block": 1},
        "batch_size": 2,
        "num_worker": [0],
        "steps": 1,
    },
}


def options(**changes) -> DataOptions:
    return check({**TREE, **changes}, DataOptions)


@pytest.mark.slow
def test_everything_is_measured_and_no_file_is_left(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opt = options()
    rates, waits = results = measure_data(opt, CPU)
    assert [(rate.data, rate.storage) for rate in rates] == [
        (data, storage)
        for data in ("images", "clips", "bursts")
        for storage in ("PNG", "sub-images", "cache")
    ]
    for rate in rates:
        assert list(rate.samples) == [0, 1]
        assert all(len(one) == 1 and one[0] > 0 for one in rate.samples.values())
    assert [(wait.storage, wait.num_worker) for wait in waits] == [("PNG", 0), ("cache", 0)]
    assert all(wait.step[0] > 0 and 0 <= wait.wait[0] <= 1 for wait in waits)
    assert not list(tmp_path.glob("srtoolbox-bench-*"))

    report = report_data(results, opt, CPU)
    samples, steps = report.tables
    assert samples.head == ["data", "storage", "0 workers", "×", "1 worker", "×"]
    assert [row[3::2] for row in samples.rows if row[1] == "PNG"] == [["1", "1"]] * 3
    assert [row[:2] for row in steps.rows] == [["PNG", "0"], ["cache", "0"]]
    assert any(
        "2 images of 96×64; 1 clips of 64×64, 3 frames per sample" in note for note in report.notes
    )
    assert report.results["samples_per_second"][0]["samples"][0] == rates[0].samples[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gt_size": 30}, "gt_size: 30 is not a multiple of scale 4"),
        ({"tile": 50}, "tile: 50 is not a multiple of scale 4"),
        ({"gt_size": 56}, "gt_size: 56 is more than the 48 of a picture"),
        ({"images": None}, "data_wait: needs images"),
        (
            {"images": None, "clips": None, "bursts": None, "data_wait": None},
            "images: describe images, clips or bursts",
        ),
        ({"num_worker": [-1]}, "num_worker.0: must be >= 0"),
    ],
)
def test_faulty_options(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        options(**changes)


def test_a_network_for_clips_is_refused_before_files_are_made(monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.data.write_pictures", None)
    arch = {"type": "EDVR", "num_feat": 8, "deformable_groups": 2}
    with pytest.raises(UserError, match=r"data_wait.arch: EDVR takes 5 frames"):
        measure_data(options(data_wait={"arch": arch}), CPU)


def test_the_shipped_options_fit() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "data.yml"
    opt, _ = load_options(path, (), DataOptions)
    assert set(opt.pictures) == {"images", "clips", "bursts"} and opt.num_worker == [0, 1, 2]

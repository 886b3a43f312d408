"""Trainings in parallel processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srtoolbox.comparison.study import parallel
from srtoolbox.comparison.study.parallel import count_workers, train_in_parallel
from srtoolbox.config.load import load_options
from srtoolbox.engine.options import RunOptions
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
RUN = """
name: run
datasets: {train: {type: SampleBursts, num_frame: 1, gt_size: 32}}
network_g: {type: EDSR, num_feat: 4, num_block: 1}
train: {total_iter: 2, batch_size: 1}
logger: {print_freq: 1, use_tb_logger: false}
"""


@pytest.mark.parametrize(
    ("jobs", "trainings", "threads", "expected"),
    [
        (1, 5, 1, 1),
        (4, 5, 1, 4),
        (8, 5, 1, 4),
        (4, 2, 1, 2),
        (4, 5, 2, 2),
        (4, 5, 9, 1),
        (4, 5, None, 4),
        (4, 0, 1, 1),
    ],
)
def test_no_more_trainings_in_parallel_than_cores(
    monkeypatch, jobs: int, trainings: int, threads: int | None, expected: int
) -> None:
    monkeypatch.setattr(parallel, "cpu_count", lambda: 4)
    assert count_workers(jobs, trainings, CPU, threads) == expected


def test_one_training_per_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert count_workers(8, 5, torch.device("cuda"), 1) == 2
    assert count_workers(8, 5, torch.device("cuda:1"), 1) == 1


@pytest.mark.slow
def test_trainings_end_in_their_folders_and_failures_are_returned(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    path.write_text(RUN)
    good, _ = load_options(path, (), RunOptions)
    bad, _ = load_options(path, ["train.optim_g={type: Adam, lr: 1e36}"], RunOptions)
    trainings = {tmp_path / "good": good, tmp_path / "bad": bad}
    failures = train_in_parallel(trainings, CPU, workers=2, threads=1)
    assert list(failures) == [tmp_path / "bad"]
    assert "non-finite at step" in failures[tmp_path / "bad"]
    assert (tmp_path / "good" / "finished.json").exists()
    assert [line["step"] for line in read_lines(tmp_path / "good" / "log.jsonl")] == [1, 2]

"""Trainings and evaluations in parallel processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.studies import compare, stored
from support.works import Done, Endless, Killed, Stopped, process_id, wait_until

from srtoolbox.comparison.study import parallel
from srtoolbox.comparison.study.parallel import (
    Processes,
    Task,
    count_workers,
    run_in_parallel,
)
from srtoolbox.errors import RunError

CPU = torch.device("cpu")
JOB: Any = SimpleNamespace()
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


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


class InTurn:
    """Workers whose oldest task ends first; a task whose work is a text fails with that text."""

    def __init__(self, count: int) -> None:
        self.count, self.started, self.running = count, [], []

    def __enter__(self) -> InTurn:
        return self

    def __exit__(self, *_: object) -> None: ...

    def start(self, name: str, work: Any) -> None:
        self.started.append(name)
        self.running.append((name, work if isinstance(work, str) else None))
        assert len(self.running) <= self.count

    def wait(self) -> tuple[str, str | None]:
        return self.running.pop(0)


def make(name: str, work: Any = 1, **facts: Any) -> Task:
    return Task(name, JOB, lambda: work, **facts)


TASKS = [
    make("train a", is_training=True),
    make("train b", "diverged", is_training=True),
    make("train c", is_training=True),
    make("Bicubic, seed 0"),
    make("Bicubic, seed 1", None, after="Bicubic, seed 0"),
    make("a", training="train a"),
    make("a enhanced", "memory", training="train a", after="a"),
    make("b", training="train b"),
    make("b enhanced", training="train b", after="b"),
    make("c", training="train c"),
]


@pytest.mark.parametrize("count", [1, 2, 20])
def test_evaluations_follow_their_trainings(count: int) -> None:
    workers = InTurn(count)
    ended = {task.name: failure for task, failure in run_in_parallel(TASKS, workers)}
    assert ended == {
        "train a": None, "train b": "diverged", "train c": None, "a": None, "a enhanced": "memory",
        "c": None, "Bicubic, seed 0": None, "Bicubic, seed 1": None,
    }  # fmt: skip
    orders = {
        1: "train a, a, a enhanced, train b, train c, c, Bicubic, seed 0",
        2: "train a, train b, a, train c, a enhanced, c, Bicubic, seed 0",
        20: "train a, train b, train c, Bicubic, seed 0, a, c, a enhanced",
    }
    assert ", ".join(workers.started) == orders[count]


THREADS = """
import torch
from srtoolbox import METRIC_REGISTRY
from srtoolbox.metrics.base import Metric


@METRIC_REGISTRY.register()
class Threads(Metric):
    def score(self, sr, gt, protocol, scale):
        return float(torch.get_num_threads())
"""
UNTRAINED = """
plugins: [./threads.py]
train: !delete
datasets: {train: !delete}
val: {metrics: {threads: {type: Threads}, psnr: {type: PSNR}}}
methods:
  EDSR: {train: null}
  EDVR: !delete
"""


@pytest.mark.slow
def test_evaluations_in_parallel_are_those_of_one_process(
    study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results also have the order of one process, and the threads of one process."""
    (tmp_path / "threads.py").write_text(THREADS)
    monkeypatch.setattr(parallel, "cpu_count", lambda: 3)
    path = study_file(UNTRAINED)
    torch.set_num_threads(2)
    try:
        one = compare(path, "name=one")
        two = compare(path, "name=two", "jobs=2")
    finally:
        torch.set_num_threads(1)
    first, second = stored(one), stored(two)
    assert second == first
    records = one.records(one.load_card().entries[0].evaluations["sample"])
    assert {record["metrics"]["threads"] for record in records} == {2.0}
    assert not (two.folder / "parts").exists()


@pytest.fixture
def run_all(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Starts works and sends SIGTERM to this process when all run."""

    def run(*works: Any) -> None:
        with Processes(len(works), CPU) as processes:
            for work in works:
                processes.start(work.name, work)
            wait_until(lambda: all(process_id(tmp_path, work.name) for work in works))
            signal.raise_signal(signal.SIGTERM)

    yield run
    left = multiprocessing.active_children()  # of a test that fails
    for process in left:
        process.kill()


@posix
@pytest.mark.slow
class TestSignals:
    def test_every_training_saves(self, run_all, tmp_path: Path, capfd) -> None:
        """Those that need longer get more signals: from the pool, or if all processes get them."""
        works = (
            Stopped(tmp_path, "first"),
            Stopped(tmp_path, "last", after=("first",), repeats=2),
            Stopped(tmp_path, "failed", after=("first",), repeats=1, fails=True),
            Endless(tmp_path, "evaluation"),
        )
        with pytest.raises(KeyboardInterrupt):
            run_all(*works)
        assert {path.name for path in tmp_path.glob("*") if not path.suffix} == {"first", "last"}
        assert not multiprocessing.active_children()
        assert "after the signal: the disk is broken" in capfd.readouterr().err

    def test_a_second_one_ends_a_process_that_hangs(self, run_all, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            run_all(Stopped(tmp_path, "hangs", hangs=True))
        for process in multiprocessing.active_children():
            process.join(30)
        assert not multiprocessing.active_children()

    def test_a_process_that_is_killed_lets_the_others_save(self, tmp_path: Path) -> None:
        idle: Any = Done()
        killed: Any = Killed(tmp_path, "killed", after=("other",))
        other: Any = Stopped(tmp_path, "other", after=("killed.pid",), repeats=1)
        with (
            pytest.raises(RunError, match="a process died in a training or an evaluation"),
            Processes(3, CPU) as processes,
        ):
            processes.start("idle", idle)
            processes.start("killed", killed)
            processes.start("other", other)
            assert processes.wait() == ("idle", None)
            processes.wait()
        assert (tmp_path / "other").exists()
        assert not multiprocessing.active_children()

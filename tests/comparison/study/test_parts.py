"""Results of other processes, which end in any order, become those of one process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.studies import compare, stored

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.store import ResultStore
from srtoolbox.comparison.study import parallel, run, work
from srtoolbox.comparison.study.evaluate import StudyEvaluator
from srtoolbox.comparison.study.launcher import forget_old_jobs
from srtoolbox.comparison.study.plan import StudyPlan
from srtoolbox.comparison.study.tasks import StudyTasks
from srtoolbox.config.load import load_options
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.errors import ComponentError, RunError, UserError
from srtoolbox.utils.files import write_atomic

SETS = "{{type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: {}}}"
STUDY = f"""
train: !delete
datasets: {{train: !delete, val: !delete, test: {{a: {SETS.format(2)}, b: {SETS.format(1)}}}}}
seeds: [0, 1]
protocols: [rgb, basicsr-y]
jobs: 3
threads: 1
report: {{frame_use: [a], num_image: 1}}
methods:
  EDSR: {{train: null}}
  EDVR: {{train: null}}
"""


class Reversed:
    """Stands for processes: does the work here, the newest first."""

    def __init__(self, count: int, *_: object) -> None:
        self.count, self.running = count, []

    def __enter__(self) -> Reversed:
        return self

    def __exit__(self, *_: object) -> None: ...

    def start(self, name: str, work: Any) -> None:
        self.running.append((name, work))

    def wait(self) -> tuple[str, str | None]:
        name, work = self.running.pop()
        try:
            work.run(torch.device("cpu"))
        except (RunError, ComponentError) as error:
            return name, str(error)
        return name, None


@pytest.fixture
def study(study_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parallel, "cpu_count", lambda: 3)
    monkeypatch.setattr(run, "Processes", Reversed)
    return study_file(STUDY)


@pytest.mark.slow
def test_results_in_any_order_end_in_the_order_of_one_process(study: Path) -> None:
    one = stored(compare(study, "name=one", "jobs=1"))
    assert len(one["records"]) == 3 * 2 * (1 + 2 + 2) and len(one["frame use"]) == 2
    store = compare(study, "name=three")
    assert stored(store) == one
    assert not (store.folder / "parts").exists()
    files = {path: path.read_bytes() for path in store.folder.glob("*.jsonl")}
    compare(study, "name=three")
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.slow
def test_an_interrupted_evaluation_repeats_no_finished_test_set(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stored(compare(study, "name=one", "jobs=1"))
    evaluate, sizes, interrupt = Evaluator.run, [], [4]

    def run_and_die(self: Evaluator, net: Any, dataset: Any, *args: Any, **options: Any) -> Any:
        if self.metrics:  # not the look for trivial outputs
            if len(sizes) in interrupt:
                interrupt.clear()
                raise KeyboardInterrupt
            sizes.append(len(dataset))
        return evaluate(self, net, dataset, *args, **options)

    monkeypatch.setattr(Evaluator, "run", run_and_die)
    with pytest.raises(KeyboardInterrupt):
        compare(study, "name=three")
    assert len(sizes) == 4
    assert stored(compare(study, "name=three")) == one
    # Bicubic once; two networks with two seeds; the gain of one of them.
    assert sorted(sizes) == sorted([2, 1, *2 * 2 * [2, 1], *2 * [2]])


@pytest.mark.slow
def test_a_part_of_other_options_is_removed(study: Path) -> None:
    folder = compare(study, "jobs=1").folder
    old = folder / "parts" / "EDSR-s0-01234567"
    old.mkdir(parents=True)
    compare(study, "report.frame_use=true")
    assert not (folder / "parts").exists()


def test_jobs_of_an_ended_command_are_named_and_their_parts_stay(
    study: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They may be running on other machines."""
    folder = compare(study, "jobs=1").folder
    assert "jobs that an earlier command submitted" not in caplog.text
    (name,) = [name for name in tasks_of(study, "name=tiny").names() if "EDVR-s1" in name]
    entries = []
    for number, task in ((17, name), (18, "evaluate-EDVR-s1-01234567e")):
        entries.append(folder / "parts" / task.removeprefix("evaluate-") / "entry.json")
        write_atomic(entries[-1], "{}")
        submit(folder, task, number)
    compare(study)
    assert all(entry.exists() for entry in entries)
    # This command does not do the work of jobs of other options.
    assert caplog.text.count("an earlier command submitted are not collected: 17; this") == 1
    compare(study, "report.frame_use=true")
    assert all(entry.exists() for entry in entries)
    assert caplog.text.count("are not collected") == 1


def submit(folder: Path, task: str, number: int) -> Path:
    """Writes what a command with a launcher stores of a job of SLURM."""
    file = folder / "launcher" / f"{task}.json"
    write_atomic(file, json.dumps({"launcher": "slurm", "id": str(number), "submissions": 1}))
    return file


def tasks_of(study: Path, *overrides: str, only: tuple[str, ...] = ()) -> StudyTasks:
    opt, tree = load_options(study, overrides, StudyOptions)
    plan = StudyPlan(opt, tree, torch.device("cpu"), only)
    store = ResultStore(plan.folder)
    return StudyTasks(plan, store, StudyEvaluator(plan, store), elsewhere=True)


def test_parts_of_jobs_that_still_run_stay_though_the_options_have_changed(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    listed = "echo 'JobID|State|NodeList'; echo '31|RUNNING|'; echo '32|CANCELLED|'"
    (tmp_path / "sacct").write_text(f"#!/bin/sh\n{listed}\n")
    (tmp_path / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tasks = tasks_of(study, only=("EDVR",))
    (current,) = (name for name in tasks.names() if "-s0-" in name)
    names = [
        "evaluate-EDVR-s0-01234567e",  # it runs
        "evaluate-EDVR-s1-01234567e",  # it has ended
        "evaluate-EDSR-s0-01234567e",  # of a method that the command leaves out
        current,
    ]
    folder = tmp_path / "experiments" / "compare" / "tiny"
    parts = [folder / "parts" / name.removeprefix("evaluate-") for name in names]
    for part in parts:
        part.mkdir(parents=True)
    files = [submit(folder, name, number) for number, name in enumerate(names, start=31)]
    running = forget_old_jobs(folder, tasks.is_current)
    assert running == {names[0]: "31"}
    assert [file.exists() for file in files] == [True, False, True, True]
    tasks.remove_old_parts(running)
    assert [part.exists() for part in parts] == [True, False, True, True]


def test_a_damaged_part_is_named(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Reversed):
        def wait(self) -> tuple[str, str | None]:
            _, work = self.running[-1]
            name, why = super().wait()
            (work.folder / "entry.json").write_text('{"entry": 3}')
            return name, why

    monkeypatch.setattr(run, "Processes", Broken)
    with pytest.raises(UserError, match=r"entry\.json is damaged: entry must be a dictionary.* 3"):
        compare(study)


@pytest.mark.parametrize(
    ("name", "expected", "message"),
    [
        ("LPIPS", "0123", r"metric own cannot be computed on .*LPIPS needs .* The machine of the"),
        ("PSNR", None, r"metric own can be computed on .*, but not on the machine of the command"),
        ("PSNR", "0123", r"metric own has other weights on .* than on the machine of the command"),
    ],
)
def test_a_job_compares_the_metrics_before_its_work(
    study_file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    expected: str | None,
    message: str,
) -> None:
    """A node may lack the weights of a metric, which its results are identified by."""
    monkeypatch.setattr(work, "train", lambda *_, **__: pytest.fail("it trains"))
    monkeypatch.setattr(work, "JobPlan", lambda *_, **__: pytest.fail("it evaluates"))
    overrides = [f"val.metrics={{own: {{type: {name}}}}}", "methods.EDVR=!delete"]
    plan = StudyPlan(*load_options(study_file(), overrides, StudyOptions), torch.device("cpu"))
    store = ResultStore(plan.folder)
    tasks = StudyTasks(plan, store, StudyEvaluator(plan, store), elsewhere=True)
    pending = tasks.pending({})
    assert [task.is_training for task in pending] == [True, False, False]
    for task in pending:
        made = task.work()
        assert made is not None
        with pytest.raises(RunError, match=message):
            replace(made, metrics={"own": expected}).run(torch.device("cpu"))
        assert made.metrics == {"own": None if name == "LPIPS" else ""}

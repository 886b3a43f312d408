"""Equal iterations, time and FLOPs of trainings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.studies import compare

from srtoolbox.comparison.options import BudgetOptions, StudyOptions
from srtoolbox.comparison.study.budget import Budget, training_flops
from srtoolbox.comparison.study.plan import StudyPlan, list_jobs
from srtoolbox.config.load import load_options
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.profiling import TrainingStep
from srtoolbox.errors import UserError

CPU = torch.device("cpu")


def runs_of(path: Path) -> dict[str, RunOptions]:
    """The trained methods of the tiny study."""
    jobs = list_jobs(*load_options(path, (), StudyOptions))
    return {job.method: job.opt for job in jobs if job.method != "Bicubic"}


def iterations(path: Path) -> dict[str, int]:
    plan = StudyPlan(*load_options(path, (), StudyOptions), CPU)
    return {job.method: job.opt.train.total_iter for job in plan.jobs if job.folder}


def test_without_a_budget_all_methods_have_the_same_iterations(study_file) -> None:
    plan = StudyPlan(*load_options(study_file(), (), StudyOptions), CPU)
    assert iterations(study_file()) == {"EDSR": 6, "EDVR": 6}
    assert plan.budget.describe() is None


def test_as_many_iterations_as_a_method_or_a_number(study_file) -> None:
    own = "methods: {EDVR: {train: {total_iter: 9}}}"
    assert iterations(study_file(f"budget: {{of: EDVR}}\n{own}")) == {"EDSR": 9, "EDVR": 9}
    assert iterations(study_file("budget: {of: 12}")) == {"EDSR": 12, "EDVR": 12}


def test_equal_flops(study_file) -> None:
    per_step = {name: training_flops(run, CPU) for name, run in runs_of(study_file()).items()}
    pixels, feat = 8 * 8, 4
    macs = 9 * pixels * (3 * feat + 3 * feat**2 + 4 * feat**2 + 4 * 4 * feat**2 + 16 * feat * 3)
    assert per_step["EDSR"] == 2 * 3 * 2 * macs  # batch, forward and backward, multiply and add
    path = study_file("train: {total_iter: 600}\nbudget: {kind: flops, of: EDVR}")
    plan = StudyPlan(*load_options(path, (), StudyOptions), CPU)
    given = {job.method: job.opt.train.total_iter for job in plan.jobs if job.folder}
    assert given["EDVR"] == 600
    assert given["EDSR"] == round(600 * per_step["EDVR"] / per_step["EDSR"])
    assert plan.budget.describe().startswith("equal training FLOPs, those of EDVR")
    assert not any(job.deviations for job in plan.jobs)


@pytest.mark.slow
def test_a_varying_number_of_frames_costs_the_mean_of_fewest_and_most(study_file) -> None:
    method = "network_g: {type: DSTCSRNetPlus, num_feat: 8, num_block: 1}"

    def flops(train: str) -> int:
        path = study_file(f"methods: {{DSTC: {{{method}, train: {train}}}}}")
        return training_flops(runs_of(path)["DSTC"], CPU)

    fewest, most = flops("{num_frame_range: [1, 1]}"), flops("{}")
    assert fewest < most
    assert flops("{num_frame_range: [1, 3]}") == (fewest + most) // 2


@pytest.mark.slow
def test_equal_time_is_measured_once(study_file, monkeypatch) -> None:
    path = study_file("budget: {kind: time, of: 3.0}")
    measured = iter([0.1] * 3 + [0.5] * 3)
    monkeypatch.setattr(
        "srtoolbox.comparison.study.budget.TrainingStep.seconds", lambda _: next(measured)
    )
    card = compare(path).load_card()
    steps = {entry.method: entry.steps for entry in card.entries}
    assert steps == {"Bicubic": 0, "EDSR": 30, "EDVR": 6}
    assert "iterations: EDSR 30, EDVR 6." in card.remarks()[0]
    assert iterations(path) == {"EDSR": 30, "EDVR": 6}  # nothing is measured again


def test_step_times_are_the_median_and_are_kept(study_file, tmp_path: Path, monkeypatch) -> None:
    runs = {"EDSR": runs_of(study_file())["EDSR"]}
    seconds = iter([9.0, 0.5, 0.25])
    monkeypatch.setattr(TrainingStep, "seconds", lambda _: next(seconds))
    file = tmp_path / "budget.json"
    budget = Budget(BudgetOptions("time", 10.0), CPU, file)
    assert budget.iterations_for(runs) == {"EDSR": 20}
    assert budget.iterations_for(runs) == {"EDSR": 20}
    assert not file.exists()
    budget.save()
    assert list(json.loads(file.read_text()).values()) == [0.5]
    assert Budget(BudgetOptions("time", 4.0), CPU, file).iterations_for(runs) == {"EDSR": 8}


def test_iterations_must_suit_the_schedule(study_file, tmp_path: Path) -> None:
    runs = runs_of(study_file("train: {warmup_iter: 4}"))
    budget = Budget(BudgetOptions("iterations", 2.0), CPU, tmp_path / "none.json")
    with pytest.raises(UserError, match=r"method EDSR: the budget gives 2 iterations.*warmup_iter"):
        budget.iterations_for(runs)


@pytest.mark.parametrize(
    ("opt", "text"),
    [
        (BudgetOptions(), None),
        (BudgetOptions("iterations", 2000.0), "equal iterations, 2,000 iterations"),
        (BudgetOptions("iterations", "EDSR"), "equal iterations, those of EDSR"),
        (
            BudgetOptions("time", 240.0),
            "equal training time, 240 seconds (forward and backward pass of a batch, measured "
            "before the trainings)",
        ),
    ],
)
def test_the_budget_in_words(tmp_path: Path, opt: BudgetOptions, text: str | None) -> None:
    assert Budget(opt, CPU, tmp_path / "none.json").describe() == text

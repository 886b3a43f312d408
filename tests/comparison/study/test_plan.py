"""What a study file may ask for."""

from __future__ import annotations

import pytest
import torch

from srtoolbox.comparison.options import BudgetOptions, StudyOptions
from srtoolbox.comparison.study.budget import Budget, training_flops
from srtoolbox.comparison.study.plan import plan
from srtoolbox.comparison.study.run import Study, run_study
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import OptionErrors
from srtoolbox.errors import UserError

CPU = torch.device("cpu")


def open_study(path, *overrides: str) -> Study:
    study = Study(*load_options(path, overrides, StudyOptions), CPU)
    study.open()
    return study


def iterations(study: Study) -> dict[str, int]:
    return {j.method: j.opt.train.total_iter for j in study.jobs if j.method in study.trained}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("protocols: [rgb, basicsr]", r"protocols.1: unknown protocol 'basicsr'; did you mean"),
        ("protocols: [rgb, rgb]", r"study.yml:2: protocols: name each once"),
        ("budget: {kind: flops}", r"budget.of: name the method that sets the budget"),
        ("budget: {kind: time, of: EDSF}", r"budget.of: no method 'EDSF'; there are: Bicubic"),
        ("budget: {of: 0}", r"budget.of: must be > 0"),
        (
            "budget: {kind: flops, of: EDSR}\nmethods: {EDVR: {train: {total_iter: 4}}}",
            r"methods.EDVR.train.total_iter: the budget says how many",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(study_file, extra: str, message: str) -> None:
    with pytest.raises(OptionErrors, match=message):
        load_options(study_file(extra), (), StudyOptions)


def test_the_budget_is_that_of_a_method_that_is_trained(study_file) -> None:
    with pytest.raises(UserError, match=r"budget\.of: Bicubic is not trained here"):
        open_study(study_file("budget: {kind: flops, of: Bicubic}"))


def test_without_a_budget_everybody_has_the_same_iterations(study_file) -> None:
    study = open_study(study_file())
    assert iterations(study) == {"EDSR": 6, "EDVR": 6}
    assert study.card.budget is None
    assert study.card.training.startswith("6 iterations with batch 2")


def test_as_many_iterations_as_a_method_or_a_number(study_file) -> None:
    own = "methods: {EDVR: {train: {total_iter: 9}}}"
    assert iterations(open_study(study_file(f"budget: {{of: EDVR}}\n{own}"))) == {
        "EDSR": 9,
        "EDVR": 9,
    }
    assert iterations(open_study(study_file("budget: {of: 12}"))) == {"EDSR": 12, "EDVR": 12}


def test_equal_flops(study_file) -> None:
    opt, tree = load_options(study_file(), (), StudyOptions)
    per_step = {job.method: training_flops(job.opt, CPU) for job in plan(opt, tree)[1:]}
    pixels, feat = 8 * 8, 4
    macs = 9 * pixels * (3 * feat + 3 * feat**2 + 4 * feat**2 + 4 * 4 * feat**2 + 16 * feat * 3)
    assert per_step["EDSR"] == 2 * 3 * 2 * macs  # batch, forward and backward, multiply and add
    study = open_study(study_file("train: {total_iter: 600}\nbudget: {kind: flops, of: EDVR}"))
    given = iterations(study)
    assert given["EDVR"] == 600
    assert given["EDSR"] == round(600 * per_step["EDVR"] / per_step["EDSR"])
    assert study.card.budget.startswith("equal training FLOPs, those of EDVR")
    assert not any(job.deviations for job in study.jobs)


def test_a_varying_number_of_frames_costs_the_mean_of_fewest_and_most(study_file) -> None:
    method = "network_g: {type: DSTCSRNet, num_feat: 8, num_block: 1, num_head: 2}"

    def flops(train: str) -> int:
        file = study_file(f"methods: {{DSTC: {{{method}, train: {train}}}}}")
        return training_flops(next(j for j in plan(*load(file)) if j.method == "DSTC").opt, CPU)

    def load(file):
        return load_options(file, (), StudyOptions)

    few, many = flops("{num_frame_range: [1, 1]}"), flops("{}")
    assert few < many
    assert flops("{num_frame_range: [1, 3]}") == (few + many) // 2


def test_equal_time_is_measured_once(study_file, monkeypatch) -> None:
    path = study_file("budget: {kind: time, of: 3.0}")
    measured = iter([0.1] * 3 + [0.5] * 3)
    monkeypatch.setattr(
        "srtoolbox.comparison.study.budget.TrainingStep.seconds", lambda _: next(measured)
    )
    opt, tree = load_options(path, (), StudyOptions)
    store = run_study(opt, tree, CPU)
    card = store.load_card()
    assert {entry.method: entry.steps for entry in card.entries} == {
        "Bicubic": 0,
        "EDSR": 30,
        "EDVR": 6,
    }
    assert "iterations: EDSR 30, EDVR 6." in card.remarks()[0]
    assert iterations(open_study(path)) == {"EDSR": 30, "EDVR": 6}  # nothing is measured again


def test_iterations_that_do_not_go_with_the_schedule(study_file, tmp_path) -> None:
    opt, tree = load_options(study_file("train: {warmup_iter: 4}"), (), StudyOptions)
    (job,) = [job for job in plan(opt, tree) if job.method == "EDSR"]
    budget = Budget(BudgetOptions("iterations", 2.0), CPU, tmp_path / "none.json")
    with pytest.raises(UserError, match=r"method EDSR: the budget gives 2 iterations.*warmup_iter"):
        budget.share({"EDSR": job.opt})

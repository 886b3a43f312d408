"""The plan of a study: its jobs, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srtoolbox.archs.edsr import EDSR
from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.study.plan import Job, StudyPlan, list_jobs
from srtoolbox.comparison.study.run import run_study
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import OptionErrors
from srtoolbox.engine.weights.load import save_weights
from srtoolbox.errors import UserError

CPU = torch.device("cpu")


def jobs_of(path: Path, *overrides: str) -> list[Job]:
    return list_jobs(*load_options(path, overrides, StudyOptions))


def plan_of(path: Path, *overrides: str, only: tuple[str, ...] = ()) -> StudyPlan:
    return StudyPlan(*load_options(path, overrides, StudyOptions), CPU, only)


def test_all_methods_share_data_and_training(study_file) -> None:
    opt, tree = load_options(study_file(), ["seeds=[0, 1]"], StudyOptions)
    jobs = list_jobs(opt, tree)
    assert [(job.seed, job.method) for job in jobs] == [
        (seed, method) for seed in (0, 1) for method in ("Bicubic", "EDSR", "EDVR")
    ]
    assert all(job.opt.train == opt.train for job in jobs)
    assert all(job.opt.datasets == opt.datasets for job in jobs)
    assert all(job.opt.manual_seed == job.seed for job in jobs)
    assert not any(job.deviations for job in jobs)


def test_deviations_name_each_difference(study_file) -> None:
    extra = """
methods:
  EDSR:
    train: {total_iter: 4, optim_g: {lr: 1e-4}}
    path: {pretrain_network_g: w.pth}
    model_type: GANModel
"""
    (job,) = (job for job in jobs_of(study_file(extra)) if job.method == "EDSR")
    assert job.deviations == [
        "total_iter 4 instead of 6",
        "optim_g.lr 0.0001 instead of 0.001",
        "path.pretrain_network_g w.pth",
        "model_type GANModel",
    ]


def test_a_faulty_method_option_names_its_line(study_file) -> None:
    path = study_file("methods:\n  EDSR:\n    train:\n      totaliter: 4\n")
    with pytest.raises(OptionErrors, match=r"study.yml:5: train.totaliter: unknown; did you mean"):
        jobs_of(path, "seeds=[0, 1]")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("methods: {EDVR: {network_g: {num_frame: 5}}}", ["EDVR", "takes 5 frames", "gives 3"]),
        ("datasets: {train: {gt_size: 36}}", ["EDVR", "gt_size 36", "multiples of 4"]),
        ("datasets: {train: !delete}", ["method EDSR", "no 'datasets.train' section"]),
        ("methods: {EDSR: {network_g: {scale: 2}}}", ["EDSR", "scale is 2 but scale is 4"]),
        ("datasets: {val: {sample: {scale: 2}}}", ["sample", "scale"]),
        ("budget: {kind: flops, of: Bicubic}", ["budget.of: Bicubic is not trained here"]),
    ],
)
def test_a_faulty_study_is_refused_and_nothing_is_written(
    study_file, tmp_path: Path, extra: str, words: list[str]
) -> None:
    opt, tree = load_options(study_file(extra), (), StudyOptions)
    with pytest.raises(UserError) as caught:
        run_study(opt, tree, CPU)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "experiments").exists()


def test_a_plan_writes_nothing(study_file, tmp_path: Path) -> None:
    plan = plan_of(study_file("protocols: [basicsr-y, rgb, duf-y]"), only=("EDSR",))
    assert not (tmp_path / "experiments").exists()
    assert [job.method for job in plan.all_jobs] == ["Bicubic", "EDSR", "EDVR"]
    (job,) = plan.jobs
    assert job.folder is not None and job.folder.parent == plan.folder / "runs"
    assert {name: method.is_trained for name, method in plan.methods.items()} == {
        "Bicubic": False, "EDSR": True, "EDVR": True,
    }  # fmt: skip
    # One pass over the dataset for all protocols: it does not follow their rules on frames.
    (test_set,) = plan.methods["EDSR"].test_sets
    assert test_set.protocols == ("basicsr-y", "rgb", "duf-y")


def test_methods_that_differ_only_in_evaluation_share_a_training(study_file) -> None:
    extra = """
methods:
  EDSR+:
    network_g: {type: EDSR, num_feat: 4, num_block: 1}
    val: {enhance: {self_ensemble: true}}
"""
    jobs = {job.method: job for job in plan_of(study_file(extra)).jobs}
    assert jobs["EDSR"].folder == jobs["EDSR+"].folder != jobs["EDVR"].folder
    assert jobs["Bicubic"].folder is None
    assert jobs["EDSR"].identity != jobs["EDSR+"].identity


def test_a_study_of_pretrained_methods_needs_no_training(study_file, tmp_path: Path) -> None:
    net = EDSR(scale=4, num_feat=4, num_block=1)
    save_weights(tmp_path / "edsr.pth", {"type": "EDSR"}, net)
    pretrained = f"{{train: null, path: {{pretrain_network_g: {tmp_path / 'edsr.pth'}}}}}"
    extra = f"train: !delete\nmethods: {{EDSR: {pretrained}, EDVR: !delete}}"
    made = StudyPlan(*load_options(study_file(extra), (), StudyOptions), CPU)
    assert not any(method.is_trained for method in made.methods.values())
    assert [job.folder for job in made.jobs] == [None, None]
    assert not any(
        job.deviations for job in made.jobs
    )  # no training is shared, so none differs from it
    extra = "train: !delete\nmethods: {EDVR: !delete}"
    with pytest.raises(UserError, match="method EDSR: it is trained, but the study has no 'train'"):
        StudyPlan(*load_options(study_file(extra), (), StudyOptions), CPU)

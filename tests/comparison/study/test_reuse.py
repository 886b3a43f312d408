"""Finished trainings of another study are copied, not repeated."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from support import studies

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.charts import draw_curves
from srtoolbox.comparison.store import ResultStore
from srtoolbox.comparison.study import reuse
from srtoolbox.comparison.study.dry_run import estimate
from srtoolbox.comparison.study.reuse import copy_training, index_finished_runs
from srtoolbox.config.files import read
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.engine.weights.load import save_weights
from srtoolbox.errors import UserError

CPU = torch.device("cpu")
SHORT = ("train.total_iter=2", "val.val_freq=2", "report.num_image=0")
TEST_SET = "datasets.val.sample.num_burst=2"  # other images than those of the first study


def compare(path: Path, *overrides: str) -> ResultStore:
    return studies.compare(path, *SHORT, *overrides)


def results(store: ResultStore) -> dict[str, tuple]:
    return {
        entry.method: (
            entry.run,
            entry.steps,
            entry.evaluations,
            [record["metrics"] for record in store.records(entry.evaluations["sample"])],
        )
        for entry in store.load_card().entries
    }


@pytest.mark.slow
def test_copied_trainings_give_the_same_results(study_file, tmp_path, monkeypatch, caplog) -> None:
    path = study_file()
    first = compare(path, "name=first").folder
    (first / "runs" / "unfinished").mkdir()
    trained_here = compare(path, "name=here", TEST_SET)
    trained = []
    run = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda *a: trained.append(1) or run(*a))
    shared = (f"trainings_from=[{first}]", "name=taken", TEST_SET)
    tasks = estimate(read(path, (*SHORT, *shared)), CPU)
    assert [(task.step, task.evaluated) for task in tasks] == [(0, 0), (2, 0), (2, 0)]
    assert not (tmp_path / "experiments" / "compare" / "taken").exists()
    with caplog.at_level(logging.INFO, "srtoolbox"):
        taken = compare(path, *shared)
    assert not trained
    assert results(taken) == results(trained_here)
    source = next(first.glob("runs/EDSR*"))
    assert f"EDSR, seed 0: copied from {source}" in caplog.text
    seconds = {entry.method: entry.train_seconds for entry in taken.load_card().entries}
    assert seconds == {e.method: e.train_seconds for e in ResultStore(first).load_card().entries}
    lines = [line.get_label() for line in draw_curves(Scores(taken)).axes[0].lines]
    assert lines == ["EDSR", "EDVR"]
    assert not list(taken.folder.glob("runs/*/checkpoints")) and next(source.glob("checkpoints/*"))
    # The first study is no longer needed, and missing trainings run.
    shutil.rmtree(first)
    assert results(compare(path, "name=taken", TEST_SET)) == results(taken)
    assert not trained
    compare(path, f"trainings_from=[{taken.folder}]", "name=taken", "seeds=[1]")
    assert len(trained) == 2


@pytest.mark.slow
def test_a_method_may_have_another_name_in_the_other_study(study_file, monkeypatch) -> None:
    first = compare(study_file(), "methods.EDVR=!delete").folder
    monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("trained again"))
    renamed = "methods: {EDSR: !delete, EDVR: !delete, Mine: {network_g: {type: EDSR, "
    path = study_file(f"{renamed}num_feat: 4, num_block: 1}}}}}}\ntrainings_from: ['{first}']\n")
    (_, entry) = compare(path, "name=second").load_card().entries
    assert entry.run.startswith("runs/Mine-s0-") and entry.steps == 2
    # A method that is renamed in the same study is not trained again either.
    (_, entry) = compare(path, "name=tiny").load_card().entries
    assert entry.run.startswith("runs/Mine-s0-") and entry.failure is None


def make_study(folder: Path, fingerprint: str = "abc") -> Path:
    run = folder / "runs" / "EDSR-s0-abc"
    (run / "weights").mkdir(parents=True)
    (run / "checkpoints").mkdir()
    for name, text in {
        "run.json": f'{{"name": "EDSR", "fingerprint": "{fingerprint}"}}',
        "finished.json": "{}",
        "weights/net_g_latest.pth": "weights",
        "checkpoints/step_6.ckpt": "large",
        ".lock": "",
    }.items():
        (run / name).write_text(text)
    (folder / "study.yml").touch()
    return run


def test_a_copy_is_complete_or_missing(tmp_path: Path, monkeypatch) -> None:
    run, target = make_study(tmp_path / "a"), tmp_path / "b" / "runs" / "EDSR-s0-abc"
    (target / "checkpoints").mkdir(parents=True)
    net = torch.nn.Linear(2, 2)  # undamaged weights: the checkpoints are not needed
    weights = save_weights(run / "weights" / "net_g_latest.pth", {}, net)
    summary = {"weights": weights, "step": 6, "seconds": 1.0, "threads": 1}
    (run / "finished.json").write_text(json.dumps(summary))
    write, written = reuse.write_atomic, []

    def write_and_die(path: Path, content: bytes) -> None:
        write(path, content)
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(reuse, "write_atomic", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        copy_training(run, target)
    assert [path.name for path in target.iterdir()] == ["checkpoints"]
    (tmp_path / "b" / "study.yml").touch()
    assert index_finished_runs([tmp_path / "b"]) == {}  # a partial copy does not count
    monkeypatch.setattr(reuse, "write_atomic", write)
    copy_training(run, target)
    names = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert names == {"run.json", "finished.json", "weights/net_g_latest.pth"}
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_only_finished_trainings_are_found(tmp_path: Path) -> None:
    run = make_study(tmp_path / "a")
    assert index_finished_runs([tmp_path / "a"]) == {"abc": run}
    (run / "finished.json").unlink()
    assert index_finished_runs([tmp_path / "a"]) == {}


def test_a_folder_without_a_study_is_named(study_file, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^trainings_from: .*nothing: no study here \(study\.yml"):
        compare(study_file(), f"trainings_from=[{tmp_path / 'nothing'}]")
    assert not (tmp_path / "experiments").exists()
    run = make_study(tmp_path / "a")
    (run / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"^trainings_from: .*run\.json is missing or damaged"):
        index_finished_runs([tmp_path / "a"])


def test_the_device_of_a_copied_training_is_named(tmp_path: Path) -> None:
    run = make_study(tmp_path / "a")
    assert reuse.device_of(run, "a CPU") == "a CPU"
    (run / "environment.json").write_text('{"device": "NVIDIA H200"}')
    assert reuse.device_of(run, "a CPU") == "NVIDIA H200 (training) and a CPU"
    assert reuse.device_of(run, "NVIDIA H200") == "NVIDIA H200"

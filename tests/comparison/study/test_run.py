"""Runs of whole studies: finished work is recognised, interrupted work resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.studies import compare, stored

from srtoolbox.comparison.store import ResultStore
from srtoolbox.comparison.study.dry_run import estimate, to_terminal
from srtoolbox.comparison.study.evaluate import StudyEvaluator
from srtoolbox.config.files import read
from srtoolbox.engine.evaluation import evaluator
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.errors import RunError, UserError

CPU = torch.device("cpu")


def scores(store: ResultStore) -> dict[str, list[dict]]:
    """Returns the metrics of every image by method; interruptions must not change them."""
    return {
        entry.method: [r["metrics"] for r in store.records(entry.evaluations["sample"])]
        for entry in store.load_card().entries
    }


@pytest.mark.slow
def test_every_method_is_trained_scored_and_measured(study_file) -> None:
    store = compare(study_file())
    card = store.load_card()
    assert [entry.method for entry in card.entries] == ["Bicubic", "EDSR", "EDVR"]
    assert [entry.run is None for entry in card.entries] == [True, False, False]
    assert [entry.steps for entry in card.entries] == [0, 6, 6]
    for entry in card.entries:
        records = store.records(entry.evaluations["sample"])
        assert [record["index"] for record in records] == [0, 1, 2]
        assert all(record["protocol"] == card.protocol["hash"] for record in records)
        assert all(record["metrics"]["psnr"] > 5 for record in records)
        cost = store.cost(entry.cost)
        assert cost["input"] == [1, 3, 3, 8, 8]
        assert (cost["params"] > 0) == (entry.method != "Bicubic")
        assert cost["latency"] > 0
        images = store.image_folder(entry.evaluations["sample"])
        assert len(list(images.iterdir())) == 2


@pytest.mark.slow
def test_a_second_run_changes_nothing(study_file, monkeypatch) -> None:
    path = study_file()
    first = compare(path)
    lines = (first.folder / "results.jsonl").read_text()

    def fail(*_: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(Trainer, "run", fail)
    monkeypatch.setattr(StudyEvaluator, "degenerate_output", fail)
    second = compare(path)
    assert (second.folder / "results.jsonl").read_text() == lines
    assert (second.folder / "costs.jsonl").read_text().count("\n") == 3
    assert scores(first) == scores(second)


@pytest.mark.slow
def test_only_a_changed_method_is_trained_again(study_file) -> None:
    path = study_file()
    before = {e.method: e.run for e in compare(path).load_card().entries}
    after = {
        e.method: e.run
        for e in compare(path, "methods.EDSR.network_g.num_feat=6").load_card().entries
    }
    assert before["EDVR"] == after["EDVR"]
    assert before["EDSR"] != after["EDSR"]


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_scores(study_file, monkeypatch) -> None:
    whole = scores(compare(study_file(), "name=whole"))
    save = Trainer.save
    saved = []

    def save_and_die(trainer: Trainer) -> None:
        save(trainer)
        saved.append(trainer.step)
        if len(saved) == 5:  # in the second of the two trainings
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        compare(study_file(), "name=broken")
    monkeypatch.setattr(Trainer, "save", save)
    assert scores(compare(study_file(), "name=broken")) == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "jobs", "code"),
    [(signal.SIGKILL, 1, -9), (signal.SIGTERM, 2, 130)],
)
def test_a_killed_study_resumes(study_file, tmp_path, number, jobs: int, code: int) -> None:
    longer = ("train.total_iter=40", "val.val_freq=40")
    whole = scores(compare(study_file(), "name=whole", *longer))
    path = study_file()
    command = [sys.executable, "-m", "srtoolbox", "compare", str(path), "--device", "cpu"]
    overrides = ["--set", "name=killed", "--set", f"jobs={jobs}"]
    overrides += [part for one in longer for part in ("--set", one)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, *overrides], env=environment, stderr=subprocess.DEVNULL) as p:
        folder = tmp_path / "experiments" / "compare" / "killed"
        deadline = time.monotonic() + 120
        while not list(folder.glob("runs/EDVR*/checkpoints/*.ckpt")):
            assert p.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        p.send_signal(number)
    assert p.returncode == code
    assert scores(compare(path, "name=killed", *longer)) == whole


@pytest.mark.slow
def test_a_deviating_training_is_named(study_file) -> None:
    extra = "methods: {EDSR: {train: {total_iter: 4}}, EDVR: {train: null}}"
    card = compare(study_file(extra)).load_card()
    deviations = {entry.method: entry.deviations for entry in card.entries}
    assert deviations == {
        "Bicubic": [],
        "EDSR": ["total_iter 4 instead of 6"],
        "EDVR": ["not trained here"],
    }
    assert [entry.steps for entry in card.entries] == [0, 4, 0]


@pytest.mark.slow
def test_a_trivial_output_is_looked_for_again_after_a_failure(study_file, monkeypatch) -> None:
    path = study_file("methods: {Bicubic: !delete, EDVR: !delete}\ntrain: {total_iter: 1}\n")

    def fail(*_: object) -> str:
        raise RunError("out of memory")

    monkeypatch.setattr(StudyEvaluator, "degenerate_output", fail)
    (entry,) = compare(path).load_card().entries
    assert entry.failure == "out of memory" and entry.evaluations
    monkeypatch.setattr(StudyEvaluator, "degenerate_output", lambda *_: "a constant")
    for _ in range(2):
        (entry,) = compare(path).load_card().entries
        assert (entry.failure, entry.degenerate) == (None, "a constant")
        monkeypatch.setattr(StudyEvaluator, "degenerate_output", fail)  # it is not repeated


@pytest.mark.slow
def test_an_evaluation_with_a_torn_record_is_repeated(study_file) -> None:
    path = study_file()
    first = compare(path)
    whole = scores(first)
    file = first.folder / "results.jsonl"
    file.write_text(file.read_text()[:-40])
    assert scores(compare(path)) == whole
    assert all(json.loads(line) for line in file.read_text().splitlines()[:-4])


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_arch_of_a_plugin_is_compared_though_another_training_fails(
    study_file, tmp_path, jobs: int
) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "from srtoolbox import ARCH_REGISTRY\n"
        "@ARCH_REGISTRY.register()\n"
        f"class MineForTheStudy{jobs}(nn.Module):\n"
        "    scales = (4,)\n"  # all that a network has to declare
        "    def __init__(self, scale: int = 4) -> None:\n"
        "        super().__init__()\n"
        "        self.scale = scale\n"
        "        self.conv = nn.Conv2d(3, 48, 3, padding=1)\n"
        "    def forward(self, lq):\n"
        "        return nn.functional.pixel_shuffle(self.conv(lq), 4)\n"
    )
    extra = f"""
plugins: [./mine.py]
methods:
  EDSR: {{train: {{optim_g: {{lr: 1e36}}}}}}
  EDVR: !delete
  Mine: {{network_g: {{type: MineForTheStudy{jobs}}}}}
"""
    store = compare(study_file(extra), f"jobs={jobs}", "threads=1", f"train.num_worker={jobs - 1}")
    bicubic, edsr, mine = store.load_card().entries
    assert bicubic.failure is None and "non-finite at step" in str(edsr.failure)
    assert (mine.method, mine.failure, mine.steps) == ("Mine", None, 6)
    assert store.cost(mine.cost)["params"] == 3 * 48 * 9 + 48


def test_several_protocols_score_one_forward_pass(study_file, monkeypatch) -> None:
    only = ("methods.EDSR=!delete", "methods.EDVR=!delete")
    passes = []
    predict = evaluator.predict
    monkeypatch.setattr(evaluator, "predict", lambda *a: passes.append(1) or predict(*a))
    both = compare(study_file(), "name=both", "protocols=[basicsr-y, rgb]", *only)
    assert len(passes) == 3
    views = both.load_card().views()
    assert [view.protocol["name"] for view in views] == ["basicsr-y", "rgb"]
    for view in views:
        name = view.protocol["name"]
        alone = compare(study_file(), f"name={name}", f"val.protocol={name}", *only)
        (one,), (other,) = view.entries, alone.load_card().entries
        assert one.evaluations == other.evaluations and not one.other_protocols
        records = [store.records(one.evaluations["sample"]) for store in (both, alone)]
        assert [r["metrics"] for r in records[0]] == [r["metrics"] for r in records[1]]
        assert {r["protocol"] for r in records[0]} == {view.protocol["hash"]}
    passes.clear()
    compare(study_file(), "name=both", "protocols=[rgb, duf-y]", *only)
    assert len(passes) == 3  # for duf-y alone
    card = both.load_card()
    assert [p["name"] for p in (card.protocol, *card.other_protocols)] == ["rgb", "duf-y"]


SINGLE = """
datasets:
  val: !delete
  test:
    single: {type: SampleBursts, split: val, num_frame: 1, gt_size: 32, num_burst: 2}
    bursts: {type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: 2}
train: {total_iter: 2}
"""


@pytest.mark.slow
def test_a_method_that_cannot_use_a_test_set_lacks_that_column(study_file) -> None:
    store = compare(study_file(SINGLE))
    card = store.load_card()
    scored = {entry.method: set(entry.evaluations) for entry in card.entries}
    assert scored == {
        "Bicubic": {"single", "bursts"},
        "EDSR": {"single", "bursts"},
        "EDVR": {"bursts"},
    }
    assert card.remarks() == ["– EDVR on single: EDVR takes 3 frames but the dataset gives 1."]
    assert not any(entry.failure for entry in card.entries)


@pytest.mark.slow
def test_costs_are_measured_on_a_test_set_of_all_methods(study_file) -> None:
    longer = "{type: SampleBursts, split: val, num_frame: 5, gt_size: 32, num_burst: 2}"
    for only in ((), ("EDSR",)):
        overrides = [f"datasets.test.longer={longer}", f"name=s{len(only)}"]
        store = compare(study_file(SINGLE), *overrides, only=only)
        entries = store.load_card().entries
        assert len(entries) == len(only or ("Bicubic", "EDSR", "EDVR"))
        assert {tuple(store.cost(e.cost)["input"]) for e in entries} == {(1, 3, 3, 8, 8)}


def test_a_test_set_that_no_method_can_use_is_an_error(study_file) -> None:
    only = ("methods.EDSR=!delete", "methods.Bicubic=!delete")
    with pytest.raises(
        UserError, match=r"datasets\.single: no method can use it: EDVR takes 3 frames"
    ):
        compare(study_file(SINGLE), *only)
    with pytest.raises(UserError, match=r"EDVR: datasets\.single: EDVR takes 3 frames"):
        compare(study_file(SINGLE), *only, "datasets.test.bursts=!delete")


def test_a_faulty_test_set_is_an_error(study_file) -> None:
    with pytest.raises(UserError, match=r"EDVR: datasets.single: its scale is 2"):
        compare(
            study_file(SINGLE),
            *("methods.EDSR=!delete", "methods.Bicubic=!delete"),
            "datasets.test.single.scale=2",
        )


@pytest.mark.slow
def test_only_some_methods(study_file, monkeypatch) -> None:
    path = study_file("train: {total_iter: 2}")

    def run(*only: str, override: str = "seeds=[0]") -> list[str]:
        return [e.method for e in compare(path, override, only=only).load_card().entries]

    assert run("EDVR") == ["EDVR"]
    monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("trained"))
    assert run("Bicubic") == ["Bicubic", "EDVR"]
    # Results of other options than those of the file are not shown.
    assert run("Bicubic", override="methods.EDVR.network_g.num_feat=4") == ["Bicubic"]
    with pytest.raises(UserError, match="--only EDS: no such method; there are: Bicubic, EDSR"):
        run("EDS")


@pytest.mark.slow
def test_a_dry_run_shows_remaining_work_and_writes_nothing(
    study_file, tmp_path, monkeypatch
) -> None:
    def look(path: Path) -> dict[str, tuple[int, int, int, int]]:
        tasks = estimate(read(path), CPU)
        assert all((task.seconds > 0) != task.is_done for task in tasks)
        assert "left in total" in str(to_terminal(tasks, "t").renderables[-1])
        return {t.method: (t.step, t.total, t.evaluated, t.to_evaluate) for t in tasks}

    path = study_file("protocols: [rgb, basicsr-y]")
    assert look(path) == {"Bicubic": (0, 0, 0, 2), "EDSR": (0, 6, 0, 2), "EDVR": (0, 6, 0, 2)}
    assert not (tmp_path / "experiments").exists()
    save, saved = Trainer.save, []

    def save_and_die(trainer: Trainer) -> None:
        save(trainer)
        saved.append(trainer.step)
        if len(saved) == 5:  # in the second of the two trainings
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        compare(path)
    monkeypatch.setattr(Trainer, "save", save)
    assert look(path) == {"Bicubic": (0, 0, 2, 2), "EDSR": (6, 6, 2, 2), "EDVR": (4, 6, 0, 2)}
    compare(path)
    assert set(look(path).values()) == {(0, 0, 2, 2), (6, 6, 2, 2)}


def test_a_test_set_may_move_to_another_folder(study_file, tmp_path) -> None:
    for name in ("here", "there"):
        (tmp_path / name / "hr").mkdir(parents=True)
        for index in range(2):
            pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / "hr" / f"{index}.png")
    spec = f"{{type: PairedImages, dataroot_gt: {tmp_path / 'here' / 'hr'}}}"
    path = study_file(f"datasets: {{val: !delete, test: {{own: {spec}}}}}")
    only = ("methods.EDSR=!delete", "methods.EDVR=!delete")
    lines = (compare(path, *only).folder / "results.jsonl").read_text()
    there = f"datasets.test.own.dataroot_gt={tmp_path / 'there' / 'hr'}"
    assert (compare(path, *only, there).folder / "results.jsonl").read_text() == lines


@pytest.mark.slow
def test_scores_do_not_depend_on_when_a_training_ended(study_file, tmp_path, monkeypatch) -> None:
    """With ``channels_last``: in one process, in two, and found finished."""
    monkeypatch.setattr("srtoolbox.comparison.study.parallel.cpu_count", lambda: 2)
    extra = "train: {channels_last: true}\n"
    alone = compare(study_file(extra), "name=one", "threads=1")
    together = compare(study_file(extra), "name=two", "jobs=2", "threads=1")
    assert stored(together) == stored(alone)
    assert [entry.threads for entry in together.load_card().entries] == [0, 1, 1]
    one = scores_of(alone)
    for kept in ("results.jsonl", "study.json"):
        (tmp_path / "experiments" / "compare" / "one" / kept).unlink(missing_ok=True)
    assert scores_of(compare(study_file(extra), "name=one", "threads=1")) == one


def scores_of(store) -> list:
    records = [json.loads(line) for line in (store.folder / "results.jsonl").open()]
    keys = ("method", "seed", "dataset", "index", "metrics", "weights")
    return sorted(json.dumps([record[key] for key in keys]) for record in records)


@pytest.mark.slow
def test_damaged_weights_of_another_study_are_restored(study_file, tmp_path, caplog) -> None:
    first = compare(study_file(), "name=one")
    (run,) = (first.folder / "runs").glob("EDSR*")
    path = run / "weights" / "net_g_latest.pth"
    path.write_bytes(path.read_bytes()[:-100])
    (run / "environment.json").write_text("17")
    extra = f"trainings_from: ['{first.folder}']\n"
    second = compare(study_file(extra), "name=two")
    assert scores_of(second) == scores_of(first)
    assert "the weights of the last checkpoint are used" in caplog.text
    assert "environment.json damaged" in caplog.text

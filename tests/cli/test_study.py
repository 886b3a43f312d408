"""The commands compare and report."""

from __future__ import annotations

from pathlib import Path

import pytest

import srtoolbox
from srtoolbox.cli import main
from srtoolbox.comparison.store import ResultStore
from srtoolbox.errors import UserError


@pytest.mark.slow
def test_compare_and_report(study_file: Path, capsys) -> None:
    assert main(["compare", str(study_file)]) == 0
    first = capsys.readouterr().out
    assert "EDSR" in first and "Bicubic" in first
    assert main(["report", "experiments/compare/tiny"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.slow
def test_a_failed_method_gives_exit_code_1_and_a_table(study_file: Path, capsys) -> None:
    bad = ["--set", "methods.EDSR.train.optim_g={type: SGD, lr: 1e36}"]
    assert main(["compare", str(study_file), *bad]) == 1
    out, err = capsys.readouterr()
    assert "EDSR † ✗" in out and "non-finite" in out
    assert "failed: EDSR (seed 0)" in err


def test_dry_run_lists_the_work_and_does_none(study_file: Path, capsys) -> None:
    assert main(["compare", str(study_file), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "EDSR" in shown and "Bicubic" in shown
    assert not Path("experiments").exists()


def scores(store: ResultStore) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """The scores of each image, by method and dataset."""
    return {
        (entry.method, dataset): {r["key"]: r["metrics"] for r in store.records(evaluation)}
        for entry in store.load_card().entries
        for dataset, evaluation in entry.evaluations.items()
    }


@pytest.mark.slow
def test_compare_from_python_gives_the_results_of_the_command(study_file: Path) -> None:
    store = srtoolbox.compare(study_file, ["name=python"], device="cpu")
    assert store.folder == Path("experiments/compare/python")
    assert main(["compare", str(study_file), "--device", "cpu"]) == 0
    assert scores(store) == scores(ResultStore(Path("experiments/compare/tiny")))
    assert set(scores(store)) == {("Bicubic", "sample"), ("EDSR", "sample")}


def test_compare_from_python_runs_only_the_given_methods(study_file: Path) -> None:
    store = srtoolbox.compare(study_file, only=["Bicubic"], device="cpu")
    assert {entry.method for entry in store.load_card().entries} == {"Bicubic"}
    with pytest.raises(UserError, match=r"methods\.EDSR\.train\.lr=1: train\.lr: unknown"):
        srtoolbox.compare(study_file, ["methods.EDSR.train.lr=1"])


@pytest.mark.slow
def test_merge_joins_parts_of_a_study(study_file: Path, capsys) -> None:
    folders = []
    for method in ("Bicubic", "EDSR"):
        root = ["--set", f"path.experiments_root={method}"]
        assert main(["compare", str(study_file), "--only", method, *root]) == 0
        folders.append(f"{method}/compare/tiny")
    capsys.readouterr()
    assert main(["merge", *folders, "--into", "merged"]) == 0
    shown = capsys.readouterr().out
    assert "EDSR" in shown and "Bicubic" in shown and "in merged" in shown
    assert main(["merge", folders[0], "nowhere", "--into", "other"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not Path("other").exists()

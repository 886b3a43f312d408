"""Reports, made from the store alone."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srtoolbox.cli import main
from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.report.table import to_csv
from srtoolbox.comparison.report.write import parse_regions, write_report
from srtoolbox.comparison.store import ResultStore
from srtoolbox.comparison.study.run import run_study
from srtoolbox.config.load import load_options
from srtoolbox.errors import UserError


@pytest.fixture
def store(study_file) -> ResultStore:
    opt, tree = load_options(study_file(), ["seeds=[0, 1]"], StudyOptions)
    return run_study(opt, tree, torch.device("cpu"))


@pytest.mark.slow
def test_a_report_can_be_made_again(rich_study: Path) -> None:
    report = write_report(rich_study)
    assert report.title == "rich <study> (x4)"
    first = {path: path.read_bytes() for path in report.files}
    names = {str(path.relative_to(rich_study)) for path in report.files}
    assert {"table.md", "table.csv", "images.csv", "table.tex", "report.html"} < names
    for figure in ("crops.png", "errors.png", "profiles.png", "curves.svg", "curves.png"):
        assert f"figures/{figure}" in names
    assert {f"figures/{kind}_{d}.svg" for kind in ("tradeoff", "differences")
            for d in ("clips", "images")} < names  # fmt: skip
    for path in report.files:
        path.unlink()
    assert write_report(rich_study) == report
    assert {path: path.read_bytes() for path in report.files} == first
    with Image.open(rich_study / "figures" / "crops.png") as image:
        assert image.width > 800 and np.ptp(np.asarray(image)) > 100
        assert not image.info.get("Software")


@pytest.mark.slow
def test_a_study_that_was_run_is_reported(store: ResultStore) -> None:
    card = store.load_card()
    report = write_report(store.folder, ["md", "html"])
    table = report.overview
    assert [path.name for path in report.files] == ["table.md", "report.html"]
    assert table.names == ["Bicubic", "EDSR ‡", "EDVR ‡"]  # after six steps
    psnr = [
        record["metrics"]["psnr"]
        for entry in card.entries
        if entry.method == "EDSR"
        for record in store.records(entry.evaluations["sample"])
    ]
    assert len(psnr) == 6
    assert table.values[1][0] == pytest.approx(sum(psnr) / 6)
    assert table.spreads[1, 0] > 0
    assert table.spreads[0, 0] == 0
    assert card.protocol["hash"] in table.notes[0]
    training = next(note for note in table.notes if note.startswith("Training"))
    assert "6 iterations" in training and "seeds 0, 1" in training
    rows = list(csv.reader(to_csv(table).splitlines()))
    assert rows[0][:3] == ["method", "PSNR (dB)", "SSIM"]
    assert [float(cell) for cell in rows[2][1:3]] == table.values[1][:2]


def test_every_score_is_in_a_file(rich_study: Path) -> None:
    write_report(rich_study, ["csv"])
    rows = list(csv.DictReader((rich_study / "images.csv").open()))
    assert len(rows) == 2 * 2 * 4 * (15 + 12) * 3  # protocols, seeds, methods, images, metrics
    store = ResultStore(rich_study)
    entry = store.load_card().entries[2]
    record = store.records(entry.evaluations["clips"])[7]
    line = next(
        row for row in rows
        if row["protocol"] == "duf-y duf-y0123" and row["method"] == "Net|D$"
        and row["seed"] == "0" and row["image"] == "001/02" and row["metric"] == "psnr"
    )  # fmt: skip
    assert float(line["value"]) == record["metrics"]["psnr"]


def test_the_command_writes_what_is_asked_for(rich_study: Path, capsys) -> None:
    arguments = ["report", str(rich_study), "--to", "md,csv", "--baseline", "Bicubic"]
    assert main(arguments) == 0
    assert "table.md, table.csv, images.csv" in capsys.readouterr().out
    assert "difference to Bicubic" in (rich_study / "table.md").read_text()
    assert not (rich_study / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "pdf"], "unknown report format 'pdf'; known: md, csv"),
        (["--baseline", "Nobody"], "no method 'Nobody'"),
        (["--region", "im_0=1,2"], "expected KEY=Y,X,SIDE"),
        (["--region", "im_0=30,0,8"], "exceeds the image im_0 of 32×40"),
        (["--region", "im=0,0,8"], "no image 'im' is stored"),
    ],
)
def test_what_does_not_exist_is_said(rich_study: Path, capsys, arguments, said) -> None:
    assert main(["report", str(rich_study), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_regions_are_read_from_the_last_equals_sign() -> None:
    assert parse_regions(["a=b/1=2,3,4"]) == {"a=b/1": (2, 3, 4)}


def test_nothing_but_the_store_is_needed(rich_study: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("looked for a GPU"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("used the network"))
    write_report(rich_study, ["md", "latex", "csv"])


def test_a_study_without_results_has_a_report(tmp_path: Path, rich_study: Path) -> None:
    source, empty = ResultStore(rich_study), ResultStore(tmp_path / "empty")
    card = source.load_card()
    card.entries = [entry for entry in card.entries if entry.failure]
    card.published = []
    empty.save_card(card)
    report = write_report(empty.folder)
    assert report.overview.names == ["Broken ✗"] and not report.overview.columns
    assert {path.name for path in report.files} >= {"table.md", "report.html", "table.tex"}


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study here"):
        write_report(tmp_path)

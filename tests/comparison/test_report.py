"""Tables and figures, made from the store alone."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image

from srtoolbox.comparison.plan import StudyOptions
from srtoolbox.comparison.report import write_report
from srtoolbox.comparison.results import ResultStore
from srtoolbox.comparison.study import run_study
from srtoolbox.comparison.table import Column, Table, build_table, to_csv, to_markdown
from srtoolbox.engine.run import load_options
from srtoolbox.errors import UserError


@pytest.fixture
def store(study_file) -> ResultStore:
    opt, tree = load_options(study_file(), ["seeds=[0, 1]"], StudyOptions)
    return run_study(opt, tree, torch.device("cpu"))


def test_a_report_can_be_made_again(store: ResultStore) -> None:
    names = ("table.md", "table.csv", "comparison.png", "curves.png")
    title, table = write_report(store.folder)
    assert title == "tiny (x4)"
    first = {name: (store.folder / name).read_bytes() for name in names}
    for name in names:
        (store.folder / name).unlink()
    assert write_report(store.folder)[1] == table
    assert {name: (store.folder / name).read_bytes() for name in names} == first
    with Image.open(store.folder / "comparison.png") as image:
        assert image.width > 800


def test_the_table_is_the_mean_of_the_records(store: ResultStore) -> None:
    card = store.load_card()
    table = build_table(store, card)
    assert table.methods == ["Bicubic", "EDSR", "EDVR"]
    psnr = [
        record["metrics"]["psnr"]
        for entry in card.entries
        if entry.method == "EDSR"
        for record in store.records(entry.evaluations["sample"])
    ]
    assert len(psnr) == 6
    assert table.values[1][0] == pytest.approx(sum(psnr) / 6)
    assert table.spreads[1][0] > 0
    assert table.spreads[0][0] == 0
    assert card.protocol["hash"] in table.notes[0]
    assert "6 iterations" in table.notes[1] and "seeds 0, 1" in table.notes[1]


def test_csv_has_full_precision(store: ResultStore, tmp_path: Path) -> None:
    table = build_table(store, store.load_card())
    rows = list(csv.reader(to_csv(table).splitlines()))
    assert rows[0][:3] == ["method", "PSNR (dB)", "SSIM"]
    assert [float(cell) for cell in rows[2][1:3]] == table.values[1][:2]


def table_of(values: list[list[float | None]], better: int = 1) -> Table:
    columns = [Column("PSNR ↑", 2, better) for _ in values[0]]
    names = [f"m{row}" for row in range(len(values))]
    return Table(columns, names, values, [[None] * len(columns) for _ in values], [])


def test_best_and_second_are_marked_by_what_is_printed() -> None:
    table = table_of([[30.001], [30.004], [29.5], [None], [28.0]])
    assert [table.rank(row, 0) for row in range(5)] == [1, 1, 2, 0, 0]
    lower = table_of([[0.3], [0.1], [0.2]], better=-1)
    assert [lower.rank(row, 0) for row in range(3)] == [0, 1, 2]
    text = to_markdown(table, "t")
    assert "**30.00**" in text and "<u>29.50</u>" in text and "| m3 | – |" in text


def test_a_single_method_wins_nothing() -> None:
    assert table_of([[30.0]]).rank(0, 0) == 0


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study here"):
        write_report(tmp_path)

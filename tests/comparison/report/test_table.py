"""Tables and their notations."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.table import Column, Table, to_csv, to_markdown, to_terminal
from srtoolbox.comparison.report.tables import all_tables, statistics
from srtoolbox.comparison.store import ResultStore


def table_of(values: list[list[float | None]], better: int = 1) -> Table:
    columns = [Column("PSNR ↑", 2, better) for _ in values[0]]
    names = [f"m{row}" for row in range(len(values))]
    return Table(columns, names, values, [[None] * len(columns) for _ in values], [])


@pytest.fixture
def tables(rich_study: Path) -> dict[str, Table]:
    store = ResultStore(rich_study)
    views = [Scores(store, card) for card in store.load_card().views()]
    return {table.title: table for table in all_tables(views)}


def test_best_and_second_are_marked_by_what_is_printed() -> None:
    table = table_of([[30.001], [30.004], [29.5], [None], [28.0]])
    assert [table.rank(row, 0) for row in range(5)] == [1, 1, 2, 0, 0]
    lower = table_of([[0.3], [0.1], [0.2]], better=-1)
    assert [lower.rank(row, 0) for row in range(3)] == [0, 1, 2]
    text = to_markdown([table], "t")
    assert "**30.00**" in text and "<u>29.50</u>" in text and "| m3 | – |" in text


def test_a_single_method_wins_nothing() -> None:
    assert table_of([[30.0]]).rank(0, 0) == 0


def test_published_rows_win_nothing() -> None:
    table = replace(table_of([[30.0], [31.0], [29.0]]), published=frozenset({1}))
    assert [table.rank(row, 0) for row in range(3)] == [1, 0, 2]
    assert "| *m1* | *31.00* |" in to_markdown([table], "t")


def test_along_rows_the_best_method_of_each_image_is_marked() -> None:
    table = replace(table_of([[30.0, 31.0, 29.0], [28.0, 27.0, 26.0]]), across=True)
    ranks = [[table.rank(row, column) for column in range(3)] for row in range(2)]
    assert ranks == [[2, 1, 0], [1, 2, 0]]


def test_numbers_are_printed_as_their_columns_say() -> None:
    columns = [Column("Δ", 2, signed=True), Column("p", 3, least=True), Column("x", 1)]
    values = [[0.5, 0.0001, math.inf], [-0.5, 0.04, math.nan]]
    spreads = [[(0.1, 0.9), None, (math.nan, math.nan)], [None, 0.25, None]]
    table = Table(columns, ["a", "b"], values, spreads, [], tied_with_best=frozenset({(1, 1)}))
    assert [table.text(0, c) for c in range(3)] == ["+0.50 [+0.10, +0.90]", "<0.001", "inf"]
    assert [table.text(1, c) for c in range(3)] == ["-0.50", "0.040 ± 0.250≈", "–"]
    rows = list(csv.reader(to_csv(table).splitlines()))
    assert rows[0] == ["method", "Δ", "Δ low", "Δ high", "p", "x", "x low", "x high"]
    assert rows[1][:4] == ["a", "0.5", "0.1", "0.9"]


def test_names_cannot_break_a_markdown_table() -> None:
    table = replace(table_of([[1.0]]), methods=["a|b*c_<i>"], notes=["*n*"])
    text = to_markdown([table], "t")
    assert r"| a\|b\*c\_\<i\> | 1.00 |" in text and r"- \*n\*" in text


def test_the_overview_has_every_method_and_says_what_is_otherwise(tables) -> None:
    table = tables["Overview, protocol duf-y"]
    assert table.methods[3:] == ["Late †", "Broken ✗", "DUF (published)"]
    assert table.published == {5} and table.values[5][0] == 31.5
    assert not any("LPIPS" in column.title for column in table.columns)
    assert not any("train MiB" in column.title for column in table.columns)
    notes = "\n".join(table.notes)
    for said in ("duf-y0123", "† Late: total_iter 12 instead of 6.", "LPIPS is left out",
                 "✗ Broken, seed 1: loss is not finite", "DUF (Jo et al., CVPR 2018)"):  # fmt: skip
        assert said in notes


def test_no_table_has_scores_of_two_protocols(tables) -> None:
    for table in tables.values():
        assert f"Protocol {table.protocol} ({table.protocol}0123)." in table.notes
        other = {"duf-y": "rgb0123", "rgb": "duf-y0123"}[table.protocol]
        assert not any(other in note for note in table.notes)
    assert not tables["Overview, protocol rgb"].published


def test_clips_are_averaged_over_frames_and_seeds(rich_study: Path, tables) -> None:
    table = tables["clips: PSNR (dB) ↑ by clip, protocol duf-y"]
    assert table.methods == ["000", "001", "002", "average"]
    store = ResultStore(rich_study)
    entries = [entry for entry in store.load_card().entries if entry.method == "Bicubic"]
    of_clip = [
        record["metrics"]["psnr"]
        for entry in entries
        for record in store.records(entry.evaluations["clips"])
        if record["key"].startswith("001/")
    ]
    assert table.values[1][0] == pytest.approx(sum(of_clip) / len(of_clip))
    by_clip = [table.values[row][0] for row in range(3)]
    assert table.values[3][0] == pytest.approx(sum(by_clip) / 3)
    assert table.values[3][0] == pytest.approx(tables["Overview, protocol duf-y"].values[0][0])


def test_differences_are_paired_and_have_intervals(tables) -> None:
    table = tables["images: PSNR (dB) ↑ with intervals, protocol rgb"]
    titles = [column.title for column in table.columns]
    assert titles == ["mean over images", "mean over seeds", "difference to Late", "p"]
    means = [row[0] for row in table.values]
    for row, (value, spread) in enumerate(zip(table.values, table.spreads, strict=True)):
        assert spread[0][0] < value[0] < spread[0][1]
        if table.methods[row] == "Late":
            assert value[2] is None and value[3] is None
        else:
            assert value[2] == pytest.approx(value[0] - means[3])
            assert spread[2][0] < value[2] < spread[2][1] < 0 and value[3] < 0.001


def test_of_one_clip_nothing_is_tested(rich_study: Path) -> None:
    path = rich_study / "results.jsonl"
    lines = path.read_text().splitlines()
    one = [{**r, "of": 5} for r in map(json.loads, lines) if r["key"].startswith("000/")]
    path.write_text("".join(json.dumps(record) + "\n" for record in one))
    store = ResultStore(rich_study)
    scores = Scores(store, store.load_card().views()[0])
    table = statistics(scores, "clips", "psnr")
    assert all(row[-1] is None for row in table.values)
    assert sum(row[-2] is not None for row in table.values) == 3  # differences there are
    assert "One clip says nothing of others" in table.notes[1] and "seeds" in table.notes[1]


def test_what_cannot_be_told_apart_is_marked(rich_study: Path) -> None:
    store = ResultStore(rich_study)
    card = store.load_card()
    card.entries = [e for e in card.entries if e.method in ("A_B & <i>C</i>", "Net|D$")]
    table = all_tables([Scores(store, card.views()[0])])[0]
    assert table.tied_with_best and all(table.rank(*place) != 1 for place in table.tied_with_best)
    assert any(note.startswith("≈") for note in table.notes)


def test_a_terminal_of_80_columns_loses_no_number(tables) -> None:
    table = tables["Overview, protocol duf-y"]
    console = Console(width=80, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(to_terminal(table, "t"))
    text = console.export_text()
    for row in range(4):
        for column, facts in enumerate(table.columns):
            assert facts.detail or table.text(row, column) in text

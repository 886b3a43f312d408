"""Tables and their notations."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from srtoolbox.comparison.report.table import Column, Table, to_csv, to_markdown, to_terminal


def table_of(values: list[list[float | None]], better: int = 1) -> Table:
    columns = [Column("PSNR ↑", 2, better) for _ in values[0]]
    names = [f"m{row}" for row in range(len(values))]
    return Table(columns, names, values, [])


def test_best_and_second_are_marked_by_what_is_printed() -> None:
    table = table_of([[30.001], [30.004], [29.5], [None], [28.0]])
    assert [table.cell(row, 0).rank for row in range(5)] == [1, 1, 2, 0, 0]
    lower = table_of([[0.3], [0.1], [0.2]], better=-1)
    assert [lower.cell(row, 0).rank for row in range(3)] == [0, 1, 2]
    text = to_markdown([table], "t")
    assert "**30.00**" in text and "<u>29.50</u>" in text and "| m3 | – |" in text


def test_a_single_method_wins_nothing() -> None:
    assert table_of([[30.0]]).cell(0, 0).rank == 0


def test_published_rows_win_nothing() -> None:
    table = replace(table_of([[30.0], [31.0], [29.0]]), published=frozenset({1}))
    assert [table.cell(row, 0).rank for row in range(3)] == [1, 0, 2]
    assert "| *m1* | *31.00* |" in to_markdown([table], "t")


def test_along_rows_the_best_method_of_each_image_is_marked() -> None:
    table = replace(table_of([[30.0, 31.0, 29.0], [28.0, 27.0, 26.0]]), across=True)
    ranks = [[table.cell(row, column).rank for column in range(3)] for row in range(2)]
    assert ranks == [[2, 1, 0], [1, 2, 0]]


def test_numbers_are_printed_as_their_columns_say() -> None:
    columns = [Column("Δ", 2, signed=True), Column("p", 3, less_than=True), Column("x", 1)]
    values = [[0.5, 0.0001, math.inf], [-0.5, 0.04, math.nan]]
    spreads = {(0, 0): (0.1, 0.9), (0, 2): (math.nan, math.nan), (1, 1): 0.25}
    table = Table(columns, ["a", "b"], values, [], spreads, tied_with_best=frozenset({(1, 1)}))
    assert [table.cell(0, c).text for c in range(3)] == ["+0.50 [+0.10, +0.90]", "<0.001", "inf"]
    assert [table.cell(1, c).text for c in range(3)] == ["-0.50", "0.040 ± 0.250≈", "nan"]
    rows = list(csv.reader(to_csv(table).splitlines()))
    assert rows[0] == ["method", "Δ", "Δ low", "Δ high", "p", "x", "x low", "x high"]
    assert rows[1][:4] == ["a", "0.5", "0.1", "0.9"]


def test_names_cannot_break_a_markdown_table() -> None:
    table = replace(table_of([[1.0]]), names=["a|b*c_<i>"], notes=["*n*"])
    text = to_markdown([table], "t")
    assert r"| a\|b\*c\_\<i\> | 1.00 |" in text and r"- \*n\*" in text


def test_a_terminal_of_80_columns_loses_no_number(tables) -> None:
    table = tables["Overview, protocol duf-y"]
    text = in_terminal(table)
    for row in range(4):
        for column, facts in enumerate(table.columns):
            assert facts.detail or table.cell(row, column).text in text


@pytest.mark.parametrize("metrics", [2, 3])
def test_a_table_of_one_dataset_is_divided_only_if_it_is_too_wide(metrics: int) -> None:
    titles = ["PSNR (dB) ↑", "SSIM ↑", "LPIPS ↓"][:metrics]
    columns = [replace(Column(title, 4), dataset="sample") for title in titles]
    costs = ["params (K)", "GFLOPs", "ms per frame", "test MiB", "train MiB", "train s"]
    columns += [Column(title, 1) for title in costs]
    values: list[list[float | None]] = [[0.1234] * metrics + [100.0 + i for i in range(6)]]
    text = in_terminal(Table(columns, ["DSTC-SRNet+"], values, []))
    assert all(f"{100.0 + i}" in text for i in range(6))
    assert text.count("method") == (1 if metrics == 2 else 2)


def in_terminal(table: Table) -> str:
    console = Console(width=80, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(to_terminal(table, "t"))
    return console.export_text()


@pytest.mark.parametrize("name", ["Net" * 30, "a method with a long name " * 4, "超分辨率网络" * 9])
@pytest.mark.parametrize("metrics", [1, 3, 9])
def test_long_names_are_folded_and_no_number_is_lost(name: str, metrics: int) -> None:
    columns = [Column(f"METRIC{i} (dB) ↑", 4, dataset="sample") for i in range(metrics)]
    columns += [Column(title, 1) for title in ("params (K)", "GFLOPs", "ms per frame")]
    values: list[list[float | None]] = [[1234.5678 + i for i in range(len(columns))]] * 2
    text = in_terminal(Table(columns, [name, "short"], values, []))
    assert max(map(cell_len, text.splitlines())) <= 80
    for i, column in enumerate(columns):
        assert text.count(column.format(1234.5678 + i)) == 2
    assert name.replace(" ", "")[:30] in "".join(text.split())


def test_the_terminal_gets_no_codes_and_no_markup_from_names() -> None:
    name, title = "\x1b[31mred\x1b[0m\x07\x9b1m", "[bold]title[/bold]\x1b]0;x\x07"
    table = Table([Column("[red]x[/red]", 1)], [name], [[1.0]], [f"note {name}"])
    console = Console(width=80, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(to_terminal(table, title))
    text = console.export_text()
    assert not set(text) & {"\x1b", "\x07", "\x9b"}
    for part in (r"\x1b[31mred\x1b[0m", "[red]x[/red]", "[bold]title[/bold]"):
        assert part in text


def test_markdown_keeps_titles_and_names_in_their_places() -> None:
    table = Table(
        [Column("x", 1)], ["a\n| b | <b>&lt;</b>"], [[1.0]], ["one\n# two"], title="t\n# u"
    )
    text = to_markdown([table], "# <b>\n*name*")
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == [r"# # \<b\> \*name\*", "## t # u"]
    assert r"| a \| b \| \<b\>\&lt;\</b\> | 1.0 |" in text
    assert "- one # two" in text


def test_spreadsheets_run_no_cell() -> None:
    names = ["=1+1", "+cmd|x", "-2+3", "@SUM(A1)", "\t=1", " =1", "-5", "Net"]
    text = to_csv(Table([Column("=x", 2)], names, [[-1.5 + i] for i in range(len(names))], []))
    rows = list(csv.reader(text.splitlines()))
    assert rows[0][1] == "'=x"
    assert [row[0] for row in rows[1:]] == [*(f"'{name}" for name in names[:6]), "-5", "Net"]
    assert [float(row[1]) for row in rows[1:]] == [-1.5 + i for i in range(len(names))]

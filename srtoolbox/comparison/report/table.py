"""A table of numbers, whatever it is about, in several notations."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from srtoolbox.utils.console import terminal_table

Spread = float | tuple[float, float]

TIED_MARK = "≈"


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        title: Its head.
        digits: Digits after the point.
        better: 1 if higher is better, -1 if lower is, 0 if no winner is marked.
        signed: Positive numbers are printed with their sign.
        least: Numbers that would be printed as zero are printed as less than the last digit.
        detail: Left out on a terminal.
        dataset: What it is about; None if not one dataset.
    """

    title: str
    digits: int
    better: int = 0
    signed: bool = False
    least: bool = False
    detail: bool = False
    dataset: str | None = None


@dataclass(frozen=True)
class Table:
    """Cells by row and column; None where there is no number.

    Attributes:
        columns: The columns right of the row's name.
        methods: Names of the rows, with a mark if a footnote speaks of them.
        values: By row and column.
        spreads: What is printed behind a value, by row and column: a standard deviation, or the
            limits of an interval.
        notes: What must be read with the table, one sentence each.
        title: Above it; empty for a study's main table.
        head: Title of the column of names.
        tied_with_best: Rows and columns of what cannot be told apart from the best of its column.
        published: Rows that were not measured; they win nothing.
        summary: Rows that sum up the others; they win nothing.
        across: The best is marked along rows instead of columns.
        dataset: What it is about; None if not one dataset.
        protocol: Name of the protocol of all its scores.
        quantity: What its columns are values of; None if they are not.
    """

    columns: list[Column]
    methods: list[str]
    values: list[list[float | None]]
    spreads: list[list[Spread | None]]
    notes: list[str]
    title: str = ""
    head: str = "method"
    tied_with_best: frozenset[tuple[int, int]] = frozenset()
    published: frozenset[int] = frozenset()
    summary: frozenset[int] = frozenset()
    across: bool = False
    dataset: str | None = None
    protocol: str = ""
    quantity: str | None = None
    _ranks: dict[tuple[int, int], int] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def text(self, row: int, column: int) -> str:
        """A cell as it is printed."""
        value, spread = self.values[row][column], self.spreads[row][column]
        if value is None or math.isnan(value):
            return "–"
        text = _number(value, self.columns[column])
        if isinstance(spread, tuple):
            if not any(map(math.isnan, spread)):
                text += " [{}, {}]".format(*(_number(v, self.columns[column]) for v in spread))
        elif spread is not None:
            text += f" ± {spread:.{self.columns[column].digits}f}"
        return text + (TIED_MARK if (row, column) in self.tied_with_best else "")

    def rank(self, row: int, column: int) -> int:
        """1 for the best and 2 for the second best of a column (or row), otherwise 0.

        Values that print alike share their rank.
        """
        if not self._ranks:
            self._rank_all()
        return self._ranks[row, column]

    def _rank_all(self) -> None:
        rows, columns = range(len(self.methods)), range(len(self.columns))
        if self.across:
            # A line of several metrics has a winner of each, hence groups of like columns.
            kinds = {(c.better, c.digits, c.dataset) for c in self.columns}
            groups = [
                [(r, c) for c in columns if _kind(self.columns[c]) == kind]
                for r in rows
                for kind in sorted(kinds, key=str)
            ]
        else:
            outside = self.published | self.summary
            groups = [[(r, c) for r in rows if r not in outside] for c in columns]
        self._ranks.update({(r, c): 0 for r in rows for c in columns})
        for group in groups:
            rounded = {}
            for r, c in group:
                value = self.values[r][c]
                if self.columns[c].better and value is not None and not math.isnan(value):
                    rounded[r, c] = round(value, self.columns[c].digits)
            if len(distinct := sorted(set(rounded.values()))) > 1:
                if self.columns[group[0][1]].better > 0:
                    distinct.reverse()
                for place, value in rounded.items():
                    rank = distinct.index(value) + 1
                    self._ranks[place] = rank if rank <= 2 else 0


def to_markdown(tables: Sequence[Table], title: str) -> str:
    """Markdown with the best of each column bold and the second underlined."""
    return "\n".join([f"# {title}", "", *("\n".join(_markdown(table)) for table in tables)])


def to_csv(table: Table) -> str:
    """CSV with full precision and one head line; intervals as columns of their own."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    ranged = [
        any(isinstance(line[column], tuple) for line in table.spreads)
        for column in range(len(table.columns))
    ]
    head = [table.head]
    for column, wide in zip(table.columns, ranged, strict=True):
        name = column.title.rstrip(" ↑↓")
        head += [name, f"{name} low", f"{name} high"] if wide else [name]
    writer.writerow(head)
    for method, values, spreads in zip(table.methods, table.values, table.spreads, strict=True):
        cells: list[float | None] = []
        for value, spread, wide in zip(values, spreads, ranged, strict=True):
            cells += [value, *(spread or (None, None))] if wide else [value]
        writer.writerow([method.rstrip(" †✗"), *("" if v is None else repr(v) for v in cells)])
    return buffer.getvalue()


def to_terminal(table: Table, title: str) -> Group:
    """The table and its notes for ``rich``.

    Of several datasets each has a part of its own, and so have the costs: fits 80 columns.
    """
    shown = [place for place, column in enumerate(table.columns) if not column.detail]
    datasets = list(dict.fromkeys(table.columns[place].dataset for place in shown))
    parts = [shown]
    if len(datasets) > 2:  # the costs are of no dataset
        parts = [[c for c in shown if table.columns[c].dataset == name] for name in datasets]
    drawn = [_part(table, part, title if part is parts[0] else None) for part in parts]
    notes = [Padding(Text(note, style="dim"), (0, 0, 0, 1)) for note in table.notes]
    return Group(*drawn, *notes)


def _part(table: Table, columns: list[int], title: str | None) -> RichTable:
    styles = {0: "", 1: "bold green", 2: "underline"}
    rows = [
        [
            Text(name, style="italic" if row in table.published else ""),
            *(Text(table.text(row, c), style=styles[table.rank(row, c)]) for c in columns),
        ]
        for row, name in enumerate(table.methods)
    ]
    head = [table.head, *(table.columns[column].title for column in columns)]
    return terminal_table(title, head, rows)


def _markdown(table: Table) -> list[str]:
    columns = range(len(table.columns))
    lines = [f"## {_escaped(table.title)}", ""] if table.title else []
    lines.append(_line([_escaped(table.head), *(_escaped(c.title) for c in table.columns)]))
    lines.append(_line(["---"] + ["---:"] * len(columns)))
    marks = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
    for row, method in enumerate(table.methods):
        cells = [marks[table.rank(row, c)].format(table.text(row, c)) for c in columns]
        name = _escaped(method)
        if row in table.published:
            name, cells = f"*{name}*", [f"*{c}*" if c != "–" else c for c in cells]
        lines.append(_line([name, *cells]))
    return [*lines, "", *(f"- {_escaped(note)}" for note in table.notes), ""]


def _number(value: float, column: Column) -> str:
    if column.least and 0 <= value < 0.5 * 10**-column.digits:
        return f"<{10**-column.digits:.{column.digits}f}"
    return f"{value:{'+' if column.signed else ''}.{column.digits}f}"


def _kind(column: Column) -> tuple:
    return column.better, column.digits, column.dataset


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Text in which nothing is markup of a Markdown table."""
    for mark in "\\|*_<>`[":
        text = text.replace(mark, "\\" + mark)
    return text

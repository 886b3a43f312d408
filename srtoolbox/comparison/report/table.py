"""A table of numbers, and its form in Markdown, CSV and on a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from rich.console import Console, Group
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from srtoolbox.utils.console import printable, terminal_table
from srtoolbox.utils.portable import csv_text

Spread = float | tuple[float, float]

# A note below the table explains each mark.
TIED_MARK, DEVIATION_MARK, DEGENERATE_MARK, BEHIND_MARK, FAILURE_MARK = "≈", "†", "‡", "§", "✗"
ROW_MARKS = DEVIATION_MARK + DEGENERATE_MARK + BEHIND_MARK + FAILURE_MARK

# In a terminal of 80 columns, rich cuts tables whose smallest width, as it measures it, is larger.
_MAX_WIDTH = 75
_PIECE_WIDTH = 79


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        title: Its title.
        digits: Digits after the decimal point.
        better: 1 if higher is better, -1 if lower is better, 0 if no winner is marked.
        signed: Prints positive numbers with a sign.
        less_than: Prints ``<0.001`` instead of ``0.000``.
        detail: Omits the column on a terminal.
        dataset: The dataset of its numbers; None if they belong to no single dataset.
    """

    title: str
    digits: int
    better: int = 0
    signed: bool = False
    less_than: bool = False
    detail: bool = False
    dataset: str | None = None

    def format(self, value: float) -> str:
        """Returns a number as it is printed in this column."""
        if self.less_than and 0 <= value < 0.5 * 10**-self.digits:
            return f"<{10**-self.digits:.{self.digits}f}"
        return f"{value:{'+' if self.signed else ''}.{self.digits}f}"


class Cell(NamedTuple):
    """A printed cell.

    Attributes:
        number: The value, or a dash if there is none.
        spread: ``± deviation`` or ``[low, high]``; empty if there is none.
        rank: 1 for the best and 2 for the second best value, otherwise 0.
        tied: Whether the value does not differ significantly from the best one.
    """

    number: str
    spread: str
    rank: int
    tied: bool

    @property
    def text(self) -> str:
        """The whole cell as plain text."""
        text = f"{self.number} {self.spread}" if self.spread else self.number
        return text + TIED_MARK * self.tied


@dataclass(frozen=True)
class Table:
    """Numbers by row and column; None where there is no number.

    Attributes:
        columns: The columns to the right of the row names.
        names: Names of the rows; a mark at the end refers to a note.
        values: Numbers by row and column.
        notes: Sentences below the table.
        spreads: Standard deviation, or limits of an interval, by (row, column).
        title: Title above the table; empty for a study's main table.
        head: Title of the column of names.
        tied_with_best: (row, column) of values that do not differ significantly from the best.
        published: Rows that were not measured here; they are not ranked.
        summary: Rows that average the other rows; they stay last when rows are sorted.
        across: Ranks the values of each row instead of each column.
        dataset: The dataset of the whole table; None if there are several.
        protocol: Name of the protocol of all scores.
        quantity: The quantity of a sweep whose values are the columns; None for other tables.
    """

    columns: list[Column]
    names: list[str]
    values: list[list[float | None]]
    notes: list[str]
    spreads: dict[tuple[int, int], Spread] = field(default_factory=dict)
    title: str = ""
    head: str = "method"
    tied_with_best: frozenset[tuple[int, int]] = frozenset()
    published: frozenset[int] = frozenset()
    summary: frozenset[int] = frozenset()
    across: bool = False
    dataset: str | None = None
    protocol: str = ""
    quantity: str | None = None

    def cell(self, row: int, column: int) -> Cell:
        """Returns a cell as it is printed."""
        value, spread = self.values[row][column], self.spreads.get((row, column))
        if value is None:
            return Cell("–", "", 0, tied=False)
        if math.isnan(value):
            return Cell("nan", "", 0, tied=False)
        facts = self.columns[column]
        printed = ""
        if isinstance(spread, tuple):
            if not any(map(math.isnan, spread)):
                printed = "[{}, {}]".format(*map(facts.format, spread))
        elif spread is not None:
            printed = f"± {spread:.{facts.digits}f}"
        tied = (row, column) in self.tied_with_best
        return Cell(facts.format(value), printed, self._ranks.get((row, column), 0), tied)

    @cached_property
    def _ranks(self) -> dict[tuple[int, int], int]:
        """1 and 2 for the best and second best cells of each column (or row).

        Values that print alike share their rank; a cell without competitors has none.
        """
        groups: dict[int, dict[tuple[int, int], float]] = {}
        for row in set(range(len(self.names))) - self.published:
            for place, facts in enumerate(self.columns):
                value = self.values[row][place]
                if facts.better and value is not None and not math.isnan(value):
                    group = groups.setdefault(row if self.across else place, {})
                    group[row, place] = facts.better * round(value, facts.digits)
        ranks = {}
        for rounded in groups.values():
            if len(distinct := sorted(set(rounded.values()), reverse=True)) > 1:
                for place, value in rounded.items():
                    if value in distinct[:2]:
                        ranks[place] = distinct.index(value) + 1
        return ranks


def to_markdown(tables: Sequence[Table], title: str) -> str:
    """Returns Markdown; the best value of a column is bold, the second best underlined."""
    return "\n".join(
        [f"# {escape_markdown(title)}", "", *("\n".join(_markdown(table)) for table in tables)]
    )


def to_csv(table: Table) -> str:
    """Returns CSV with one header line and full precision; an interval fills three columns."""
    limits = {place: spread for place, spread in table.spreads.items() if isinstance(spread, tuple)}
    with_limits = {column for _, column in limits}
    head = [table.head]
    for place, column in enumerate(table.columns):
        name = column.title.rstrip(" ↑↓")
        head += [name, f"{name} low", f"{name} high"] if place in with_limits else [name]
    lines: list[list[object]] = [[*head]]
    for row, name in enumerate(table.names):
        line: list[object] = [name.rstrip(f" {ROW_MARKS}")]
        for place, value in enumerate(table.values[row]):
            line.append(value)
            if place in with_limits:
                line += limits.get((row, place), (None, None))
        lines.append(line)
    return csv_text(lines)


def to_terminal(table: Table, title: str) -> Group:
    """Returns the table and its notes for ``rich``.

    With several datasets, or if 80 columns are not enough, each dataset and the costs form a table
    of their own.
    """
    shown = [place for place, column in enumerate(table.columns) if not column.detail]
    datasets = list(dict.fromkeys(table.columns[place].dataset for place in shown))
    drawn = [_part(table, shown, title)]
    if len(datasets) > 2 or _width(drawn[0]) > _MAX_WIDTH:  # the dataset of the costs is None
        parts = [[c for c in shown if table.columns[c].dataset == name] for name in datasets]
        parts = [piece for part in parts for piece in _pieces(table, part)]
        drawn = [_part(table, part, None if number else title) for number, part in enumerate(parts)]
    notes = [Padding(Text(printable(note), style="dim"), (0, 0, 0, 1)) for note in table.notes]
    return Group(*drawn, *notes)


def _pieces(table: Table, columns: list[int]) -> list[list[int]]:
    """Returns the columns in as few pieces as fit into a terminal; each has at least one column."""
    pieces: list[list[int]] = [[]]
    for column in columns:
        if pieces[-1] and _width(_part(table, [*pieces[-1], column], None)) > _PIECE_WIDTH:
            pieces.append([])
        pieces[-1].append(column)
    return pieces


def _width(drawn: RichTable) -> int:
    """Returns the smallest number of characters in a line that shows the table completely."""
    console = Console(width=1000)
    return Measurement.get(console, console.options, drawn).minimum


def _part(table: Table, columns: list[int], title: str | None) -> RichTable:
    styles = {0: "", 1: "bold green", 2: "underline"}
    rows = []
    for row, name in enumerate(table.names):
        cells = [table.cell(row, column) for column in columns]
        style = "italic" if row in table.published else ""
        texts = [Text(cell.text, style=styles[cell.rank]) for cell in cells]
        rows.append([Text(printable(name), style=style), *texts])
    head = [table.head, *(table.columns[column].title for column in columns)]
    return terminal_table(title, head, rows)


def _markdown(table: Table) -> list[str]:
    lines = [f"## {escape_markdown(table.title)}", ""] if table.title else []
    rows = [[escape_markdown(text) for text in (table.head, *(c.title for c in table.columns))]]
    rows.append(["---"] + ["---:"] * len(table.columns))
    marks = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
    for row, name in enumerate(map(escape_markdown, table.names)):
        cells = [table.cell(row, column) for column in range(len(table.columns))]
        texts = [marks[cell.rank].format(cell.text) for cell in cells]
        if row in table.published:
            name, texts = f"*{name}*", [f"*{text}*" if text != "–" else text for text in texts]
        rows.append([name, *texts])
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return [*lines, "", *(f"- {escape_markdown(note)}" for note in table.notes), ""]


def escape_markdown(text: str) -> str:
    """Returns text as one line without any Markdown or HTML markup."""
    return re.sub(r"[\\|*_<>`[]|~(?=~)|&(?=#|\w+;)", r"\\\g<0>", " ".join(printable(text).split()))

"""The table of a study: one row per method, computed from the store, in several notations."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from statistics import stdev

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from srtoolbox.comparison.results import Entry, ResultStore, StudyCard
from srtoolbox.engine.evaluator import average, mean


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        title: Its head.
        digits: Digits after the point.
        better: 1 if higher is better, -1 if lower is, 0 if no winner is marked.
    """

    title: str
    digits: int
    better: int = 0


@dataclass(frozen=True)
class Table:
    """Cells by row and column; None where there is no number.

    Attributes:
        columns: The columns right of the method's name.
        methods: Names of the rows, with a mark if a footnote speaks of them.
        values: By row and column.
        spreads: Standard deviation over seeds by row and column, where there are several.
        notes: What must be read with the table, one sentence each.
    """

    columns: list[Column]
    methods: list[str]
    values: list[list[float | None]]
    spreads: list[list[float | None]]
    notes: list[str]

    def text(self, row: int, column: int) -> str:
        """A cell as it is printed."""
        value, spread = self.values[row][column], self.spreads[row][column]
        if value is None:
            return "–"
        digits = self.columns[column].digits
        return f"{value:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")

    def rank(self, row: int, column: int) -> int:
        """1 for the best and 2 for the second best of a column, otherwise 0.

        Values that print alike share their rank.
        """
        better, digits = self.columns[column].better, self.columns[column].digits
        value = self.values[row][column]
        if not better or value is None:
            return 0
        printed = {round(line[column], digits) for line in self.values if line[column] is not None}
        order = sorted(printed, reverse=better > 0)
        place = order.index(round(value, digits)) + 1
        return place if place <= 2 and len(order) > 1 else 0


def build_table(store: ResultStore, card: StudyCard) -> Table:
    """The table of everything in the store that belongs to the study as it is now."""
    datasets = list(dict.fromkeys(name for entry in card.entries for name in entry.evaluations))
    columns = [
        Column(
            (f"{dataset} " if len(datasets) > 1 else "")
            + _metric_title(name, facts["unit"], facts["higher_is_better"]),
            facts["digits"],
            1 if facts["higher_is_better"] else -1,
        )
        for dataset in datasets
        for name, facts in card.metrics.items()
    ]
    columns += [
        Column("params (K)", 0),
        Column("GFLOPs", 2),
        Column("ms per frame", 1),
        Column("test MiB", 0),
        Column("train MiB", 0),
        Column("train s", 1),
    ]
    groups: dict[str, list[Entry]] = {}
    for entry in card.entries:
        groups.setdefault(entry.method, []).append(entry)
    table = Table(columns, [], [], [], _notes(store, card))
    for method, entries in groups.items():
        by_seed = [_row(store, card, entry, datasets) for entry in entries]
        cells = list(zip(*by_seed, strict=True))
        failed = any(entry.failure for entry in entries)
        mark = (" †" if entries[0].differs else "") + (" ✗" if failed else "")
        table.methods.append(method + mark)
        table.values.append([mean(list(cell)) for cell in cells])
        spread = len(entries) > 1
        table.spreads.append(
            [
                stdev(cell) if spread and None not in cell and column.better else None
                for cell, column in zip(cells, columns, strict=True)
            ]
        )
    return table


def to_markdown(table: Table, title: str) -> str:
    """Markdown with the best of each column bold and the second underlined."""
    head = ["method", *(column.title for column in table.columns)]
    lines = [f"# {title}", "", _line(head), _line(["---"] + ["---:"] * len(table.columns))]
    marks = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
    for row, method in enumerate(table.methods):
        cells = [
            marks[table.rank(row, column)].format(table.text(row, column))
            for column in range(len(table.columns))
        ]
        lines.append(_line([method, *cells]))
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def to_csv(table: Table) -> str:
    """CSV with full precision and one head line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", *(_bare(column.title) for column in table.columns)])
    for method, values in zip(table.methods, table.values, strict=True):
        writer.writerow([method.rstrip(" †✗"), *("" if v is None else repr(v) for v in values)])
    return buffer.getvalue()


def to_terminal(table: Table, title: str) -> Group:
    """The table and its notes for ``rich``; fits 80 columns as long as there is one dataset."""
    drawn = RichTable(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    drawn.add_column("method", no_wrap=True)
    styles = {0: "{}", 1: "[bold green]{}[/]", 2: "[underline]{}[/]"}
    rows = range(len(table.methods))
    for number, column in enumerate(table.columns):
        # Heads may be broken between words, numbers never.
        words = [*column.title.split(), *(table.text(row, number) for row in rows)]
        drawn.add_column(column.title, justify="right", min_width=max(map(len, words)))
    for row in rows:
        cells = [
            styles[table.rank(row, column)].format(table.text(row, column))
            for column in range(len(table.columns))
        ]
        drawn.add_row(table.methods[row], *cells)
    return Group(drawn, *(Padding(Text(note, style="dim"), (0, 0, 0, 1)) for note in table.notes))


def _row(
    store: ResultStore, card: StudyCard, entry: Entry, datasets: list[str]
) -> list[float | None]:
    cells: list[float | None] = []
    for dataset in datasets:
        records = store.records(entry.evaluations.get(dataset, ""))
        means = average(records, card.protocol["average"])
        cells += [means.get(metric) for metric in card.metrics]
    cost = store.cost(entry.cost or "") or {}

    def scaled(key: str, factor: float) -> float | None:
        return None if cost.get(key) is None else cost[key] * factor

    trained = entry.train_seconds if entry.run and not entry.failure else None
    return [
        *cells,
        scaled("params", 1e-3),
        scaled("flops", 1e-9),
        scaled("latency", 1e3),
        scaled("memory", 1),
        scaled("training_memory", 1),
        trained,
    ]


def _notes(store: ResultStore, card: StudyCard) -> list[str]:
    seeds = sorted({entry.seed for entry in card.entries})
    notes = [
        card.protocol["text"],
        f"Training: {card.training}; seed{'s' if len(seeds) > 1 else ''} "
        f"{', '.join(map(str, seeds))}{' (mean ± standard deviation)' if len(seeds) > 1 else ''}.",
    ]
    cost = next((cost for e in card.entries if (cost := store.cost(e.cost or ""))), None)
    if cost:
        environment = card.environment
        threads = ", ".join(
            map(str, sorted({entry.threads for entry in card.entries if entry.run}))
        )
        size = "×".join(map(str, cost["input"][1:]))
        notes.append(
            f"Costs: one SR frame from {size} (frames × channels × height × width) on "
            f"{environment['device']}, {environment['threads']} threads, "
            f"torch {environment['packages']['torch']}, fp32; GFLOPs are 2 per multiply-add of "
            "convolutions and matrix products; MiB are peak tensor memory beyond weights and "
            "input, of one frame and of one training batch; train s: "
            f"{threads} thread(s) each."
        )
    for name, facts in card.metrics.items():
        if facts["unavailable"]:
            notes.append(f"{name.upper()} is left out: {facts['unavailable']}")
    for entry in card.entries:
        if entry.differs and entry.seed == seeds[0]:
            notes.append(f"† {entry.method}: {'; '.join(entry.differs)}.")
        if entry.failure:
            notes.append(f"✗ {entry.method}, seed {entry.seed}: {entry.failure}")
    return notes


def _metric_title(name: str, unit: str, higher_is_better: bool) -> str:
    arrow = "↑" if higher_is_better else "↓"
    return f"{name.upper()}{f' ({unit})' if unit else ''} {arrow}"


def _bare(title: str) -> str:
    return title.rstrip(" ↑↓")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

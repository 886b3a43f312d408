"""The tables of a study, each a view of its store: overview, sweeps, and those of each test set.

Every table holds scores of one protocol, which stands under it.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import stdev
from typing import Any

from srtoolbox.comparison.details import by_item, frames_used, statistics
from srtoolbox.comparison.notes import ALIKE_NOTE, published_marks, published_notes, study_notes
from srtoolbox.comparison.results import Entry, Published
from srtoolbox.comparison.scores import Scores, direction, metric_title
from srtoolbox.comparison.table import Column, Table
from srtoolbox.engine.evaluator import average, mean

_COSTS = (
    (Column("params (K)", 0), "params", 1e-3),
    (Column("GFLOPs", 2), "flops", 1e-9),
    (Column("ms per frame", 1), "latency", 1e3),
    (Column("p95 ms", 1, detail=True), "latency_p95", 1e3),
    (Column("test MiB", 0), "memory", 1),
    (Column("train MiB", 0), "training_memory", 1),
)


def all_tables(views: list[Scores], baseline: str | None = None) -> list[Table]:
    """The overview of each protocol, the sweeps, every dataset's statistics and scores by item.

    A test set that is part of a sweep is in no other table, but for that of its frames' use.

    Args:
        views: Of one study, protocol by protocol.
        baseline: Method that the others are compared with; None: the best.
    """
    tables = [overview(views[0]), *(overview(scores, costs=False) for scores in views[1:])]
    for quantity in views[0].card.sweeps:
        tables += [sweep(scores, quantity) for scores in views]
    for dataset in views[0].datasets:
        for scores in views if dataset in views[0].main_datasets else []:
            tables += [statistics(scores, dataset, m, baseline) for m in scores.shown_metrics]
            tables += by_item(scores, dataset)
        tables += [] if views[0].repeats(dataset) else frames_used(views[0], dataset)
    if len(views) > 1:
        tables = [
            replace(table, title=f"{table.title or 'Overview'}, protocol {table.protocol}")
            for table in tables
        ]
    return [table for table in tables if table.methods]


def overview(scores: Scores, costs: bool = True) -> Table:
    """The main table: one row per method, the test sets and metrics, and what it costs."""
    datasets, metrics = scores.main_datasets, scores.shown_metrics
    pairs = [(dataset, metric) for dataset in datasets for metric in metrics]
    columns = [_score_column(scores, *pair) for pair in pairs]
    if costs:
        columns += [*(column for column, _, _ in _COSTS), Column("train s", 1)]
    table = _measured(scores, scores.methods, pairs, columns, costs)
    notes = study_notes(scores, costs)
    notes[1:1] = table.notes
    names = []
    for method, entries in scores.entries.items():
        failed = any(entry.failure for entry in entries)
        names.append(method + (" †" if entries[0].differs else "") + (" ✗" if failed else ""))
    table = replace(table, methods=names, notes=notes)
    return _without_empty(_with_published(scores, table, pairs))


def sweep(scores: Scores, quantity: str) -> Table:
    """The first metric on the test sets that differ in one quantity, from its lowest value on."""
    points, metric = scores.card.sweeps[quantity], scores.shown_metrics[0]
    names, facts = sorted(points, key=points.__getitem__), scores.metrics[metric]
    pairs = [(name, metric) for name in names]
    columns = [Column(f"{points[x]:g}", facts["digits"], direction(facts)) for x in names]
    scored = {
        entry.method for entry in scores.card.entries if points.keys() & entry.evaluations.keys()
    }
    table = _measured(scores, [m for m in scores.methods if m in scored], pairs, columns)
    seeds = {entry.seed for entry in scores.card.entries}
    notes = [
        scores.card.protocol["text"],
        f"Test sets from left to right: {', '.join(names)}."
        + (" Mean ± standard deviation over seeds." if len(seeds) > 1 else ""),
        *table.notes,
    ]
    title = f"{metric_title(metric, facts)} by {quantity}"
    table = replace(table, notes=notes, title=title, quantity=quantity)
    return _with_published(scores, table, pairs)


def _measured(
    scores: Scores,
    methods: list[str],
    pairs: list[tuple[str, str]],
    columns: list[Column],
    costs: bool = False,
) -> Table:
    """Means and deviations over seeds; the only note is of what cannot be told apart."""
    values, spreads = [], []
    for entries in (scores.entries[method] for method in methods):
        cells = list(zip(*(_row(scores, entry, pairs, costs) for entry in entries), strict=True))
        values.append([mean(list(cell)) for cell in cells])
        several = len(entries) > 1
        spreads.append(
            [
                stdev(cell) if several and None not in cell and column.better else None
                for cell, column in zip(cells, columns, strict=True)
            ]
        )
    alike = frozenset(
        (methods.index(method), column)
        for column, pair in enumerate(pairs)
        for method in scores.alike(*pair)
    )
    units = " or ".join(dict.fromkeys(scores.unit(dataset) for dataset, _ in pairs))
    notes = [ALIKE_NOTE.format(unit=units)] if alike else []
    protocol = scores.card.protocol["name"]
    return Table(columns, methods, values, spreads, notes, alike=alike, protocol=protocol)


def _score_column(scores: Scores, dataset: str, metric: str) -> Column:
    facts = scores.metrics[metric]
    title = metric_title(metric, facts)
    title = f"{dataset} {title}" if len(scores.datasets) > 1 else title
    return Column(title, facts["digits"], direction(facts), dataset=dataset)


def _row(
    scores: Scores, entry: Entry, pairs: list[tuple[str, str]], costs: bool
) -> list[float | None]:
    datasets = {dataset for dataset, _ in pairs}
    means = {d: average(scores.records(entry, d), scores.average) for d in datasets}
    cells = [means[dataset].get(metric) for dataset, metric in pairs]
    if not costs:
        return cells
    cost = scores.cost(entry)
    cells += [None if cost.get(key) is None else cost[key] * factor for _, key, factor in _COSTS]
    return [*cells, entry.train_seconds if entry.run and not entry.failure else None]


def _with_published(scores: Scores, table: Table, pairs: list[tuple[str, str]]) -> Table:
    """The table with a row below for each method whose numbers are printed somewhere."""
    by_method: dict[tuple[str, str], list[Published]] = {}
    shown = [one for one in scores.card.published if one.dataset in {name for name, _ in pairs}]
    for one in shown:
        by_method.setdefault((one.method, one.source), []).append(one)
    first = len(table.methods)
    titles = [column.title for column in table.columns]
    marks = published_marks(shown)
    for (method, source), rows in by_method.items():
        found: dict[Any, float | None] = {
            (row.dataset, metric): value for row in rows for metric, value in row.scores.items()
        }
        cells = [found.get(pair) for pair in pairs] + [None] * (len(titles) - len(pairs))
        params = next((row.params for row in rows if row.params is not None), None)
        if params is not None and "params (K)" in titles:
            cells[titles.index("params (K)")] = params * 1e-3
        table.methods.append(f"{method} ({marks[source]})")
        table.values.append(cells)
        table.spreads.append([None] * len(cells))
    table.notes.extend(published_notes(shown, sizes="params (K)" not in titles))
    return replace(table, published=frozenset(range(first, len(table.methods))))


def _without_empty(table: Table) -> Table:
    """The table without the costs that nobody has; they stand right of all scores."""
    columns = range(len(table.columns))
    kept = [
        c
        for c in columns
        if table.columns[c].better or any(row[c] is not None for row in table.values)
    ]
    return replace(
        table,
        columns=[table.columns[c] for c in kept],
        values=[[row[c] for c in kept] for row in table.values],
        spreads=[[row[c] for c in kept] for row in table.spreads],
    )

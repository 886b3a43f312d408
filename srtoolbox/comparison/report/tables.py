"""The tables of a report, made from the stored scores."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import stdev
from typing import Any

from srtoolbox.comparison.analysis.scores import Scores, direction, metric_title
from srtoolbox.comparison.analysis.statistics import Interval, bootstrap, holm, over_seeds, paired
from srtoolbox.comparison.report.footnotes import (
    FRAME_USE_NOTE,
    TIED_NOTE,
    published_marks,
    published_notes,
    study_notes,
)
from srtoolbox.comparison.report.table import Column, Table
from srtoolbox.comparison.store import Entry, Published
from srtoolbox.engine.evaluation.evaluator import average, mean
from srtoolbox.engine.evaluation.frame_use import gain_from_frames

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
        names.append(method + (" †" if entries[0].deviations else "") + (" ✗" if failed else ""))
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
    tied_with_best = frozenset(
        (methods.index(method), column)
        for column, pair in enumerate(pairs)
        for method in scores.tied_with_best(*pair)
    )
    units = " or ".join(dict.fromkeys(scores.unit(dataset) for dataset, _ in pairs))
    notes = [TIED_NOTE.format(unit=units)] if tied_with_best else []
    protocol = scores.card.protocol["name"]
    return Table(
        columns, methods, values, spreads, notes, tied_with_best=tied_with_best, protocol=protocol
    )


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


_MOST_IMAGES = 60  # of a dataset that is shown image by image


def statistics(scores: Scores, dataset: str, metric: str, baseline: str | None = None) -> Table:
    """Intervals of one metric, and paired differences to the baseline with their p values."""
    facts = scores.metrics[metric]
    samples = scores.samples(dataset, metric)
    against = Differences(scores, dataset, metric, baseline)
    differences = list(against.differences)
    corrected = dict(
        zip(differences, holm([against.differences[m].p for m in differences]), strict=True)
    )
    unit, digits, seeds = (
        scores.unit(dataset),
        facts["digits"],
        len(scores.card.entries) > len(scores.methods),
    )
    columns = [
        Column(f"mean over {unit}", digits, direction(facts)),
        *([Column("mean over seeds", digits)] if seeds else []),
        Column(f"difference to {against.baseline}", digits, signed=True),
        Column("p", 3, least=True),
    ]
    count = max((len(values) for values in samples.values()), default=0)
    values, spreads = [], []
    for method in samples:
        row: list[Any] = [bootstrap(samples[method])]
        row += [_seed_interval(scores, method, dataset, metric)] if seeds else []
        row.append(against.differences.get(method))
        p = corrected.get(method) if count > 1 else None
        values.append([x and x.mean for x in row] + [p])
        spreads.append([x and (x.low, x.high) for x in row] + [None])
    if count == 1:
        meaning = f"One {unit[:-1]} says nothing of others: there is neither interval nor test."
        meaning += " In brackets 95 % intervals over seeds (Student's t)." if seeds else ""
    else:
        meaning = f"In brackets 95 % intervals over {count} {unit} (bootstrap"
        meaning += (
            ", of each the mean over its seeds) and over seeds (Student's t)" if seeds else ")"
        )
        meaning += (
            f"; differences are paired by {unit[:-1]}; p of the paired t-test, corrected by "
            "Holm's method for the number of rows."
        )
    notes = [scores.card.protocol["text"], meaning]
    tied_with_best = scores.tied_with_best(dataset, metric)
    close = frozenset((row, 0) for row, name in enumerate(samples) if name in tied_with_best)
    if close:
        notes.append(TIED_NOTE.format(unit=unit))
    title = f"{dataset}: {metric_title(metric, facts)} with intervals"
    return _detail(scores, dataset, columns, list(samples), values, spreads, notes, title, close)


def by_item(scores: Scores, dataset: str) -> list[Table]:
    """Rows of clips (or images, if they are few) and columns of methods, and their average."""
    clips = scores.has_clips(dataset)
    kind, of = ("clip", scores.clips) if clips else ("image", scores.images)
    tables = []
    for metric in scores.shown_metrics:
        facts = scores.metrics[metric]
        found = {m: cells for m in scores.methods if (cells := of(m, dataset, metric))}
        items = list(next(iter(found.values()), {}))
        if len(items) < 2 or (not clips and len(items) > _MOST_IMAGES):
            continue
        columns = [Column(method, facts["digits"], direction(facts)) for method in found]
        values = [[cells.get(item) for cells in found.values()] for item in items]
        means = [[one.get(metric) for one in scores.seed_means(m, dataset)] for m in found]
        values.append([mean(over_seeds) for over_seeds in means])
        spreads = [[None] * len(columns) for _ in values]
        notes = [scores.card.protocol["text"]]
        title = f"{dataset}: {metric_title(metric, facts)} by {kind}"
        table = _detail(
            scores, dataset, columns, [*items, "average"], values, spreads, notes, title
        )
        tables.append(replace(table, head=kind, summary=frozenset({len(items)}), across=True))
    return tables


def frames_used(scores: Scores, dataset: str) -> list[Table]:
    """PSNR of the multi-frame methods by what they were given; none if it was not measured."""
    found: dict[str, dict[str, float | None]] = {}
    for method, entries in scores.entries.items():
        uses = [scores.store.frame_use(e.evaluations.get(dataset, "")) for e in entries]
        if uses and None not in uses:
            found[method] = {name: mean([use[name] for use in uses]) for name in uses[0]}
    if not found:
        return []
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    columns = [*(Column(name, 2) for name in names), Column("owed to the others", 2, signed=True)]
    values = [[*(row.get(name) for name in names), gain_from_frames(row)] for row in found.values()]
    notes = [scores.card.protocol["text"], FRAME_USE_NOTE]
    spreads: list[list[Any]] = [[None] * len(columns) for _ in values]
    title = f"{dataset}: PSNR (dB) by the frames that are given"
    return [_detail(scores, dataset, columns, list(found), values, spreads, notes, title)]


class Differences:
    """Paired differences of one metric between every method and a baseline.

    Args:
        scores: Of the study.
        dataset: Its name.
        metric: Its name.
        baseline: Method that the others are compared with; None: the best.

    Attributes:
        baseline: Its name; None if nothing was scored.
        differences: ``Difference`` of every other method.
        values: The differences (n,) of every other method.
    """

    def __init__(
        self, scores: Scores, dataset: str, metric: str, baseline: str | None = None
    ) -> None:
        samples = scores.samples(dataset, metric)
        self.baseline = baseline if baseline in samples else scores.best(dataset, metric)
        others = [name for name in samples if name != self.baseline]
        self.differences = {name: paired(samples[name], samples[self.baseline]) for name in others}
        self.values = {name: samples[name] - samples[self.baseline] for name in others}


def _detail(
    scores: Scores,
    dataset: str,
    columns: list[Column],
    names: list[str],
    values: list[list[float | None]],
    spreads: list[list[Any]],
    notes: list[str],
    title: str,
    tied_with_best: frozenset[tuple[int, int]] = frozenset(),
) -> Table:
    """A table about one dataset."""
    protocol = scores.card.protocol["name"]
    facts = {"tied_with_best": tied_with_best, "dataset": dataset, "protocol": protocol}
    return Table(columns, names, values, spreads, notes, title, **facts)


def _seed_interval(scores: Scores, method: str, dataset: str, metric: str) -> Interval | None:
    values = [means.get(metric) for means in scores.seed_means(method, dataset)]
    usable = None not in values and all(map(math.isfinite, values))
    return over_seeds(values) if usable else None

"""The tables of a study, each a view of its store: overview, statistics, clip by clip.

Every table holds scores of one protocol, which stands under it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import stdev
from typing import Any

from srtoolbox.comparison.notes import ALIKE_NOTE, FRAME_USE_NOTE, published_notes, study_notes
from srtoolbox.comparison.results import Entry, Published
from srtoolbox.comparison.scores import Scores
from srtoolbox.comparison.statistics import Interval, bootstrap, holm, over_seeds, paired
from srtoolbox.comparison.table import Column, Table
from srtoolbox.engine.evaluator import average, mean
from srtoolbox.engine.frame_use import owed

_COSTS = (
    (Column("params (K)", 0), "params", 1e-3),
    (Column("GFLOPs", 2), "flops", 1e-9),
    (Column("ms per frame", 1), "latency", 1e3),
    (Column("p95 ms", 1, detail=True), "latency_p95", 1e3),
    (Column("test MiB", 0), "memory", 1),
    (Column("train MiB", 0), "training_memory", 1),
)
_MOST_IMAGES = 60  # of a dataset that is shown image by image


def all_tables(views: list[Scores], baseline: str | None = None) -> list[Table]:
    """The overview of each protocol, then every dataset's statistics and scores by item.

    Args:
        views: Of one study, protocol by protocol.
        baseline: Method that the others are compared with; None: the best.
    """
    tables = [overview(views[0]), *(overview(scores, costs=False) for scores in views[1:])]
    for dataset in views[0].datasets:
        for scores in views:
            tables += [statistics(scores, dataset, m, baseline) for m in scores.shown_metrics]
            tables += by_item(scores, dataset)
        tables += frames_used(views[0], dataset)
    if len(views) > 1:
        tables = [
            replace(table, title=f"{table.title or 'Overview'}, protocol {table.protocol}")
            for table in tables
        ]
    return [table for table in tables if table.methods]


def overview(scores: Scores, costs: bool = True) -> Table:
    """The main table: one row per method, all datasets and metrics, and what it costs."""
    pairs = [(dataset, metric) for dataset in scores.datasets for metric in scores.shown_metrics]
    columns = [_score_column(scores, *pair) for pair in pairs]
    if costs:
        columns += [*(column for column, _, _ in _COSTS), Column("train s", 1)]
    names, values, spreads = [], [], []
    for method, entries in scores.entries.items():
        cells = list(zip(*(_row(scores, entry, pairs, costs) for entry in entries), strict=True))
        failed = any(entry.failure for entry in entries)
        names.append(method + (" †" if entries[0].differs else "") + (" ✗" if failed else ""))
        values.append([mean(list(cell)) for cell in cells])
        several = len(entries) > 1
        spreads.append(
            [
                stdev(cell) if several and None not in cell and column.better else None
                for cell, column in zip(cells, columns, strict=True)
            ]
        )
    alike = frozenset(
        (row, column)
        for column, pair in enumerate(pairs)
        for row, method in enumerate(scores.methods)
        if method in scores.alike(*pair)
    )
    notes = study_notes(scores, costs)
    if alike:
        units = " or ".join(dict.fromkeys(map(scores.unit, scores.datasets)))
        notes.insert(1, ALIKE_NOTE.format(unit=units))
    protocol = scores.card.protocol["name"]
    table = Table(columns, names, values, spreads, notes, alike=alike, protocol=protocol)
    return _without_empty(_with_published(scores, table, pairs))


def statistics(scores: Scores, dataset: str, metric: str, baseline: str | None = None) -> Table:
    """Intervals of one metric, and paired differences to the baseline with their p values."""
    facts = scores.metrics[metric]
    samples = scores.samples(dataset, metric)
    against = Differences(scores, dataset, metric, baseline)
    rivals = list(against.rivals)
    corrected = dict(zip(rivals, holm([against.rivals[m].p for m in rivals]), strict=True))
    unit, digits, seeds = (
        scores.unit(dataset),
        facts["digits"],
        len(scores.card.entries) > len(scores.methods),
    )
    columns = [
        Column(f"mean over {unit}", digits, _sign(facts)),
        *([Column("mean over seeds", digits)] if seeds else []),
        Column(f"difference to {against.baseline}", digits, signed=True),
        Column("p", 3, least=True),
    ]
    values, spreads = [], []
    for method in samples:
        row: list[Any] = [bootstrap(samples[method])]
        row += [_seed_interval(scores, method, dataset, metric)] if seeds else []
        row.append(against.rivals.get(method))
        values.append([x and x.mean for x in row] + [corrected.get(method)])
        spreads.append([x and (x.low, x.high) for x in row] + [None])
    count = max((len(values) for values in samples.values()), default=0)
    notes = [
        scores.card.protocol["text"],
        f"In brackets 95 % intervals over {count} {unit[:-1] if count == 1 else unit} (bootstrap"
        + (", of each the mean over its seeds) and over seeds (Student's t)" if seeds else ")")
        + f"; differences are paired by {unit[:-1]}; p of the paired t-test, corrected by "
        "Holm's method for the number of rows.",
    ]
    alike = scores.alike(dataset, metric)
    close = frozenset((row, 0) for row, name in enumerate(samples) if name in alike)
    if close:
        notes.append(ALIKE_NOTE.format(unit=unit))
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
        columns = [Column(method, facts["digits"], _sign(facts)) for method in found]
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
    values = [[*(row.get(name) for name in names), owed(row)] for row in found.values()]
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
        rivals: ``Difference`` of every other method.
        values: The differences (n,) of every other method.
    """

    def __init__(
        self, scores: Scores, dataset: str, metric: str, baseline: str | None = None
    ) -> None:
        samples = scores.samples(dataset, metric)
        self.baseline = baseline if baseline in samples else scores.best(dataset, metric)
        others = [name for name in samples if name != self.baseline]
        self.rivals = {name: paired(samples[name], samples[self.baseline]) for name in others}
        self.values = {name: samples[name] - samples[self.baseline] for name in others}


def metric_title(name: str, facts: dict[str, Any]) -> str:
    """The metric with its unit and direction."""
    unit = f" ({facts['unit']})" if facts["unit"] else ""
    return f"{name.upper()}{unit} {'↑' if facts['higher_is_better'] else '↓'}"


def _score_column(scores: Scores, dataset: str, metric: str) -> Column:
    facts = scores.metrics[metric]
    title = metric_title(metric, facts)
    title = f"{dataset} {title}" if len(scores.datasets) > 1 else title
    return Column(title, facts["digits"], _sign(facts), dataset=dataset)


def _sign(facts: dict[str, Any]) -> int:
    return 1 if facts["higher_is_better"] else -1


def _row(
    scores: Scores, entry: Entry, pairs: list[tuple[str, str]], costs: bool
) -> list[float | None]:
    means = {d: average(scores.records(entry, d), scores.average) for d in scores.datasets}
    cells = [means[dataset].get(metric) for dataset, metric in pairs]
    if not costs:
        return cells
    cost = scores.cost(entry)
    cells += [None if cost.get(key) is None else cost[key] * factor for _, key, factor in _COSTS]
    return [*cells, entry.train_seconds if entry.run and not entry.failure else None]


def _detail(
    scores: Scores,
    dataset: str,
    columns: list[Column],
    names: list[str],
    values: list[list[float | None]],
    spreads: list[list[Any]],
    notes: list[str],
    title: str,
    alike: frozenset[tuple[int, int]] = frozenset(),
) -> Table:
    """A table about one dataset."""
    protocol = scores.card.protocol["name"]
    facts = {"alike": alike, "dataset": dataset, "protocol": protocol}
    return Table(columns, names, values, spreads, notes, title, **facts)


def _with_published(scores: Scores, table: Table, pairs: list[tuple[str, str]]) -> Table:
    """The table with a row below for each method whose numbers are printed somewhere."""
    by_method: dict[tuple[str, str], list[Published]] = {}
    for one in scores.card.published:
        by_method.setdefault((one.method, one.source), []).append(one)
    first = len(table.methods)
    titles = [column.title for column in table.columns]
    for (method, _), rows in by_method.items():
        found: dict[Any, float | None] = {
            (row.dataset, metric): value for row in rows for metric, value in row.scores.items()
        }
        cells = [found.get(pair) for pair in pairs] + [None] * (len(titles) - len(pairs))
        params = next((row.params for row in rows if row.params is not None), None)
        if params is not None and "params (K)" in titles:
            cells[titles.index("params (K)")] = params * 1e-3
        table.methods.append(f"{method} (published)")
        table.values.append(cells)
        table.spreads.append([None] * len(cells))
    table.notes.extend(published_notes(scores.card.published))
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


def _seed_interval(scores: Scores, method: str, dataset: str, metric: str) -> Interval | None:
    values = [means.get(metric) for means in scores.seed_means(method, dataset)]
    usable = None not in values and all(map(math.isfinite, values))
    return over_seeds(values) if usable else None

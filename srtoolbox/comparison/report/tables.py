"""Makes the tables of a report from the stored scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import stdev

import numpy as np

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.analysis.statistics import (
    MIN_EQUAL_DIFFERENCES,
    MIN_TEST_SAMPLES,
    Difference,
    Interval,
    bootstrap,
    over_seeds,
)
from srtoolbox.comparison.report.footnotes import (
    behind_untrained,
    frame_use_note,
    odd_score_notes,
    published_marks,
    published_notes,
    study_notes,
    tied_note,
)
from srtoolbox.comparison.report.table import (
    BEHIND_MARK,
    DEGENERATE_MARK,
    DEVIATION_MARK,
    FAILURE_MARK,
    Column,
    Spread,
    Table,
)
from srtoolbox.comparison.store import Entry, Published
from srtoolbox.engine.evaluation.records import BLIND, gain_from_frames, mean

_PARAMS = Column("params (K)", 0)
_COSTS = (
    (_PARAMS, "params", 1e-3),
    (Column("GFLOPs", 2), "flops", 1e-9),
    (Column("ms per frame", 1), "latency", 1e3),
    (Column("p95 ms", 1, detail=True), "latency_p95", 1e3),
    (Column("test MiB", 0), "memory", 1),
    (Column("train MiB", 0), "training_memory", 1),
)
_TRAIN_SECONDS = Column("train s", 1)
_FRAME_TITLES = {BLIND: "reference repeated"}
_MAX_IMAGE_ROWS = 60  # datasets with more images have no table by image

Row = list[float | None]


def all_tables(views: Sequence[Scores], baseline: str | None = None) -> list[Table]:
    """Returns the overview of each protocol, the sweeps, and the tables of each dataset.

    The test sets of a sweep appear in its tables only, except for their use of frames.

    Args:
        views: Scores of one study, one view per protocol.
        baseline: Method to compare the others with; None: the best.
    """
    tables = [overview(views[0]), *(overview(scores, costs=False) for scores in views[1:])]
    for quantity in views[0].card.sweeps:
        tables += [sweep(scores, quantity) for scores in views]
    for dataset in views[0].datasets:
        for scores in views if dataset in views[0].main_datasets else []:
            tables += [statistics(scores, dataset, m, baseline) for m in scores.shown_metrics]
            tables += [*by_seed(scores, dataset), *by_item(scores, dataset)]
        tables += [] if views[0].repeats(dataset) else frames_used(views[0], dataset)
    if len(views) > 1:
        tables = [
            replace(table, title=f"{table.title or 'Overview'}, protocol {table.protocol}")
            for table in tables
        ]
    return [table for table in tables if table.names]


def overview(scores: Scores, costs: bool = True) -> Table:
    """Returns the main table: one row per method, with scores and costs as columns."""
    datasets, metrics = scores.main_datasets, scores.shown_metrics
    pairs = [(dataset, metric) for dataset in datasets for metric in metrics]
    columns = []
    for dataset, metric in pairs:
        prefix = f"{dataset} " if len(scores.datasets) > 1 else ""
        column = _metric_column(scores, metric, prefix + scores.title(metric))
        columns.append(replace(column, dataset=dataset))
    if costs:
        columns += [*(column for column, _, _ in _COSTS), _TRAIN_SECONDS]
    table = _measured(scores, scores.methods, pairs, columns)
    names = []
    for method, entries in scores.entries.items():
        marks = {
            DEVIATION_MARK: bool(entries[0].deviations),
            DEGENERATE_MARK: any(entry.degenerate for entry in entries),
            BEHIND_MARK: bool(behind_untrained(scores, method)),
            FAILURE_MARK: any(entry.failure for entry in entries),
        }
        names.append(" ".join([method, *(mark for mark, applies in marks.items() if applies)]))
    protocol, *notes = study_notes(scores, costs)
    table = replace(table, names=names, notes=[protocol, *table.notes, *notes])
    return _without_empty_costs(_with_published(scores, table, pairs))


def sweep(scores: Scores, quantity: str) -> Table:
    """Returns the first metric on the test sets of a sweep, in the order of its quantity."""
    points, metric = scores.card.sweeps[quantity], scores.shown_metrics[0]
    datasets = sorted(points, key=points.__getitem__)
    columns = [_metric_column(scores, metric, f"{points[dataset]:g}") for dataset in datasets]
    scored = {
        entry.method for entry in scores.card.entries if points.keys() & entry.evaluations.keys()
    }
    methods = [method for method in scores.methods if method in scored]
    pairs = [(dataset, metric) for dataset in datasets]
    table = _measured(scores, methods, pairs, columns)
    seeds = {entry.seed for entry in scores.card.entries}
    note = f"Test sets from left to right: {', '.join(datasets)}."
    note += " Mean ± standard deviation over seeds." if len(seeds) > 1 else ""
    table = replace(
        table,
        notes=[scores.card.protocol["text"], note, *table.notes],
        title=f"{scores.title(metric)} by {quantity}",
        quantity=quantity,
    )
    return _with_published(scores, table, pairs)


def statistics(scores: Scores, dataset: str, metric: str, baseline: str | None = None) -> Table:
    """Returns intervals of one metric, and paired differences to a baseline with p values.

    Args:
        scores: Scores of the study.
        dataset: Name of the dataset.
        metric: Name of the metric.
        baseline: Method to compare the others with; None: the best.
    """
    samples = scores.samples(dataset, metric)
    against = Differences(scores, dataset, metric, baseline)
    differences = against.differences
    p_values = scores.p_values(dataset, metric)
    unit, digits = scores.unit(dataset), scores.metrics[metric]["digits"]
    has_seeds = len(scores.card.entries) > len(scores.methods)
    columns = [
        _metric_column(scores, metric, f"mean over {unit}"),
        *([Column("mean over seeds", digits)] if has_seeds else []),
        Column(f"difference to {against.baseline}", digits, signed=True),
        Column("p", 3, less_than=True),
    ]
    count = max((len(values) for values in samples.values()), default=0)
    values: list[Row] = []
    spreads: dict[tuple[int, int], Spread] = {}
    for row, method in enumerate(samples):
        parts: list[Interval | Difference | None] = [against.intervals[method]]
        parts += [_seed_interval(scores, method, dataset, metric)] if has_seeds else []
        parts.append(differences.get(method))
        p_value = p_values.get(frozenset({method, str(against.baseline)}), math.nan)
        *means, difference = (part.mean if part else None for part in parts)
        values.append([*means, _known(difference), _known(p_value)])
        spreads |= {(row, i): (part.low, part.high) for i, part in enumerate(parts) if part}
    tied = scores.tied_with_best(dataset, metric)
    notes = [_interval_note(unit, count, has_seeds), *([tied_note(unit)] if tied else [])]
    if MIN_TEST_SAMPLES <= count < MIN_EQUAL_DIFFERENCES and any(
        math.isnan(part.p) and math.isfinite(part.mean) for part in differences.values()
    ):
        notes.append(
            f"– in column p: the differences are equal on all {count} {unit}; a test of equal "
            f"differences needs at least {MIN_EQUAL_DIFFERENCES}."
        )
    notes += odd_score_notes(scores, [(dataset, metric)])
    title = f"{dataset}: {scores.title(metric)} with intervals"
    places = frozenset((row, 0) for row, name in enumerate(samples) if name in tied)
    table = Table(columns, list(samples), values, notes, spreads, title, tied_with_best=places)
    return _of_dataset(scores, dataset, table)


def by_seed(scores: Scores, dataset: str) -> list[Table]:
    """Returns a table of the first metric with seeds as columns; none if there is only one seed."""
    seeds = sorted({entry.seed for entry in scores.card.entries})
    if len(seeds) < 2 or not scores.shown_metrics:
        return []
    metric = scores.shown_metrics[0]
    found = {
        method: {entry.seed: scores.means(entry, dataset).get(metric) for entry in entries}
        for method, entries in scores.entries.items()
    }
    scored = {m: row for m, row in found.items() if any(v is not None for v in row.values())}
    columns = [_metric_column(scores, metric, f"seed {seed}") for seed in seeds]
    values: list[Row] = [[row.get(seed) for seed in seeds] for row in scored.values()]
    title = f"{dataset}: {scores.title(metric)} by seed"
    notes = odd_score_notes(scores, [(dataset, metric)])
    return [_of_dataset(scores, dataset, Table(columns, list(scored), values, notes, title=title))]


def by_item(scores: Scores, dataset: str) -> list[Table]:
    """Returns one table per metric with methods as columns and clips, or images, as rows.

    The last row is the average. A dataset of many single images has no such table.
    """
    has_clips = scores.has_clips(dataset)
    kind, values_of = ("clip", scores.clips) if has_clips else ("image", scores.images)
    tables = []
    for metric in scores.shown_metrics:
        found = {m: cells for m in scores.methods if (cells := values_of(m, dataset, metric))}
        items = list(next(iter(found.values()), {}))
        if len(items) < 2 or (not has_clips and len(items) > _MAX_IMAGE_ROWS):
            continue
        columns = [_metric_column(scores, metric, method) for method in found]
        values: list[Row] = [[cells.get(item) for cells in found.values()] for item in items]
        seed_means = [scores.seed_means(method, dataset) for method in found]
        values.append(
            [
                mean([means.get(metric) for means in seeds], scores.direction(metric) < 0)
                for seeds in seed_means
            ]
        )
        title = f"{dataset}: {scores.title(metric)} by {kind}"
        notes = odd_score_notes(scores, [(dataset, metric)])
        names = [*items, "average"]
        table = Table(columns, names, values, notes, title=title, head=kind, across=True)
        table = replace(table, summary=frozenset({len(items)}))
        tables.append(_of_dataset(scores, dataset, table))
    return tables


def frames_used(scores: Scores, dataset: str) -> list[Table]:
    """Returns a table of PSNR by input frames, or none if the use of frames was not measured."""
    found: dict[str, dict[str, float | None]] = {}
    for method, entries in scores.entries.items():
        uses = [scores.store.frame_use(entry.evaluations.get(dataset, "")) for entry in entries]
        measured = [use for use in uses if use is not None]
        if measured and len(measured) == len(uses):
            found[method] = {
                name: mean([use[name] for use in measured])
                for name in measured[0]
                if all(name in use for use in measured)
            }
    if not found:
        return []
    names = list(dict.fromkeys(name for use in found.values() for name in use))
    columns = [Column(_FRAME_TITLES.get(name, name), 2) for name in names]
    columns.append(Column("gain from other frames", 2, signed=True))
    values = [[*(use.get(name) for name in names), gain_from_frames(use)] for use in found.values()]
    title = f"{dataset}: PSNR (dB) by input frames"
    table = Table(columns, list(found), values, [frame_use_note(names)], title=title)
    return [_of_dataset(scores, dataset, table)]


class Differences:
    """Paired differences of one metric between a baseline and all other methods.

    Args:
        scores: Scores of the study.
        dataset: Name of the dataset.
        metric: Name of the metric.
        baseline: Method to compare the others with; None: the best.

    Attributes:
        baseline: Name of the baseline; None if there are no scores.
        values: Differences (n,) by method, one per image or clip.
        intervals: Mean and interval by method, of the baseline, too.
        differences: Mean difference, interval and p value by method.
    """

    def __init__(
        self, scores: Scores, dataset: str, metric: str, baseline: str | None = None
    ) -> None:
        samples = scores.samples(dataset, metric)
        self.baseline = baseline if baseline in samples else scores.best(dataset, metric)
        self.values: dict[str, np.ndarray] = {}
        self.intervals: dict[str, Interval] = {}
        self.differences: dict[str, Difference] = {}
        if self.baseline is None:  # all means are NaN, or there are no scores
            self.intervals = {method: bootstrap(values) for method, values in samples.items()}
            return
        reference = samples[self.baseline]
        with np.errstate(invalid="ignore"):  # infinite minus infinite is NaN
            self.values = {
                method: values - reference
                for method, values in samples.items()
                if method != self.baseline
            }
        self.intervals, self.differences = scores.intervals(dataset, metric, self.baseline)


def _measured(
    scores: Scores, methods: list[str], pairs: Sequence[tuple[str, str]], columns: list[Column]
) -> Table:
    """Returns means and standard deviations over seeds; its notes are on ties and odd scores.

    ``pairs`` has the dataset and metric of the first columns; the other columns are costs.
    """
    values: list[Row] = []
    spreads: dict[tuple[int, int], Spread] = {}
    has_costs = len(columns) > len(pairs)
    for row, method in enumerate(methods):
        seeds = [_row(scores, entry, pairs, has_costs) for entry in scores.entries[method]]
        cells = list(zip(*seeds, strict=True))
        lower = [scores.direction(metric) < 0 for _, metric in pairs]
        lower += [False] * (len(cells) - len(pairs))
        values.append([mean(*both) for both in zip(cells, lower, strict=True)])
        for column, cell in enumerate(cells[: len(pairs)]):
            known = [value for value in cell if value is not None]
            if len(known) == len(seeds) > 1 and all(map(math.isfinite, known)):
                spreads[row, column] = stdev(known)
    tied = frozenset(
        (methods.index(method), column)
        for column, pair in enumerate(pairs)
        for method in scores.tied_with_best(*pair)
    )
    units = " or ".join(dict.fromkeys(scores.unit(dataset) for dataset, _ in pairs))
    notes = [tied_note(units)] if tied else []
    notes += odd_score_notes(scores, pairs)
    protocol = scores.card.protocol["name"]
    return Table(columns, methods, values, notes, spreads, tied_with_best=tied, protocol=protocol)


def _row(scores: Scores, entry: Entry, pairs: Sequence[tuple[str, str]], with_costs: bool) -> Row:
    datasets = {dataset for dataset, _ in pairs}
    means = {name: scores.means(entry, name) for name in datasets}
    cells = [means[dataset].get(metric) for dataset, metric in pairs]
    if not with_costs:
        return cells
    cost = scores.cost(entry)
    cells += [None if cost.get(key) is None else cost[key] * factor for _, key, factor in _COSTS]
    return [*cells, entry.train_seconds if entry.run and not entry.failure else None]


def _with_published(scores: Scores, table: Table, pairs: Sequence[tuple[str, str]]) -> Table:
    """Returns the table with a row for each method and source of published numbers."""
    datasets = {dataset for dataset, _ in pairs}
    published = [row for row in scores.card.published if row.dataset in datasets]
    groups: dict[tuple[str, str], list[Published]] = {}
    for row in published:
        groups.setdefault((row.method, row.source), []).append(row)
    marks = published_marks(published)
    values: list[Row] = []
    for rows in groups.values():
        found = {
            (row.dataset, metric): value for row in rows for metric, value in row.scores.items()
        }
        cells: Row = [found.get(pair) for pair in pairs]
        params = next((row.params for row in rows if row.params is not None), None)
        thousands = None if params is None else params * 1e-3
        costs = table.columns[len(pairs) :]
        values.append([*cells, *(thousands if cost == _PARAMS else None for cost in costs)])
    first = len(table.names)
    names = [f"{method} ({marks[source]})" for method, source in groups]
    return replace(
        table,
        names=[*table.names, *names],
        values=[*table.values, *values],
        notes=[*table.notes, *published_notes(published, sizes=_PARAMS not in table.columns)],
        published=frozenset(range(first, first + len(names))),
    )


def _without_empty_costs(table: Table) -> Table:
    """Returns the table without the costs that no method has."""
    kept = [
        place
        for place, column in enumerate(table.columns)
        if column.better or any(row[place] is not None for row in table.values)
    ]
    # Scores come first and all remain: their places do not change.
    return replace(
        table,
        columns=[table.columns[place] for place in kept],
        values=[[row[place] for place in kept] for row in table.values],
    )


def _of_dataset(scores: Scores, dataset: str, table: Table) -> Table:
    """Returns a table with its dataset and protocol, which becomes the first note."""
    protocol = scores.card.protocol
    notes = [protocol["text"], *table.notes]
    return replace(table, notes=notes, dataset=dataset, protocol=protocol["name"])


def _metric_column(scores: Scores, metric: str, title: str) -> Column:
    return Column(title, scores.metrics[metric]["digits"], scores.direction(metric))


def _interval_note(unit: str, count: int, has_seeds: bool) -> str:
    if count == 1:
        note = f"With a single {unit[:-1]} there is no interval and no significance test."
        if has_seeds:
            note += " Brackets: 95 % intervals over seeds (Student's t)."
        return note
    intervals = f"Brackets: 95 % intervals over {count} {unit} (bootstrap"
    if has_seeds:
        intervals += f"; the score of each {unit[:-1]} is its mean over seeds"
        intervals += ") and over seeds (Student's t"
    return (
        f"{intervals}). Differences are paired by {unit[:-1]}. p is from the paired t-test, "
        "corrected by Holm's method for all pairs of methods."
        if count >= MIN_TEST_SAMPLES
        else f"{intervals}). A significance test needs at least {MIN_TEST_SAMPLES} {unit}."
    )


def _known(value: float | None) -> float | None:
    """Returns the value; None for NaN."""
    return None if value is None or math.isnan(value) else value


def _seed_interval(scores: Scores, method: str, dataset: str, metric: str) -> Interval | None:
    means = [seed.get(metric) for seed in scores.seed_means(method, dataset)]
    finite = [value for value in means if value is not None and math.isfinite(value)]
    return over_seeds(finite) if len(finite) == len(means) else None

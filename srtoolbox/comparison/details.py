"""The tables about one test set: statistics, clip by clip, and what its frames are worth."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from srtoolbox.comparison.notes import ALIKE_NOTE, FRAME_USE_NOTE
from srtoolbox.comparison.scores import Scores, direction, metric_title
from srtoolbox.comparison.statistics import Interval, bootstrap, holm, over_seeds, paired
from srtoolbox.comparison.table import Column, Table
from srtoolbox.engine.evaluator import mean
from srtoolbox.engine.frame_use import owed

_MOST_IMAGES = 60  # of a dataset that is shown image by image


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
        row.append(against.rivals.get(method))
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


def _seed_interval(scores: Scores, method: str, dataset: str, metric: str) -> Interval | None:
    values = [means.get(metric) for means in scores.seed_means(method, dataset)]
    usable = None not in values and all(map(math.isfinite, values))
    return over_seeds(values) if usable else None

"""Provides the scores of a study by method, dataset and metric for tables and figures."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, cached_property
from itertools import chain, product
from typing import Any

import numpy as np

from srtoolbox.comparison.analysis.statistics import not_distinguishable
from srtoolbox.comparison.store import Entry, ResultStore, StudyCard
from srtoolbox.engine.evaluation.evaluator import Record, average, clip_of


class Scores:
    """The scores of a study under one protocol.

    Args:
        store: Results of the study.
        card: One of ``StudyCard.views()``; None: the view of the first protocol.

    Attributes:
        entries: The entries of each method, one per seed, in the order of the study.
        datasets: Names in the order of the study.
        main_datasets: The datasets that are in no sweep.
        metrics: Facts by metric, including the metrics of one kind of frames, such as
            ``psnr_interpolated``.
        average: ``"images"`` or ``"clips"``: the score of a dataset is the mean over these.
        images: Called with method, dataset and metric; returns the score of each image by key, the
            mean over seeds; empty if one is missing.
    """

    def __init__(self, store: ResultStore, card: StudyCard | None = None) -> None:
        self.store = store
        self.card = card or store.load_card().views()[0]
        self.entries: dict[str, list[Entry]] = {}
        for entry in self.card.entries:
            self.entries.setdefault(entry.method, []).append(entry)
        names = (name for entry in self.card.entries for name in entry.evaluations)
        self.datasets = list(dict.fromkeys(names))
        swept = {name for points in self.card.sweeps.values() for name in points}
        self.main_datasets = [name for name in self.datasets if name not in swept]
        pairs = product(self.card.entries, self.datasets)
        records = chain.from_iterable(self.records(*pair) for pair in pairs)
        kinds = dict.fromkeys(record["kind"] for record in records if "kind" in record)
        self._kinds = {
            f"{metric}_{kind}": (metric, kind) for kind in kinds for metric in self.card.metrics
        }
        of_kinds = {name: self.card.metrics[metric] for name, (metric, _) in self._kinds.items()}
        self.metrics = {**self.card.metrics, **of_kinds}
        self.average = self.card.protocol["average"]
        self.images = cache(self._images)

    @property
    def methods(self) -> list[str]:
        """Names in the order of the study."""
        return list(self.entries)

    @cached_property
    def shown_metrics(self) -> list[str]:
        """The metrics that were available here or have published values."""
        published = {name for row in self.card.published for name in row.scores}
        return [
            name
            for name, facts in self.metrics.items()
            if not facts["unavailable"] or name in published
        ]

    def label(self, metric: str) -> str:
        """Returns the metric with its unit."""
        unit = self.metrics[metric]["unit"]
        return f"{metric.upper()} ({unit})" if unit else metric.upper()

    def title(self, metric: str) -> str:
        """Returns the metric with its unit and direction."""
        return f"{self.label(metric)} {'↑' if self.direction(metric) > 0 else '↓'}"

    def direction(self, metric: str) -> int:
        """Returns 1 if higher is better, -1 if lower is."""
        return 1 if self.metrics[metric]["higher_is_better"] else -1

    def records(self, entry: Entry, dataset: str) -> list[Record]:
        """Returns the per-image records of an entry; empty if it was not evaluated."""
        return self.store.records(entry.evaluations.get(dataset, ""))

    def seed_means(self, method: str, dataset: str) -> list[dict[str, float | None]]:
        """Returns the dataset's scores by metric for each seed."""
        return [self.means(entry, dataset) for entry in self.entries[method]]

    def means(self, entry: Entry, dataset: str) -> dict[str, float | None]:
        """Returns an entry's scores on a dataset by metric."""
        return average(self.records(entry, dataset), self.average)

    def clips(self, method: str, dataset: str, metric: str) -> dict[str, float]:
        """Returns the mean score of each clip by name."""
        images = self.images(method, dataset, metric)
        clips = by_clip(images).items()
        return {clip: sum(images[key] for key in keys) / len(keys) for clip, keys in clips}

    def repeats(self, dataset: str) -> bool:
        """Returns whether a dataset of a sweep is a main dataset under another name."""
        return dataset not in self.main_datasets and any(
            entry.evaluations.get(dataset, "") in map(entry.evaluations.get, self.main_datasets)
            for entry in self.card.entries
        )

    def has_clips(self, dataset: str) -> bool:
        """Returns whether the dataset's images are frames of clips."""
        keys = self.keys(dataset)
        clips = {clip_of(key) for key in keys}
        return bool(keys) and "" not in clips and len(clips) < len(keys)

    def unit(self, dataset: str) -> str:
        """Returns the independent samples of a dataset: ``"images"`` or ``"clips"``.

        The frames of one clip are not independent of each other.
        """
        return "clips" if self.has_clips(dataset) else "images"

    def keys(self, dataset: str) -> list[str]:
        """Returns the keys of a dataset's images in its order."""
        for entry in self.card.entries:
            if records := self.records(entry, dataset):
                return [record["key"] for record in records]
        return []

    def samples(self, dataset: str, metric: str) -> dict[str, np.ndarray]:
        """Returns the independent values (n,) of each method, all for the same images.

        Methods without scores, or with scores of other images, are left out.
        """
        values_of = self.clips if self.has_clips(dataset) else self.images
        found: dict[str, np.ndarray] = {}
        order: list[str] = []
        for method in self.methods:
            values = values_of(method, dataset, metric)
            order = order or list(values)
            if values and set(order) == set(values):
                found[method] = np.array([values[key] for key in order])
        return found

    def tied_with_best(self, dataset: str, metric: str) -> set[str]:
        """Returns the methods that do not differ significantly from the best, without the best."""
        samples = self.samples(dataset, metric)
        if len(samples) < 2 or len(next(iter(samples.values()))) < 2:
            return set()
        best = self.best(dataset, metric)
        return not_distinguishable(samples, self.direction(metric) > 0) - {best}

    def best(self, dataset: str, metric: str) -> str | None:
        """Returns the method with the best mean; None if there are no scores."""
        means = {name: values.mean() for name, values in self.samples(dataset, metric).items()}
        sign = self.direction(metric)
        return max(means, key=lambda name: sign * means[name], default=None)

    def cost(self, entry: Entry) -> dict[str, Any]:
        """Returns the cost record of an entry; empty if nothing was measured."""
        return self.store.cost(entry.cost or "") or {}

    def _images(self, method: str, dataset: str, metric: str) -> dict[str, float]:
        by_key: dict[str, list[float]] = {}
        seeds = self.entries[method]
        metric, kind = self._kinds.get(metric, (metric, None))
        for entry in seeds:
            for record in self.records(entry, dataset):
                if kind in (None, record.get("kind")):
                    value = record["metrics"].get(metric)
                    if value is None:
                        return {}
                    by_key.setdefault(record["key"], []).append(value)
        if any(len(values) < len(seeds) for values in by_key.values()):
            return {}
        return {key: sum(values) / len(values) for key, values in by_key.items()}


def by_clip(keys: Iterable[str]) -> dict[str, list[str]]:
    """Returns the keys of frames by the name of their clip."""
    clips: dict[str, list[str]] = {}
    for key in keys:
        clips.setdefault(clip_of(key), []).append(key)
    return clips

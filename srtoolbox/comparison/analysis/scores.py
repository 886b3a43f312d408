"""The scores of a study by method, dataset and metric, as tables and figures need them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from srtoolbox.comparison.analysis.statistics import not_distinguishable
from srtoolbox.comparison.store import Entry, ResultStore, StudyCard
from srtoolbox.engine.evaluation.evaluator import average, mean


class Scores:
    """What a study's store says under one protocol.

    Args:
        store: Of the study.
        card: Of the study, with one protocol: one of ``StudyCard.views()``; None: the first.

    Attributes:
        entries: The seeds of each method, in the order of the study.
        datasets: Names in the order of the study.
        main_datasets: Those of them that are in no sweep.
        metrics: Facts by the name of every metric, also of those of one kind of frames, such as
            ``psnr_interpolated``.
        average: What a dataset's score is the mean over, ``"images"`` or ``"clips"``.
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
        self._kinds = {
            f"{metric}_{kind}": (metric, kind)
            for kind in self._find_kinds()
            for metric in self.card.metrics
        }
        parts = {name: self.card.metrics[metric] for name, (metric, _) in self._kinds.items()}
        self.metrics = {**self.card.metrics, **parts}
        self.average = self.card.protocol["average"]
        self._values: dict[tuple[str, str, str], dict[str, float]] = {}

    @property
    def methods(self) -> list[str]:
        """Names in the order of the study."""
        return list(self.entries)

    @cached_property
    def shown_metrics(self) -> list[str]:
        """The metrics that could be had, here or in print."""
        printed = {name for row in self.card.published for name in row.scores}
        return [
            name
            for name, facts in self.metrics.items()
            if not facts["unavailable"] or name in printed
        ]

    def records(self, entry: Entry, dataset: str) -> list[dict]:
        """The per-image records of a method's seed; empty if it was not scored."""
        return self.store.records(entry.evaluations.get(dataset, ""))

    def seed_means(self, method: str, dataset: str) -> list[dict[str, float | None]]:
        """The dataset's scores by metric, one of each seed."""
        return [average(self.records(e, dataset), self.average) for e in self.entries[method]]

    def images(self, method: str, dataset: str, metric: str) -> dict[str, float]:
        """The score of each image by key, the mean over the seeds; empty if one is missing."""
        place = method, dataset, metric
        if place not in self._values:
            self._values[place] = self._images(*place)
        return self._values[place]

    def clips(self, method: str, dataset: str, metric: str) -> dict[str, float]:
        """The mean score of each clip by name."""
        groups: dict[str, list[float]] = {}
        for key, value in self.images(method, dataset, metric).items():
            groups.setdefault(clip_of(key), []).append(value)
        return {clip: sum(values) / len(values) for clip, values in groups.items()}

    def repeats(self, dataset: str) -> bool:
        """Whether a dataset of a sweep is a main one under another name."""
        return dataset not in self.main_datasets and any(
            entry.evaluations.get(dataset, "") in map(entry.evaluations.get, self.main_datasets)
            for entry in self.card.entries
        )

    def has_clips(self, dataset: str) -> bool:
        """Whether the dataset's images are frames of clips."""
        keys = self.keys(dataset)
        clips = {clip_of(key) for key in keys}
        return bool(keys) and "" not in clips and len(clips) < len(keys)

    def unit(self, dataset: str) -> str:
        """What counts as one sample: ``"images"``, or ``"clips"``, since the frames of a clip
        are no independent evidence."""
        return "clips" if self.has_clips(dataset) else "images"

    def keys(self, dataset: str) -> list[str]:
        """The keys of a dataset's images in its order."""
        for entry in self.card.entries:
            if records := self.records(entry, dataset):
                return [record["key"] for record in records]
        return []

    def samples(self, dataset: str, metric: str) -> dict[str, np.ndarray]:
        """Of each method that has them, the independent values (n,), all of the same images."""
        of = self.clips if self.has_clips(dataset) else self.images
        found: dict[str, np.ndarray] = {}
        order: list[str] | None = None
        for method in self.methods:
            values = of(method, dataset, metric)
            order = order or list(values)
            if values and set(order) == set(values):
                found[method] = np.array([values[key] for key in order])
        return found

    def tied_with_best(self, dataset: str, metric: str) -> set[str]:
        """The methods that cannot be told apart from the best one, which is not named."""
        higher = self.metrics[metric]["higher_is_better"]
        samples = self.samples(dataset, metric)
        if len(samples) < 2 or len(next(iter(samples.values()))) < 2:
            return set()
        best = self.best(dataset, metric)
        return not_distinguishable(samples, higher) - {best}

    def best(self, dataset: str, metric: str) -> str | None:
        """The method of the best mean."""
        means = {name: values.mean() for name, values in self.samples(dataset, metric).items()}
        pick = max if self.metrics[metric]["higher_is_better"] else min
        return pick(means, key=lambda name: means[name]) if means else None

    def cost(self, entry: Entry) -> dict:
        """The cost record of a method's seed; empty if nothing was measured."""
        return self.store.cost(entry.cost or "") or {}

    def _images(self, method: str, dataset: str, metric: str) -> dict[str, float]:
        by_key: dict[str, list[float | None]] = {}
        seeds = self.entries[method]
        metric, kind = self._kinds.get(metric, (metric, None))
        for entry in seeds:
            for record in self.records(entry, dataset):
                if kind in (None, record.get("kind")):
                    by_key.setdefault(record["key"], []).append(record["metrics"].get(metric))
        whole = by_key and all(len(v) == len(seeds) and None not in v for v in by_key.values())
        return {key: mean(values) for key, values in by_key.items()} if whole else {}

    def _find_kinds(self) -> list[str]:
        """The kinds of frames that are scored apart."""
        found = (
            record["kind"]
            for entry in self.card.entries
            for dataset in self.datasets
            for record in self.records(entry, dataset)
            if "kind" in record
        )
        return list(dict.fromkeys(found))


def clip_of(key: str) -> str:
    """The clip of a frame's key ``clip/frame``; empty for the key of an image."""
    return key.rpartition("/")[0]


def metric_title(name: str, facts: dict[str, Any]) -> str:
    """The metric with its unit and direction."""
    unit = f" ({facts['unit']})" if facts["unit"] else ""
    return f"{name.upper()}{unit} {'↑' if facts['higher_is_better'] else '↓'}"


def direction(facts: dict[str, Any]) -> int:
    """1 if higher is better, -1 if lower is."""
    return 1 if facts["higher_is_better"] else -1

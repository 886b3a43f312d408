"""Provides the scores of a study by method, dataset and metric for tables and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from itertools import chain, product
from typing import Any

import numpy as np

from srtoolbox.comparison.analysis.statistics import (
    Difference,
    Interval,
    best_of,
    intervals_and_differences,
    not_distinguishable,
    p_of_pairs,
)
from srtoolbox.comparison.store import Entry, ResultStore, StudyCard
from srtoolbox.engine.evaluation.records import Record, average, clip_of, not_finite


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
        left_out: Called with dataset and metric; returns the keys of the images on which a method
            has a score of +inf. Means and tests leave them out for all methods, so that all are
            over the same images. (A method that is infinite on all images leaves out none.) An
            image with a score of -inf, the worst one, is never left out.
        images: Called with method, dataset and metric; returns the score of each image by key, the
            mean over seeds; empty if one is missing.
        clips: Called with method, dataset and metric; returns the mean score of each clip by name;
            infinite if all of its frames are left out. Frames of ``left_out`` do not count.
        samples: Called with dataset and metric; returns the independent values (n,) of each
            method, all for the same images. Methods without scores, or with scores of other
            images, are left out, and so are the images of ``left_out`` and clips without other
            frames.
        intervals: Called with dataset, metric and a method of ``samples``; returns the interval of
            the mean of each method, and the paired difference of each other method to this one.
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
        # Tables, notes and charts ask for the same values many times.
        self.images = cache(self._images)
        self.clips = cache(self._clips)
        self.left_out = cache(self._left_out)
        self.samples = cache(self._samples)
        self.intervals = cache(self._intervals)
        self.has_clips = cache(self._has_clips)
        self._means_of = cache(self._means)
        self._odd = cache(self._find_odd)

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
        """Returns the metric with its kind and its unit."""
        facts = self.metrics[metric]
        words = [facts.get("kind"), facts["unit"]]
        return " ".join([metric.upper(), *(f"({word})" for word in words if word)])

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
        return {**self._means_of(entry.evaluations.get(dataset, ""), dataset)}

    def _means(self, evaluation: str, dataset: str) -> dict[str, float | None]:
        records = self.store.records(evaluation)
        lower = [name for name in self.metrics if self.direction(name) < 0]
        averages = average(records, self.average, lower)
        # Records may have metrics that the card does not list, of a command that was killed.
        means = {name: value for name, value in averages.items() if name in self.metrics}
        for metric in means:
            if left_out := self.left_out(dataset, metric):
                base, kind = self._kinds.get(metric, (metric, None))
                kept = [
                    {"key": record["key"], "metrics": {base: record["metrics"][base]}}
                    for record in records
                    if record["key"] not in left_out and kind in (None, record.get("kind"))
                ]
                means[metric] = average(kept, self.average).get(base)
        return means

    def _clips(self, method: str, dataset: str, metric: str) -> dict[str, float]:
        images, left_out = self.images(method, dataset, metric), self.left_out(dataset, metric)
        clips = {clip: set(keys) - left_out for clip, keys in by_clip(images).items()}
        kept = {
            clip: [images[key] for key in images if key in keys] for clip, keys in clips.items()
        }
        return {clip: sum(v) / len(v) if v else math.inf for clip, v in kept.items()}

    def repeats(self, dataset: str) -> bool:
        """Returns whether a dataset of a sweep is a main dataset under another name."""
        return dataset not in self.main_datasets and any(
            entry.evaluations.get(dataset, "") in map(entry.evaluations.get, self.main_datasets)
            for entry in self.card.entries
        )

    def _has_clips(self, dataset: str) -> bool:
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

    def _samples(self, dataset: str, metric: str) -> dict[str, np.ndarray]:
        values_of = self.clips if self.has_clips(dataset) else self.images
        found: dict[str, np.ndarray] = {}
        order: list[str] = []
        for method in self.methods:
            values = values_of(method, dataset, metric)
            order = order or list(values)
            if values and set(order) == set(values):
                found[method] = np.array([values[key] for key in order])
                worst = math.copysign(math.inf, -self.direction(metric))
                if (found[method] == worst).any():
                    found[method][:] = worst  # the mean is infinite: no interval, no test
        if left_out := self.left_out(dataset, metric):
            lists = list(found.values())
            kept = np.array([key not in left_out for key in order])
            if self.has_clips(dataset):
                kept = ~np.isinf(lists).all(axis=0)
            found = {method: values[kept] for method, values in found.items()}
        return found

    def _intervals(
        self, dataset: str, metric: str, baseline: str
    ) -> tuple[dict[str, Interval], dict[str, Difference]]:
        samples = self.samples(dataset, metric)
        others = [name for name in samples if name != baseline]
        rest = [samples[name] for name in others]
        intervals, differences = intervals_and_differences(samples[baseline], rest)
        by_method = dict(zip([baseline, *others], intervals, strict=True))
        return by_method, dict(zip(others, differences, strict=True))

    def tied_with_best(self, dataset: str, metric: str) -> set[str]:
        """Returns the methods that do not differ significantly from the best, without the best."""
        samples, best = self.samples(dataset, metric), self.best(dataset, metric)
        return not_distinguishable(samples, self.direction(metric) > 0) - {best}

    def p_values(self, dataset: str, metric: str) -> dict[frozenset[str], float]:
        """Returns the p value of each pair of methods; see ``p_of_pairs``."""
        return p_of_pairs(self.samples(dataset, metric))

    def best(self, dataset: str, metric: str) -> str | None:
        """Returns the method with the best mean; None if there are no scores."""
        return best_of(self.samples(dataset, metric), self.direction(metric) > 0)

    def matching(
        self, method: str, dataset: str, metric: str, test: Callable[[float], bool]
    ) -> list[str]:
        """Returns the keys of the images with a score, of any seed, that meets a test.

        Args:
            method: Name of the method.
            dataset: Name of the dataset.
            metric: Name of the metric.
            test: Tests a score that is not finite; finite ones do not meet it.
        """
        odd = self._odd(method, dataset, metric)
        return list(dict.fromkeys(key for key, value in odd if test(value)))

    def _find_odd(self, method: str, dataset: str, metric: str) -> list[tuple[str, float]]:
        """Returns the keys and scores of the images whose score, of any seed, is not finite."""
        return [
            (key, value)
            for key, value in self._scored(method, dataset, metric)
            if not math.isfinite(value)
        ]

    def _scored(self, method: str, dataset: str, metric: str) -> Iterator[tuple[str, float]]:
        """Yields key and score of the images with a score, of all seeds."""
        metric, kind = self._kinds.get(metric, (metric, None))
        for entry in self.entries[method]:
            for record in self.records(entry, dataset):
                value = record["metrics"].get(metric)
                if value is not None and kind in (None, record.get("kind")):
                    yield record["key"], value

    def cost(self, entry: Entry) -> dict[str, Any]:
        """Returns the cost record of an entry; empty if nothing was measured."""
        return self.store.cost(entry.cost or "") or {}

    def _left_out(self, dataset: str, metric: str) -> frozenset[str]:
        if self.direction(metric) < 0:  # infinite is the worst value: no mean may leave it out
            return frozenset()
        if not any(
            self.matching(m, dataset, metric, lambda v: v == math.inf) for m in self.methods
        ):
            return frozenset()
        left_out: set[str] = set()
        worst: set[str] = set()
        kept: list[set[str]] = []
        for method in self.methods:
            scored = self._scored(method, dataset, metric)
            finite = {key for key, value in scored if value != math.inf}
            infinite = set(self.matching(method, dataset, metric, lambda v: v == math.inf))
            worst |= set(self.matching(method, dataset, metric, lambda v: v == -math.inf))
            if finite - infinite:
                left_out |= infinite
                kept.append(finite)
        left_out -= worst
        # Without common images, each mean is over the method's own finite scores.
        return frozenset(left_out) if all(keys - left_out for keys in kept) else frozenset()

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


def nan_results(store: ResultStore, card: StudyCard) -> list[str]:
    """Returns a sentence on each entry, dataset and metric of a study with scores of NaN."""
    sentences = []
    for view in card.views():
        for entry in view.entries:
            for dataset, evaluation in entry.evaluations.items():
                nan, _ = not_finite(store.records(evaluation))
                place = f"{entry.method} (seed {entry.seed}) on {dataset}"
                sentences += [f"{place}, protocol {view.protocol['name']}, {text}" for text in nan]
    return sentences


def by_clip(keys: Iterable[str]) -> dict[str, list[str]]:
    """Returns the keys of frames by the name of their clip."""
    clips: dict[str, list[str]] = {}
    for key in keys:
        clips.setdefault(clip_of(key), []).append(key)
    return clips

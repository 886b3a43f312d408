"""Writes the notes below a study's tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.table import (
    BEHIND_MARK,
    DEGENERATE_MARK,
    DEVIATION_MARK,
    FAILURE_MARK,
    TIED_MARK,
)
from srtoolbox.comparison.store import Published
from srtoolbox.engine.counting import COUNTING
from srtoolbox.engine.evaluation.records import BLIND, SHUFFLED
from srtoolbox.utils.console import names_text

_FRAME_USE_NOTES = {
    "frames": "n frames: the reference and the frames nearest to it (a network with a fixed number "
    "of frames gets copies of the reference in place of the others).",
    BLIND: "Reference repeated: every frame is the reference.",
    SHUFFLED: "Shuffled: the other frames are in random order.",
}


def frame_use_note(selections: Sequence[str]) -> str:
    """Returns what the columns of a table of PSNR by input frames mean."""
    counts = [name for name in selections if name.endswith(("frame", "frames"))]
    shown = {"frames": len(counts) > 1, **dict.fromkeys(selections, True)}
    notes = [text for name, text in _FRAME_USE_NOTES.items() if shown.get(name)]
    gain = "Gain from other frames: PSNR with all frames minus PSNR with the reference repeated."
    return " ".join([*notes, gain])


def tied_note(unit: str) -> str:
    """Returns the note on `TIED_MARK`; ``unit`` names the samples, such as ``"images"``."""
    return (
        f"{TIED_MARK} marks a value that does not differ significantly from the best of its column "
        f"(paired t-test over {unit}, corrected for all pairs by Holm's method, 95 %)."
    )


def _missing_notes(scores: Scores, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Returns notes on evaluations in which images lack a line, or the value of a metric.

    An evaluation without any line had some once: an entry refers to what was written only.
    """
    notes: list[str] = []
    several = len({entry.seed for entry in scores.card.entries}) > 1
    for dataset, entry in product(dict.fromkeys(d for d, _ in pairs), scores.card.entries):
        place = f"{entry.method}{f' (seed {entry.seed})' if several else ''}, {dataset}"
        found = scores.store.incomplete(entry.evaluations.get(dataset, ""))
        if found:
            count, keys = found[0]["of"], scores.keys(dataset)
            absent = sorted(set(range(count)) - {record["index"] for record in found})
            names = [keys[i] if len(keys) == count else f"number {i + 1}" for i in absent]
            text = f"{count - len(absent)} of {count} images have scores"
            notes.append(f"{place}: {text} (missing: {names_text(names)}).")
        records = scores.records(entry, dataset)
        if dataset in entry.evaluations and not records and not found:
            notes.append(f"{place}: all points are missing in results.jsonl.")
        for metric in (m for d, m in pairs if d == dataset and m in scores.card.metrics):
            names = [record["key"] for record in records if record["metrics"].get(metric) is None]
            if 0 < len(names) < len(records):  # no value at all: the metric was not available
                text = f"{len(records) - len(names)} of {len(records)} images have scores"
                notes.append(f"{place}: {metric.upper()}: {text} (missing: {names_text(names)}).")
    return notes


def odd_score_notes(scores: Scores, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Returns notes that count and name the images whose scores are missing, infinite or NaN.

    Args:
        scores: Scores of the study.
        pairs: Datasets and metrics of the table.
    """
    notes = _missing_notes(scores, pairs)
    for dataset, metric in pairs:
        keys, label = scores.keys(dataset), metric.upper()
        left_out = scores.left_out(dataset, metric)
        infinite: dict[str, list[str]] = {}
        worst = False
        for method in scores.methods:
            if nan := scores.matching(method, dataset, metric, math.isnan):
                notes.append(
                    f"{dataset}: {label} of {method}: {len(nan)} of {len(keys)} images are not "
                    f"finite ({names_text(nan)})."
                )
            if found := scores.matching(method, dataset, metric, math.isinf):
                infinite[method] = found
            value = math.copysign(math.inf, -scores.direction(metric))
            worst |= bool(scores.matching(method, dataset, metric, lambda v, w=value: v == w))
        if not infinite:
            continue
        places = "; ".join(
            f"{method}: {len(found)} of {len(keys)} images ({names_text(found)})"
            for method, found in infinite.items()
        )
        means = (
            "means, intervals and tests leave these images out for all methods"
            if left_out
            else "tests leave them out, and so do means of methods with other scores"
        )
        if scores.direction(metric) < 0:
            means = "the means are infinite, without interval and test"
        elif worst:
            means += (
                "; scores of -inf, the worst ones, are not left out: their means are infinite, "
                "without interval and test"
            )
            if not left_out:
                means = means.partition("; ")[2]
        notes.append(f"{dataset}: {label} is infinite for {places}; {means}.")
    return notes


def behind_untrained(scores: Scores, method: str) -> dict[str, str]:
    """Returns the test sets on which a trained method is behind one without parameters.

    The first metric of the table decides. The value is the better method's name. A method with a
    trivial output has a mark of its own, and none here.
    """
    behind: dict[str, str] = {}
    entries = scores.entries[method]
    if not any(entry.run for entry in entries) or any(entry.degenerate for entry in entries):
        return behind
    rivals = [
        name
        for name, (entry, *_) in scores.entries.items()
        if scores.cost(entry).get("params") == 0
    ]
    for dataset in scores.main_datasets if scores.shown_metrics else []:
        metric = scores.shown_metrics[0]
        samples, sign = scores.samples(dataset, metric), scores.direction(metric)
        for rival in rivals:
            if not {method, rival} <= samples.keys():
                continue
            if sign * samples[method].mean() < sign * samples[rival].mean():
                behind[dataset] = rival
    return behind


def study_notes(scores: Scores, costs: bool = True) -> list[str]:
    """Returns the notes on protocol, training, costs and deviations of methods.

    Args:
        scores: Scores of the study.
        costs: Whether the table has costs.
    """
    card = scores.card
    seeds = sorted({entry.seed for entry in card.entries})
    several = len(seeds) > 1
    notes = [
        card.protocol["text"],
        f"Training: {card.training}; seed{'s' if several else ''} {', '.join(map(str, seeds))}"
        f"{' (mean ± standard deviation)' if several else ''}.",
    ]
    if costs:
        notes += _cost_notes(scores)
    for name, facts in card.metrics.items():
        if facts["unavailable"]:
            notes.append(f"{name.upper()} is left out: {facts['unavailable']}")
        elif source := facts.get("source"):
            notes.append(f"{name.upper()} uses {source['text']}.")
    notes += card.remarks()
    for method, entries in scores.entries.items():
        if deviations := "; ".join(entries[0].deviations):
            notes.append(
                f"{DEVIATION_MARK} {method} differs from the shared settings: {deviations}."
            )
        outputs: dict[str, list[str]] = {}  # seeds by trivial output
        for entry in entries:
            if entry.degenerate:
                outputs.setdefault(entry.degenerate, []).append(str(entry.seed))
        for output, found in outputs.items():
            seed_text = f" with seed {', '.join(found)}" if several else ""
            notes.append(f"{DEGENERATE_MARK} {method}{seed_text}: {output}.")
        if behind := behind_untrained(scores, method):
            places = ", ".join(f"{rival} on {dataset}" for dataset, rival in behind.items())
            notes.append(
                f"{BEHIND_MARK} {method} is behind {places}: this training is too short for it, or "
                "its options do not suit it."
            )
        notes += [
            f"{FAILURE_MARK} {method} with seed {entry.seed} failed: {entry.failure}"
            for entry in entries
            if entry.failure
        ]
    return notes


def published_marks(rows: Sequence[Published]) -> dict[str, str]:
    """Returns the mark of published rows by their source, numbered if there are several sources."""
    sources = list(dict.fromkeys(row.source for row in rows))
    if len(sources) == 1:
        return {sources[0]: "published"}
    return {source: f"published {number}" for number, source in enumerate(sources, 1)}


def published_notes(rows: Sequence[Published], sizes: bool) -> list[str]:
    """Returns one note per source of published numbers.

    Args:
        rows: Published rows of one table.
        sizes: Whether to add the numbers of parameters, for a table without such a column.
    """
    notes = []
    for source, mark in published_marks(rows).items():
        params: dict[str, float | None] = {}
        for row in rows:
            if row.source == source:
                params[row.method] = params.get(row.method) or row.params
        names = [
            f"{name}, {count / 1e6:g} M parameters" if sizes and count else name
            for name, count in params.items()
        ]
        listed = ("; " if sizes else ", ").join(names)
        notes.append(
            f"{mark.capitalize()} (not measured here, not ranked): {listed}. Source: {source}."
        )
    return notes


def _cost_notes(scores: Scores) -> list[str]:
    card = scores.card
    costs = {entry.method: cost for entry in card.entries if (cost := scores.cost(entry))}
    if not costs:
        return []
    environment, first = card.environment, next(iter(costs.values()))
    threads = sorted({entry.threads for entry in card.entries if entry.run})
    training = f" CPU threads per training: {', '.join(map(str, threads))}." if threads else ""
    notes = [
        f"Costs are of one SR frame from {_size(first)} (frames × channels × height × width) on "
        f"{first.get('device', environment['device'])}, CPU threads: {environment['threads']}, "
        f"torch {environment['packages']['torch']}, {first.get('precision', 'fp32')}. Times per "
        f"frame are medians, except p95. {COUNTING}. MiB are the peak tensor memory beyond weights "
        f"and input, for one frame (test) and for one training batch (train).{training}"
    ]
    for method, cost in costs.items():
        if cost.get("input") != first.get("input"):
            notes.append(f"Costs of {method} were measured with {_size(cost)}.")
        if cost.get("uncounted"):
            notes.append(f"GFLOPs of {method} do not include {', '.join(cost['uncounted'])}.")
    return notes


def _size(cost: dict[str, Any]) -> str:
    return "×".join(map(str, (cost.get("input") or [])[1:]))

"""The sentences that stand under a study's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.store import Published
from srtoolbox.engine.profiling import COUNTING

TIED_NOTE = (
    "≈ cannot be told apart from the best of its column (paired t-test over {unit}, corrected for "
    "all pairs by Holm's method, 95 %)."
)

FRAME_USE_NOTE = (
    "n frames: the reference and those nearest to it (copies of it stand in for the others where a "
    "network takes one number only); reference only: every frame is the reference; shuffled: the "
    "others in random order; owed to the others: all frames against the reference only."
)


def study_notes(scores: Scores, costs: bool = True) -> list[str]:
    """Protocol, training, costs, and what is otherwise than one would think."""
    card = scores.card
    seeds = sorted({entry.seed for entry in card.entries})
    notes = [
        card.protocol["text"],
        f"Training: {card.training}; seed{'s' if len(seeds) > 1 else ''} "
        f"{', '.join(map(str, seeds))}{' (mean ± standard deviation)' if len(seeds) > 1 else ''}.",
    ]
    if costs:
        notes += _cost_note(scores)
    for name, facts in card.metrics.items():
        if facts["unavailable"]:
            notes.append(f"{name.upper()} is left out: {facts['unavailable']}")
    notes += card.remarks()
    for method, entries in scores.entries.items():
        if entries[0].deviations:
            notes.append(f"† {method}: {'; '.join(entries[0].deviations)}.")
        notes += [f"✗ {method}, seed {e.seed}: {e.failure}" for e in entries if e.failure]
    return notes


def published_marks(rows: Sequence[Published]) -> dict[str, str]:
    """What rows are marked by, by their source: with a number where there are several."""
    sources = list(dict.fromkeys(row.source for row in rows))
    if len(sources) == 1:
        return {sources[0]: "published"}
    return {source: f"published {number}" for number, source in enumerate(sources, 1)}


def published_notes(rows: Sequence[Published], sizes: bool) -> list[str]:
    """Where the printed numbers of a table come from.

    Args:
        rows: Of the table.
        sizes: Whether to say the printed numbers of parameters, for which it has no column.
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
            f"{mark.capitalize()}, not measured here, hence not ranked: {listed} ({source})."
        )
    return notes


def _cost_note(scores: Scores) -> list[str]:
    card = scores.card
    costs = {e.method: cost for e in card.entries if (cost := scores.cost(e))}
    if not costs:
        return []
    environment, first = card.environment, next(iter(costs.values()))
    threads = ", ".join(str(n) for n in sorted({e.threads for e in card.entries if e.run}))
    notes = [
        f"Costs: one SR frame from {_size(first)} (frames × channels × height × width) on "
        f"{first.get('device', environment['device'])}, CPU threads: {environment['threads']}, "
        f"torch {environment['packages']['torch']}, {first.get('precision', 'fp32')}; ms are the "
        f"median; {COUNTING}; MiB are peak tensor memory beyond weights and input, of one frame "
        "and of one training batch"
        + (f"; train s: CPU threads of each: {threads}." if threads else ".")
    ]
    for method, cost in costs.items():
        if cost["input"] != first["input"]:
            notes.append(f"Costs of {method} are from {_size(cost)}.")
        if cost.get("uncounted"):
            notes.append(f"GFLOPs of {method} lack {', '.join(cost['uncounted'])}.")
    return notes


def _size(cost: dict[str, Any]) -> str:
    return "×".join(map(str, cost["input"][1:]))

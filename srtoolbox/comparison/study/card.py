"""The card of a study before anything is on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.store import Published, StudyCard
from srtoolbox.config.files import plain
from srtoolbox.engine.device.precision import resolve
from srtoolbox.metrics import get_protocol


def new_card(
    opt: StudyOptions,
    metrics: dict[str, Any],
    environment: dict[str, Any],
    device: torch.device,
    budget: str | None,
) -> StudyCard:
    """The card of a study without entries.

    Args:
        opt: The study.
        metrics: Its metrics by name.
        environment: What it is run with.
        device: Where it runs.
        budget: What the trainings have in common, if it is not the options' iterations.
    """
    first, *other_protocols = [_protocol(opt, name) for name in opt.scored_by]
    return StudyCard(
        name=opt.name,
        scale=opt.scale,
        protocol=first,
        metrics={
            name: {
                "higher_is_better": metric.higher_is_better,
                "unit": metric.unit,
                "digits": metric.digits,
                "unavailable": metric.available(),
            }
            for name, metric in metrics.items()
        },
        training=_training_in_words(opt, device, budget),
        environment=environment,
        other_protocols=other_protocols,
        published=[Published(**plain(row)) for row in opt.published],
        budget=budget,
        jobs=opt.jobs,
        sweeps=plain(opt.report.sweeps),
    )


def _protocol(opt: StudyOptions, name: str) -> dict[str, str]:
    protocol = get_protocol(name)
    return {
        "name": name,
        "hash": protocol.hash,
        "text": replace(opt.val, protocol=name).describe(),
        "average": protocol.average,
    }


def _training_in_words(opt: StudyOptions, device: torch.device, budget: str | None) -> str:
    train = opt.train
    optimizer = ", ".join(f"{k} {v}" for k, v in train.optim_g.items() if k != "type")
    schedule = train.scheduler["type"] if train.scheduler else "constant lr"
    losses = " + ".join(spec["type"] for spec in train.losses.values())
    crop = (opt.datasets.train or {}).get("gt_size")
    precision = resolve(train.precision, device)
    return (
        (budget or f"{train.total_iter} iterations")
        + f" with batch {train.batch_size}"
        + (f" of {crop}×{crop} crops" if crop else "")
        + f", {losses}, {train.optim_g['type']} ({optimizer}), {schedule}, {precision}; "
        "the same samples in the same order for every method; scores of the final weights"
    )

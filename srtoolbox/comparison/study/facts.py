"""Describes the metrics and the protocols of a study for its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.metrics import AnyMetric, get_protocol


def protocol_facts(opt: StudyOptions) -> list[dict[str, str]]:
    """Returns ``name``, ``hash``, ``text`` and ``average`` of each protocol, in order."""
    return [
        {
            "name": name,
            "hash": get_protocol(name).hash,
            "text": replace(opt.val, protocol=name).describe(),
            "average": get_protocol(name).average,
        }
        for name in opt.protocol_names
    ]


def metric_facts(metrics: Mapping[str, AnyMetric]) -> dict[str, dict[str, Any]]:
    """Returns the facts by metric that tables need; see ``StudyCard``."""
    return {
        name: {
            "higher_is_better": metric.higher_is_better,
            "unit": metric.unit,
            "digits": metric.digits,
            "kind": metric.kind,
            "source": metric.source(),  # may find out that the metric is unavailable
            "unavailable": _why_left_out(metric),
        }
        for name, metric in metrics.items()
    }


def _why_left_out(metric: AnyMetric) -> str | None:
    """Returns why a metric is missing in the table, and how to add it; None if it is not."""
    reason = metric.available()
    return reason and (
        f"{reason}; then run the same `srtoolbox compare` again, which repeats only the evaluation "
        "(`srtoolbox report` cannot add the column)"
    )

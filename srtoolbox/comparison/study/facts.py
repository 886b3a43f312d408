"""Describes the metrics and the protocols of a study for its card."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.errors import RunError
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


def metric_states(metrics: Mapping[str, AnyMetric]) -> dict[str, str | None]:
    """Returns the hash of the weights of each metric, "" without weights; None: unavailable."""
    states: dict[str, str | None] = {}
    for name, metric in metrics.items():
        source = metric.source()  # may find out that the metric is unavailable
        states[name] = None if metric.available() else (source or {}).get("content", "")
    return states


def check_metrics(metrics: Mapping[str, AnyMetric], expected: Mapping[str, str | None]) -> None:
    """Checks that metrics are the same on this machine as on that of the study's command.

    Args:
        metrics: The metrics by name.
        expected: Their ``metric_states`` there.

    Raises:
        RunError: names the first that differs, and how to make them equal.
    """
    host = f"on {socket.gethostname()}"
    for name, here in metric_states(metrics).items():
        there = expected.get(name)
        if here == there:
            continue
        if here is None:
            reason = metrics[name].available()
            raise RunError(
                f"metric {name} cannot be computed {host}: {reason}. The machine of the command "
                "has it: keep its files in a folder that all machines see, or leave the metric out"
            )
        if there is None:
            raise RunError(
                f"metric {name} can be computed {host}, but not on the machine of the command: "
                "make it available there too, or leave it out"
            )
        raise RunError(
            f"metric {name} has other weights {host} than on the machine of the command; use one "
            "file for both, in a folder that all machines see"
        )


def _why_left_out(metric: AnyMetric) -> str | None:
    """Returns why a metric is missing in the table, and how to add it; None if it is not."""
    reason = metric.available()
    return reason and (
        f"{reason}; then run the same `srtoolbox compare` again, which repeats only the evaluation "
        "(`srtoolbox report` cannot add the column)"
    )

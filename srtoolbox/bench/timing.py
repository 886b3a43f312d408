"""Times several functions in turn and compares them within a run.

Each round times every function once, one after the other. The reported ratio is the median of the
ratios of all rounds, so a machine whose speed changes favours none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from srtoolbox.engine.profiling import seconds


def speedup(reference: list[float], other: list[float]) -> float:
    """Returns the median over all rounds of time of ``reference`` / time of ``other``."""
    return median(a / b for a, b in zip(reference, other, strict=True))


def in_rounds(
    works: list[Callable[[], Any]], rounds: int, device: torch.device
) -> list[list[float]]:
    """Returns the seconds of each function by round; a round times all of them in turn."""
    times = [[seconds(work, device) for work in works] for _ in range(rounds)]
    return [list(column) for column in zip(*times, strict=True)]


def milliseconds(times: list[float]) -> str:
    """Returns the median of some seconds in milliseconds, with three digits or more."""
    value = median(times) * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"

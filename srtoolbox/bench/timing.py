"""Times that are only compared within a run.

In every round each way is timed once, one after the other, and what is reported is the median over
the rounds of the ratio. So a machine that slows down, or that others use too, favours neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import torch

from srtoolbox.engine.device.precision import synchronize


def speedup(reference: list[float], other: list[float]) -> float:
    """How many times faster ``other`` is: the median over the rounds of the ratio."""
    return median(a / b for a, b in zip(reference, other, strict=True))


def in_rounds(
    works: list[Callable[[], Any]], rounds: int, device: torch.device
) -> list[list[float]]:
    """Seconds of each work by round; within a round all are timed one after the other."""
    times = [[seconds(work, device) for work in works] for _ in range(rounds)]
    return [list(column) for column in zip(*times, strict=True)]


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """How long ``work`` takes, the device's share included."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


class BusyMeter:
    """Tells for what share of the time a GPU is at work, between ``start`` and ``stop``.

    Args:
        device: What is watched; nothing is measured unless it is a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._profile: torch.profiler.profile | None = None
        self._started = 0.0

    def start(self) -> None:
        """Starts watching."""
        if self._device.type == "cuda":
            synchronize(self._device)
            self._profile = torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CUDA]
            )
            self._profile.start()
        self._started = time.perf_counter()

    def stop(self) -> float | None:
        """The share; None where it is not measured."""
        if self._profile is None:
            return None
        synchronize(self._device)
        elapsed = time.perf_counter() - self._started
        self._profile.stop()
        spans = [
            (event.time_range.start, event.time_range.end)
            for event in self._profile.events()
            if event.device_type == torch.autograd.DeviceType.CUDA
            and not getattr(event, "is_user_annotation", False)
        ]
        return covered(spans) / 1e6 / elapsed


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals: what several streams do at once counts once."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total

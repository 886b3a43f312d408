"""Measures the share of time in which a GPU computes."""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]

from srtoolbox.engine.device.precision import synchronize


class BusyMeter:
    """Measures the share of time in which a GPU computes, between ``start`` and ``stop``.

    Args:
        device: Only CUDA devices are measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._profile: torch.profiler.profile | None = None
        self._started = 0.0

    def start(self) -> None:
        """Starts the measurement."""
        if self._device.type == "cuda":
            synchronize(self._device)
            self._profile = torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CUDA]
            )
            self._profile.start()
        self._started = time.perf_counter()

    def stop(self) -> float | None:
        """Returns the share in [0, 1]; None where it is not measured."""
        if self._profile is None:
            return None
        synchronize(self._device)
        elapsed = time.perf_counter() - self._started
        self._profile.stop()
        spans = [
            (event.time_range.start, event.time_range.end)
            for event in self._profile.events() or ()
            if event.device_type == DeviceType.CUDA
            and not getattr(event, "is_user_annotation", False)
        ]
        return covered(spans) / 1e6 / elapsed


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Returns the length of the union of intervals, so that overlapping streams count once."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total

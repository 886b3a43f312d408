"""Ratios and intervals."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from srtoolbox.bench import timing
from srtoolbox.bench.timing import BusyMeter, covered, in_rounds, speedup

CPU = torch.device("cpu")


def test_speedup_is_the_median_of_ratios_within_rounds() -> None:
    assert speedup([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == 3.0


def test_ways_take_turns() -> None:
    calls: list[str] = []
    times = in_rounds([lambda: calls.append("a"), lambda: calls.append("b")], 3, CPU)
    assert calls == ["a", "b"] * 3
    assert [len(column) for column in times] == [3, 3] and min(map(min, times)) >= 0


def test_what_overlaps_counts_once() -> None:
    assert covered([(5, 6), (0, 2), (1, 3), (1.5, 2)]) == 4
    assert covered([]) == 0


def test_a_cpu_is_not_watched() -> None:
    meter = BusyMeter(CPU)
    meter.start()
    assert meter.stop() is None


def test_the_share_of_a_gpu_is_that_of_its_kernels(monkeypatch) -> None:
    def event(first: float, last: float, device: str, note: bool = False) -> SimpleNamespace:
        span = SimpleNamespace(start=first * 1e6, end=last * 1e6)
        kind = getattr(torch.autograd.DeviceType, device)
        return SimpleNamespace(time_range=span, device_type=kind, is_user_annotation=note)

    class Profile:
        def __init__(self, activities: list) -> None:
            assert activities == [torch.profiler.ProfilerActivity.CUDA]

        def start(self) -> None: ...

        def stop(self) -> None: ...

        def events(self) -> list[SimpleNamespace]:
            kernels = [event(0, 1, "CUDA"), event(0.5, 1.5, "CUDA")]
            return [*kernels, event(0, 4, "CPU"), event(0, 4, "CUDA", note=True)]

    clock = iter([10.0, 13.0])
    monkeypatch.setattr(torch.profiler, "profile", Profile)
    monkeypatch.setattr(timing, "synchronize", lambda _: None)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    meter = BusyMeter(torch.device("cuda"))
    meter.start()
    share = meter.stop()
    monkeypatch.undo()
    assert share == 0.5

"""The share of time in which a GPU computes."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from benchmarks import busy
from benchmarks.busy import BusyMeter, covered

CPU = torch.device("cpu")


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
    monkeypatch.setattr(busy, "synchronize", lambda _: None)
    monkeypatch.setattr(busy.time, "perf_counter", lambda: next(clock))
    meter = BusyMeter(torch.device("cuda"))
    meter.start()
    share = meter.stop()
    monkeypatch.undo()
    assert share == 0.5

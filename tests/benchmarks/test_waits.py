"""The count of operations that wait for a GPU."""

from __future__ import annotations

import warnings

import pytest
import torch

from benchmarks import waits
from benchmarks.waits import WaitCounter


def test_a_cpu_is_not_observed() -> None:
    counter = WaitCounter(torch.device("cpu"))
    counter.start()
    assert counter.stop() is None


def test_each_place_is_counted(monkeypatch) -> None:
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    counter = WaitCounter(torch.device("cuda"))
    counter.start()
    for line in (7, 7, 9):
        warnings.warn_explicit(
            "called a synchronizing CUDA operation", UserWarning, waits.__file__, line
        )
    warnings.warn_explicit("something else", UserWarning, waits.__file__, 1)
    assert counter.stop() == {"benchmarks/waits.py:7": 2, "benchmarks/waits.py:9": 1}
    assert modes == ["warn", "default"]


@pytest.mark.cuda
def test_a_copy_to_the_host_waits() -> None:
    counter = WaitCounter(torch.device("cuda"))
    counter.start()
    torch.ones(3, device="cuda").sum().item()
    found = counter.stop()
    assert found is not None and list(found.values()) == [1]
    (place,) = found
    assert place.startswith("tests/benchmarks/test_waits.py:")

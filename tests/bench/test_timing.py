"""Ratios and intervals."""

from __future__ import annotations

import torch

from srtoolbox.bench.timing import in_rounds, speedup

CPU = torch.device("cpu")


def test_speedup_is_the_median_of_ratios_within_rounds() -> None:
    assert speedup([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == 3.0


def test_ways_take_turns() -> None:
    calls: list[str] = []
    times = in_rounds([lambda: calls.append("a"), lambda: calls.append("b")], 3, CPU)
    assert calls == ["a", "b"] * 3
    assert [len(column) for column in times] == [3, 3] and min(map(min, times)) >= 0

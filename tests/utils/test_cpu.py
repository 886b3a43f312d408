"""Counting cores, and work in threads: in order, with bounded memory, over when it fails."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing

import pytest

from srtoolbox.utils.cpu import cpu_count, map_threads


def test_cores_of_this_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert cpu_count() == 3


@pytest.mark.parametrize(("reported", "expected"), [(8, 8), (None, 1)])
def test_systems_without_affinity(
    monkeypatch: pytest.MonkeyPatch, reported: int | None, expected: int
) -> None:
    """macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: reported)
    assert cpu_count() == expected
    assert list(map_threads(str, range(3))) == ["0", "1", "2"]


def test_in_order_whatever_takes_long() -> None:
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number**2

    assert list(map_threads(work, range(50))) == [number**2 for number in range(50)]
    assert list(map_threads(work, [])) == []


def test_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []
    items = (taken.append(number) or number for number in range(10_000))
    with closing(map_threads(lambda number: number, items)) as results:
        assert next(results) == 0
        assert len(taken) < 100


def test_an_error_ends_it_with_its_threads() -> None:
    before = threading.active_count()

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    results = map_threads(work, range(1000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert threading.active_count() == before

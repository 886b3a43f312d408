from __future__ import annotations

import gc
import weakref

import pytest

from srtoolbox.utils.collector import collector_paused, present_objects_skipped


class Node:
    """Refers to itself, so that only a search for cycles frees it."""

    def __init__(self) -> None:
        self.own = self


def test_the_collector_is_paused_inside_only() -> None:
    assert gc.isenabled()
    with pytest.raises(ValueError), collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            pass
        assert not gc.isenabled()  # the outer one decides
        raise ValueError
    assert gc.isenabled()


def test_a_decorated_function_pauses_it() -> None:
    assert not collector_paused()(gc.isenabled)()
    assert gc.isenabled()


def test_cycles_of_before_are_freed_at_the_end_and_new_ones_at_once() -> None:
    gc.disable()  # so that only the searches below free something
    try:
        old = weakref.ref(Node())
        with present_objects_skipped():
            new = weakref.ref(Node())
            gc.collect()
            assert old() is not None and new() is None
        gc.collect()
        assert old() is None
    finally:
        gc.enable()

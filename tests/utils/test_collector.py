from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from srtoolbox.utils.collector import collector_paused, present_objects_skipped


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
    program = """
import gc, weakref
from srtoolbox.utils.collector import present_objects_skipped

class Node:
    def __init__(self):
        self.own = self  # only a search for cycles frees it

gc.disable()  # so that only the searches below free something
old = weakref.ref(Node())
with present_objects_skipped():
    new = weakref.ref(Node())
    gc.collect()
    assert old() is not None and new() is None
gc.collect()
assert old() is None
"""
    subprocess.run([sys.executable, "-c", program], check=True)  # the objects of tests are frozen


def test_what_the_caller_froze_stays_frozen() -> None:
    frozen = gc.get_freeze_count()
    assert frozen
    with present_objects_skipped():
        assert gc.get_freeze_count() == frozen
    assert gc.get_freeze_count() == frozen

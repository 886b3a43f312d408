"""Spares the program searches for reference cycles that find nothing.

Python searches again whenever the number of objects has grown by a quarter, and then walks through
all of them, those of PyTorch included. While 50,000 files are listed, that is a third of the time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Inside, Python does not search for reference cycles; also a decorator.

    For code that makes many objects that all stay.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def present_objects_skipped() -> Iterator[None]:
    """Inside, searches for reference cycles skip all objects that exist at its start.

    It has no effect if the caller has frozen objects itself: those must stay frozen afterwards.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

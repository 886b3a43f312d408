"""Keeps memory that a computation frees for its next step, instead of returning it to the system.

A training step on a CPU allocates and frees the same large buffers again and again. The allocator
of glibc takes blocks of more than 32 MiB from the system each time, and returns free memory at the
end of its heap. Then the kernel clears every page of a new buffer before its first use: up to a
sixth of a step. Values do not depend on it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # numbers of options in malloc.h
# glibc raises both thresholds up to these values by itself, until an option is set.
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}

_kept = False


def freed_memory_kept(wanted: bool = True) -> AbstractContextManager[None]:
    """Inside, freed memory stays with the process; at the end it is returned.

    It has no effect without glibc, or if an environment variable configures its allocator.

    Args:
        wanted: False changes nothing, for work that does not run on the CPU.
    """
    return _during(True) if wanted else nullcontext()


def freed_memory_returned() -> AbstractContextManager[None]:
    """Within `freed_memory_kept`, returns freed memory, also that of before, as usual.

    For work that allocates buffers of other sizes, which would make the kept memory grow.
    """
    return _during(False)


def return_freed_memory() -> None:
    """Returns freed memory as usual, from now on.

    For a process that was forked within `freed_memory_kept`, whose settings it has.
    """
    _keep(False)


@contextmanager
def _during(kept: bool) -> Iterator[None]:
    before = _kept
    _keep(kept)
    try:
        yield
    finally:
        _keep(before)


def _keep(kept: bool) -> None:
    global _kept
    libc = _glibc()
    if libc is None or kept == _kept:
        return
    _kept = kept
    for number, value in (_KEEPING if kept else _USUAL).items():
        libc.mallopt(number, value)
    if not kept:
        libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """Returns the C library; None if its allocator is another one, or is configured by the user."""
    configured = any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform != "linux" or configured or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    libc = ctypes.CDLL(None)
    needed = ("gnu_get_libc_version", "mallopt", "malloc_trim")
    return libc if all(hasattr(libc, name) for name in needed) else None

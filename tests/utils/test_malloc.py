"""Kept memory is used again without page faults, and is returned at the end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from srtoolbox.utils import malloc
from srtoolbox.utils.malloc import freed_memory_kept, freed_memory_returned

_FAULTS = """
import resource, sys
import numpy as np
from srtoolbox.utils.malloc import freed_memory_kept, freed_memory_returned

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.empty(2**26, np.uint8).fill(1)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

found = [faults()]
with freed_memory_kept():
    for _ in range(8):  # until its heap is large enough
        faults()
    found.append(faults())
    before = resident()
    with freed_memory_returned():
        returned = before - resident()
        found.append(faults())
    for _ in range(8):
        faults()
    found.append(faults())
found.append(faults())
print(*found, int(returned))
"""


@pytest.mark.skipif(malloc._glibc() is None, reason="needs the allocator of glibc")
def test_page_faults() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True
    )
    outside, kept, returned, again, after, freed = map(int, result.stdout.split())
    pages = 4 * 16384  # as small as 4 KiB
    assert min(outside, returned, after) > pages / 600  # also with pages of 2 MiB
    assert max(kept, again) < min(outside, returned, after) / 5
    assert freed > 50


def test_without_glibc(monkeypatch) -> None:
    monkeypatch.setattr(malloc, "_glibc", lambda: None)
    with freed_memory_kept(), freed_memory_returned():
        assert not malloc._kept


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_ARENA_MAX", "2"), ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1")],
)
def test_settings_of_the_user_stay(monkeypatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert malloc._glibc.__wrapped__() is None

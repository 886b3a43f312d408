"""Runs a process in which one chosen system call that changes a disk fails.

The process is a fork of the test's, so a fault takes a fraction of a second and not the seconds of
importing everything again.
"""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS = ("kill", "power", "term", "int", "full")
_SIGNALS = {"term": signal.SIGTERM, "int": signal.SIGINT}


class Disk:
    """Wraps the disk functions of this process and makes one call fail.

    Args:
        kind: ``kill``: SIGKILL. ``power``: SIGKILL, and written data that is not synced is lost.
            ``term``, ``int``: a signal after which the process can end in order. ``full``: this
            call and the next ones fail because the disk is full.
        at: Number of the call.
        rng: Random numbers.
    """

    def __init__(self, kind: str, at: int, rng: random.Random) -> None:
        self.kind, self.at, self.rng, self.calls = kind, at, rng, 0
        # By device and inode: a descriptor of our own, and how much is synced.
        self._unsynced: dict[tuple[int, int], tuple[int, int]] = {}

    def install(self) -> None:
        """Replaces the functions that open, write, sync, rename and remove files."""
        self._open = io.open
        io.open = self._opened
        os.fsync = self._synced
        for name in ("replace", "unlink", "mkdir", "ftruncate", "truncate", "chmod"):
            setattr(os, name, self._wrapped(getattr(os, name), name == "mkdir"))

    def call(self, grows: bool) -> None:
        """Counts a system call before it is made; ``grows``: it needs room on the disk."""
        self.calls += 1
        if self.kind == "full" and grows and self.at <= self.calls < self.at + 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.calls != self.at or self.kind == "full":
            return
        if self.kind in _SIGNALS:
            signal.raise_signal(_SIGNALS[self.kind])
            return
        if self.kind == "power":
            for handle, synced in self._unsynced.values():
                self._truncate(handle, self.rng.randint(synced, os.fstat(handle).st_size))
        os.kill(os.getpid(), signal.SIGKILL)

    _truncate = staticmethod(os.ftruncate)

    def _wrapped(self, function: Callable[..., Any], grows: bool) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.call(grows)
            return function(*arguments, **options)

        return counted

    def _opened(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+"):
            return self._open(file, mode, *arguments, **options)
        self.call(grows=True)
        binary = io.BufferedWriter(_File(self, file, mode.replace("b", "")))
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding="utf-8")

    def writes(self, handle: int) -> None:
        """Records that unsynced data of this file would be lost by a power failure."""
        found = os.fstat(handle)
        key = (found.st_dev, found.st_ino)
        if key not in self._unsynced:
            self._unsynced[key] = (os.dup(handle), found.st_size)

    def _synced(self, handle: int) -> None:
        self.call(grows=True)
        found = os.fstat(handle)
        mine = self._unsynced.pop((found.st_dev, found.st_ino), None)
        if mine is not None:
            os.close(mine[0])


class _File(io.FileIO):
    """Writes everything in two halves, so that a fault may come between them."""

    def __init__(self, disk: Disk, file: Any, mode: str) -> None:
        super().__init__(file, mode)
        self.disk = disk

    def write(self, data: Any) -> int:
        data, written = bytes(data), 0
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            if part:
                try:
                    self.disk.call(grows=True)
                except OSError:
                    if written:  # as the system does: the rest fails in the next call
                        return written
                    raise
                self.disk.writes(self.fileno())
                written += super().write(part)
        return written


def in_process(function: Callable[[], None], delay: float | None = None, number: int = 0) -> int:
    """Runs ``function`` in a fork of this process, sends signal ``number`` after ``delay`` seconds.

    Returns:
        The exit code; negative if a signal ended the process.
    """
    child = multiprocessing.get_context("fork").Process(target=_quiet, args=(function,))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # `_quiet` unblocks it
    child.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if delay is not None:
        child.join(delay)
        if child.exitcode is None:
            os.kill(child.pid, number)
    child.join(120)
    assert child.exitcode is not None, "hangs"
    return child.exitcode


def _quiet(function: Callable[[], None]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        function()
        os._exit(0)
    except KeyboardInterrupt:
        os._exit(130)


def damage(path: Path, rng: random.Random) -> None:
    """Makes a file useless in one of several ways."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(("cut", "flip", "empty", "foreign"))
    if kind == "cut":
        del content[rng.randrange(len(content)) :]
    elif kind == "flip":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes({"empty": b"", "foreign": b"PK\x03\x04 of somebody else"}.get(kind, content))

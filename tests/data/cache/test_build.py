"""Builds the cache despite kills, full disks and other processes at any time."""

from __future__ import annotations

import errno
import logging
import os
import random
import signal
import time
from itertools import count
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from support.pixel_cache import check, the_store

from srtoolbox.data.cache import build as cache_build
from srtoolbox.data.cache.pixels import open_pixels
from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.reader import read_image
from srtoolbox.errors import RunError, UserError


def build_slowly(
    files: list[Path], cache: Path, seconds: float, log: Path, alarm: float | None = None
) -> None:
    """Builds the cache and flushes after each file, so that a test can stop it between files.

    With ``alarm``, it reads four files; that many seconds after the first of them is in the
    journal, the system ends it.
    """
    calls = count()

    def read(path: Path, *options: ReadOptions) -> np.ndarray:
        time.sleep(seconds)
        if alarm is not None and (number := next(calls)) >= 4:
            if number == 4:
                while not any(file.stat().st_size for file in cache.glob("*.part/journal")):
                    time.sleep(0.001)
                signal.setitimer(signal.ITIMER_REAL, alarm)
            time.sleep(60)
        with log.open("a") as file:
            file.write(path.name + "\n")
        return read_image(path, *options)

    cache_build.read_image = read
    cache_build._SYNC_SECONDS = 0
    check(open_pixels(files, cache), files)


def run_builder(
    files: list[Path], cache: Path, seconds: float, log: Path, alarm: float | None = None
) -> BaseProcess:
    arguments = (files, cache, seconds, log, alarm)
    process = get_context("fork").Process(target=build_slowly, args=arguments)
    process.start()
    return process


@pytest.mark.slow
def test_killed_at_any_time_it_goes_on(
    files: list[Path], tmp_path: Path, decoded: list[str]
) -> None:
    cache, log = tmp_path / "cache", tmp_path / "log"
    dice = random.Random(0)
    for _ in range(3):
        process = run_builder(files, cache, 0.0, log, alarm=0.001 + dice.random() * 0.05)
        process.join()
        assert process.exitcode == -signal.SIGALRM
        assert not (cache.exists() and list(cache.glob("*/index.json")))
    journal = next(cache.glob("*.part")) / "journal"
    kept = set(journal.read_text().split("\n")[:-1])
    assert kept
    with journal.open("a") as file:
        file.write("2")  # a line that a crash left behind unfinished
    check(open_pixels(files, cache), files)
    assert len(decoded) == len(files) - len(kept)
    assert not (the_store(cache) / "journal").exists()


def test_a_journal_without_its_pixels_is_not_trusted(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache_build, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            open_pixels(files, cache)
    (the_store(cache) / "pixels.bin").unlink()
    check(open_pixels(files, cache), files)
    assert len(decoded) == 2 * len(files)


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b"99999\n1\n", b"x\n1\n", b"-1\n"])
def test_what_a_crash_left_in_the_journal_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    journal, blob = tmp_path / "journal", tmp_path / "blob"
    journal.write_bytes(b"3\n0\n" + tail)
    blob.write_bytes(bytes(64))
    with blob.open("r+b") as file:
        read = cache_build._Journal(journal, file.fileno(), 20, 64)
        assert read.done == {0, 3}
        read.add(5)
        read.commit()
    assert journal.read_bytes() == b"3\n0\n5\n"


def test_two_processes_at_once_build_it_once(files: list[Path], tmp_path: Path) -> None:
    cache, log = tmp_path / "cache", tmp_path / "log"
    processes = [run_builder(files, cache, 0.02, log) for _ in range(3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(log.read_text().split()) == [path.name for path in files]
    check(open_pixels(files, cache), files)


@pytest.mark.slow
def test_waiting_is_announced(
    files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, log = tmp_path / "cache", tmp_path / "log"
    process = run_builder(files, cache, 0.05, log)
    while not log.exists() and process.is_alive():
        time.sleep(0.01)
    with caplog.at_level(logging.INFO, "srtoolbox"):
        check(open_pixels(files, cache), files)
    process.join()
    assert process.exitcode == 0
    assert "waiting for another process, which builds" in caplog.text


@pytest.mark.parametrize("room", [0, 5000, 20000])
def test_a_full_disk_keeps_what_is_built(
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    decoded: list[str],
    room: int,
) -> None:
    cache, left, write = tmp_path / "cache", [room], os.pwrite

    def pwrite(blob: int, data: memoryview, offset: int) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = min(len(data), left[0])  # as a disk does: first less than asked for, then nothing
        left[0] -= count
        return write(blob, data[:count], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(RunError, match=r"cannot be written \(No space left.*kept.*cache: null"):
            open_pixels(files, cache)
    assert not list(cache.glob("*/index.json"))
    kept = (next(cache.glob("*.part")) / "journal").read_text().split()
    assert len(kept) > 0 or room < 10000
    decoded.clear()
    check(open_pixels(files, cache), files)
    assert len(decoded) == len(files) - len(kept)


def test_pixels_that_did_not_reach_the_disk_are_not_trusted(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(RunError, match="Input/output error"):
            open_pixels(files, tmp_path / "cache")
    assert (next((tmp_path / "cache").glob("*.part")) / "journal").read_text() == ""
    decoded.clear()
    check(open_pixels(files, tmp_path / "cache"), files)
    assert len(decoded) == len(files)


def test_the_limit_is_checked_first(files: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    with pytest.raises(UserError, match=r"22 files take .* more than cache_limit \(1e-06 GiB\)"):
        open_pixels(files, tmp_path / "cache", limit_gib=1e-6)
    assert decoded == []


def test_the_free_space_is_checked_first(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    class Usage:
        free = 10

    monkeypatch.setattr(cache_build.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(UserError, match=r"GiB are needed in .*/cache, but only 0\.00 GiB are free"):
        open_pixels(files, tmp_path / "cache")
    assert decoded == []


def test_a_broken_file_is_named_and_the_rest_is_kept(
    files: list[Path], tmp_path: Path, decoded: list[str]
) -> None:
    whole = files[15].read_bytes()
    state = files[15].stat()
    files[15].write_bytes(whole[:60] + bytes(len(whole) - 60))
    os.utime(files[15], ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(UserError, match=r"15\.png: truncated or broken"):
        open_pixels(files, tmp_path / "cache")
    files[15].write_bytes(whole)
    os.utime(files[15], ns=(state.st_atime_ns, state.st_mtime_ns))
    decoded.clear()
    check(open_pixels(files, tmp_path / "cache"), files)
    assert len(decoded) < len(files)


def test_files_that_change_meanwhile(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, *options: ReadOptions) -> np.ndarray:
        os.utime(files[2], ns=(5, 5))
        return read_image(path, *options)

    with monkeypatch.context() as patch:
        patch.setattr(cache_build, "read_image", read)
        with pytest.raises(RunError, match="files changed while they were decoded"):
            open_pixels(files, tmp_path / "cache")
    check(open_pixels(files, tmp_path / "cache"), files)

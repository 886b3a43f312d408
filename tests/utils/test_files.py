"""Atomic writes, JSON lines, locks, and signals that end a wait."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from srtoolbox.errors import UserError
from srtoolbox.utils import files
from srtoolbox.utils.files import (
    acquire_lock,
    append_lines,
    arrange_lines,
    delay_signals,
    interrupt_on,
    keep_lines,
    locked,
    read_lines,
    remove_torn,
    sync_folder,
    write_atomic,
    write_synced,
)

needs_locks = pytest.mark.skipif(files.fcntl is None, reason="this system has no such locks")


def test_text_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    write_atomic(path, "Grüße\n")
    assert path.read_text(encoding="utf-8") == "Grüße\n"
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(path.parent) == ["file.txt"]  # noqa: PTH208 (hidden files count)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.fixture(autouse=True)
def usual_permissions() -> Iterator[None]:
    previous = os.umask(0o022)
    yield
    os.umask(previous)


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    os.umask(0o077)
    write_atomic(tmp_path / "private", "x")
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


def test_content_and_name_reach_the_disk_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, then rename, then folder: else a crash could leave an empty or unnamed file."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        is_folder = os.path.isdir(f"/proc/self/fd/{handle}")  # noqa: PTH112
        steps.append("folder" if is_folder else "file")
        fsync(handle)

    def replaced(source: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_atomic(tmp_path / "file", "x")
    write_synced(tmp_path / "other", "ü")
    assert (tmp_path / "other").read_bytes() == "ü".encode()
    assert steps == ["file", "rename", "folder", "file"] or not Path("/proc/self/fd").exists()


def test_folders_need_no_sync_where_they_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        patch.setattr(files.os, "name", "nt")
        sync_folder(tmp_path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, call) if call == "fsync" else (Path, call)), fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_records(tmp_path: Path) -> None:
    path = tmp_path / "run" / "log.jsonl"
    assert list(read_lines(path)) == []
    append_lines(path, [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 1e-30}])
    append_lines(path, [{"step": 3, "name": "ü"}])
    assert list(read_lines(path)) == [
        {"step": 1, "loss": 0.1},
        {"step": 2, "loss": 1e-30},
        {"step": 3, "name": "ü"},
    ]


@pytest.mark.parametrize("exists", [False, True])
def test_records_that_could_not_be_synced_are_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    """Else a second try would write them twice."""
    path = tmp_path / "log.jsonl"
    if exists:
        append_lines(path, [{"step": 1}])
    before = list(read_lines(path))

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            append_lines(path, [{"step": 2}])
    assert list(read_lines(path)) == before
    append_lines(path, [{"step": 2}])
    assert list(read_lines(path)) == [*before, {"step": 2}]


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    write_atomic(tmp_path / "checkpoints" / "kept", "1")
    for torn in (".run.json.x1.tmp", "checkpoints/.step_1.ckpt.y2.tmp"):
        (tmp_path / torn).write_text("half")
    (tmp_path / "mine.tmp").write_text("not ours")
    remove_torn(tmp_path)
    assert {p.name for p in tmp_path.rglob("*")} == {"checkpoints", "kept", "mine.tmp"}


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_lines(path, [{"step": 1}])
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert list(read_lines(path)) == [{"step": 1}]
    append_lines(path, [{"step": 2}])
    assert list(read_lines(path)) == [{"step": 1}, {"step": 2}]


def test_later_steps_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    keep_lines(path, 5)
    assert not path.exists()
    append_lines(path, [{"step": step} for step in (2, 4, 6, 8)])
    keep_lines(path, 5)
    assert list(read_lines(path)) == [{"step": 2}, {"step": 4}]
    keep_lines(path, 0)
    assert list(read_lines(path)) == []


@contextmanager
def other_process(folder: Path) -> Iterator[BaseProcess]:
    """A process that holds the lock until it is killed, and has a child as loaders are."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()

    def hold() -> None:
        with locked(folder):
            if os.fork():
                ready.set()
                signal.pause()
            time.sleep(5)
            os._exit(0)

    process = context.Process(target=hold)
    process.start()
    assert ready.wait(20)
    try:
        yield process
    finally:
        process.kill()
        process.join()


@needs_locks
def test_a_second_process_is_told_who_is_there(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("srtoolbox.utils.files._MAX_LOCK_WAIT", 0.1)
    with other_process(tmp_path / "run") as process:
        holder = f"in use by process {process.pid} on {socket.gethostname()}; wait until it ends"
        with pytest.raises(UserError, match=holder), locked(tmp_path / "run"):
            raise AssertionError("two are in")


@needs_locks
def test_the_lock_of_a_killed_process_is_free_though_its_children_live(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        process.kill()
        process.join()
        with locked(tmp_path):
            assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()


@needs_locks
def test_a_process_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        threading.Timer(0.3, process.kill).start()
        with locked(tmp_path):
            pass


@needs_locks
def test_it_is_released(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path):
            raise KeyError
    with other_process(tmp_path):  # would not be ready if it could not lock
        pass


@needs_locks
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EROFS, errno.EOPNOTSUPP])
def test_where_nothing_can_be_locked_a_warning_says_so(
    tmp_path: Path, monkeypatch, caplog, code: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    place = "os.open" if code == errno.EROFS else "fcntl.lockf"
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "srtoolbox"):
        patch.setattr(place, fail)
        with locked(tmp_path):
            pass
    assert f"{tmp_path} cannot be locked ({os.strerror(code)})" in caplog.text


def test_where_the_system_has_no_locks_a_warning_says_so(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    with caplog.at_level(logging.WARNING, "srtoolbox"), locked(tmp_path / "run"):
        pass
    assert f"{tmp_path / 'run'} cannot be locked (this operating system lacks" in caplog.text
    with pytest.raises(OSError, match="lacks such locks"):
        acquire_lock(tmp_path / "lock")


@pytest.mark.slow
@needs_locks
def test_a_lock_is_waited_for_as_long_as_asked(tmp_path: Path) -> None:
    waits: list[None] = []
    with other_process(tmp_path) as process:
        with pytest.raises(BlockingIOError):
            acquire_lock(tmp_path / ".lock", 0.1, lambda: waits.append(None))
        assert len(waits) == 1
        threading.Timer(0.3, process.kill).start()
        handle = acquire_lock(tmp_path / ".lock", on_wait=lambda: waits.append(None))
        assert len(waits) == 2
    os.close(handle)
    os.close(acquire_lock(tmp_path / ".lock", 0, lambda: waits.append(None)))
    assert len(waits) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_interrupt_inside_the_context_only(number: signal.Signals) -> None:
    received: list[int] = []
    previous = signal.signal(number, lambda number, _: received.append(number))
    try:
        with pytest.raises(KeyboardInterrupt), interrupt_on(number):
            signal.raise_signal(number)
        assert received == []
        signal.raise_signal(number)
        assert received == [number]
    finally:
        signal.signal(number, previous)


@pytest.mark.skipif(os.name != "posix", reason="needs masks of signals")
@pytest.mark.parametrize("also_in_children", [False, True])
def test_delayed_signals_interrupt_at_the_end(also_in_children: bool) -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    show = "import signal; print(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    done: list[str] = []
    with (
        pytest.raises(KeyboardInterrupt),
        delay_signals(signal.SIGINT, signal.SIGTERM, also_in_children=also_in_children),
    ):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        done.append(subprocess.check_output([sys.executable, "-c", show], text=True))
    assert done == [f"{also_in_children}\n"]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    with delay_signals(signal.SIGINT):
        pass


def test_signals_are_left_alone_outside_of_the_main_thread() -> None:
    done: list[bool] = []

    def work() -> None:
        with interrupt_on(signal.SIGTERM):
            done.append(True)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done and signal.getsignal(signal.SIGTERM) is before


def test_arranged_lines_keep_all_others_in_front(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    arrange_lines(path, "id", ["a"])
    assert not path.exists()
    path.write_text('{"id": "b"}\n{"id": "x"}\n{"id": "a", "n": 1}\n{"id\n{"id": "a", "n": 2}\n{"i')
    arrange_lines(path, "id", ["a", "b", "a"])
    arranged = '{"id": "x"}\n{"id\n{"i\n{"id": "a", "n": 1}\n{"id": "a", "n": 2}\n{"id": "b"}\n'
    assert path.read_text() == arranged
    before = path.stat().st_mtime_ns
    arrange_lines(path, "id", ["a", "b"])
    assert path.stat().st_mtime_ns == before

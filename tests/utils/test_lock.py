"""One process at a time in a folder."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from srtoolbox.errors import UserError
from srtoolbox.utils.files import locked

pytest.importorskip("fcntl")


@contextmanager
def other_process(folder: Path) -> Iterator[multiprocessing.Process]:
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


def test_a_second_process_is_told_who_is_there(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("srtoolbox.utils.files._MAX_LOCK_WAIT", 0.1)
    with other_process(tmp_path / "run") as process:
        holder = f"in use by process {process.pid} on {socket.gethostname()}; wait until it ends"
        with pytest.raises(UserError, match=holder), locked(tmp_path / "run"):
            raise AssertionError("two are in")


def test_the_lock_of_a_killed_process_is_free_though_its_children_live(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        process.kill()
        process.join()
        with locked(tmp_path):
            assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()


def test_a_process_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        threading.Timer(0.3, process.kill).start()
        with locked(tmp_path):
            pass


def test_it_is_released(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path):
            raise KeyError
    with other_process(tmp_path):  # would not be ready if it could not lock
        pass


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

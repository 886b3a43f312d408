"""Files that are whole or absent, JSON lines, and one process at a time in a folder."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

from srtoolbox.errors import UserError

try:
    import fcntl
except ImportError:  # not a POSIX system: there are no such locks
    fcntl = None

_log = logging.getLogger("srtoolbox")

_FULL = (errno.ENOSPC, errno.EDQUOT)

_LONGEST_PAUSE = 60.0  # seconds

T = TypeVar("T")


def write_atomic(path: Path, content: bytes | str) -> None:
    """Writes ``path`` whole or not at all: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere folders cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def append_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Appends records to a JSONL file, flushed to the disk: all of them, or none and an OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record) + "\n" for record in records)
    # A line that a killed writer left unfinished must not swallow the first of ours.
    size = path.stat().st_size if path.exists() else 0
    torn = size > 0 and not _ends_with_newline(path)
    try:
        with path.open("a") as file:
            file.write("\n" + text if torn else text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # a disk may be found full as late as in fsync; a second try must not repeat
        if path.exists():
            os.truncate(path, size)
        raise


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSONL file; a line that a killed writer left unfinished is passed over."""
    if not path.exists():
        return
    with path.open() as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def keep_lines(path: Path, last_step: int) -> None:
    """Drops the records of steps after ``last_step``: a resumed run writes them again."""
    if path.exists():
        kept = [record for record in read_lines(path) if record["step"] <= last_step]
        write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept))


def remove_torn(folder: Path) -> None:
    """Removes what writers that were killed left of files; none may be at work in ``folder``."""
    for torn in folder.rglob(".*.tmp"):
        torn.unlink(missing_ok=True)


def wait_for_room(write: Callable[[], T], path: Path, size: int = 0) -> T:
    """Calls ``write``, again and again while the disk is full or the quota used up.

    Args:
        write: Writes ``path``, all or nothing.
        path: For the message.
        size: Bytes to be written, for the message; 0 if it is but a few.

    Raises:
        KeyboardInterrupt: on SIGINT or SIGTERM while it waits; nothing is written.
    """
    try:
        return write()
    except OSError as error:
        if error.errno not in _FULL:
            raise
    needed = f" ({size / 2**20:.1f} MiB)" if size else ""
    _log.warning(
        "the disk is full: waiting for room for %s%s; what was saved before is safe", path, needed
    )
    pause = 1.0
    with _signals_interrupt():
        while True:
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                result = write()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
            else:
                _log.info("there is room again: %s is written", path)
                return result


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Makes SIGINT and SIGTERM end a wait at once, whatever they are set to do."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, interrupt)
    except ValueError:  # not the main thread: the caller handles signals
        pass
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


_PATIENCE = 3.0  # seconds; the trainings of a killed comparison take a moment to follow it


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of ``folder``, which is made if it is not there.

    The system releases the lock when the process ends, however it ends. It belongs to the process
    alone (as that of ``flock`` does not): data loading processes that outlive a killed training
    for a moment do not keep it. Where nothing can be locked a warning says so.

    Raises:
        UserError: if another process holds it; says which.
    """
    handle = _acquire(folder) if fcntl is not None else None
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)  # which releases the lock


def _acquire(folder: Path) -> int | None:
    handle = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        _wait_for(handle)
    except BlockingIOError:
        holder = os.read(handle, 200).decode(errors="replace") or "another process"
        os.close(handle)
        raise UserError(
            f"{folder} is in use by {holder}; wait until it ends, or choose another name"
        ) from None
    except OSError as error:  # a read-only disk, a network file system without locks
        if handle is not None:
            os.close(handle)
        _log.warning(
            "%s cannot be locked (%s): see to it that no other process uses it",
            *(folder, error.strerror),
        )
        return None
    with suppress(OSError):  # a full disk: the message of the next one will be less exact
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return handle


def _wait_for(handle: int) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return

"""Atomic writes, JSON lines, locks, and signals that end a wait."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import secrets
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

from srtoolbox.errors import UserError
from srtoolbox.utils.console import warn_once
from srtoolbox.utils.portable import numbers, to_json

try:
    import fcntl
except ImportError:  # not a POSIX system: there are no such locks
    fcntl = None

_log = logging.getLogger("srtoolbox")

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_MAX_PAUSE = 60.0  # seconds between two tries to write to a full disk
_MAX_LOCK_WAIT = 3.0  # seconds; the trainings of a killed comparison take a moment to end
_LOCK_POLL = 0.05  # seconds between two tries to lock

T = TypeVar("T")


def write_atomic(path: Path, content: bytes | str) -> None:
    """Writes a file completely or not at all, and flushes it to the disk.

    The content goes to a hidden temporary file ``.NAME.….tmp`` in the same folder, which then
    replaces ``path``. ``remove_torn`` removes such files of killed processes.

    Args:
        path: The file; its folder is made if it is missing.
        content: Text is written as UTF-8.

    Raises:
        OSError: if it cannot be written; an earlier file stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        write_synced(temporary, content)
        temporary.replace(path)
    except OSError as error:  # names the file that the caller asked for
        with suppress(OSError):  # of a read-only disk
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_synced(path: Path, content: bytes | str) -> None:
    """Writes a file and flushes it to the disk. (A killed process may leave half of it.)"""
    with path.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to the disk, so that new and renamed files survive a crash."""
    if os.name != "posix":  # elsewhere folders cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_regular(path: Path, max_size: int | None = None) -> None:
    """Checks that a path can be read as a whole: a device never ends, and a pipe may never begin.

    Args:
        path: A file, or a link to one.
        max_size: Maximum size in bytes; None: any size.

    Raises:
        UserError: names what the path is, without the path itself.
        OSError: if there is no such path, it is a folder, or it cannot be reached.
    """
    try:
        status = path.stat()
    except ValueError as error:  # NUL bytes
        raise UserError(f"is no path ({error})") from None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    if not stat.S_ISREG(status.st_mode):
        kind = next((text for test, text in kinds if test(status.st_mode)), "a device")
        raise UserError(f"is {kind}, not a regular file")
    if max_size is not None and status.st_size > max_size:
        raise UserError(f"has {status.st_size} bytes; the maximum is {max_size}")


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's content, 64 hex digits.

    Raises:
        OSError: if it cannot be read.
    """
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            hashed.update(part)
    return hashed.hexdigest()


def user_path(text: str | Path, asked: str = "") -> Path:
    """Returns a user's path with the home folder for ``~`` and the values of ``$VARIABLE``s.

    Variables that are not set stay as they are.

    Raises:
        UserError: if the computer has no such user; it begins with ``asked``.
    """
    try:
        return Path(os.path.expandvars(text)).expanduser()
    except RuntimeError:
        user = Path(os.path.expandvars(text)).parts[0]
        raise UserError(f"{asked}{text}: the home folder of {user} is not known") from None


def remove_torn(folder: Path) -> None:
    """Removes the temporary files that killed processes left in ``folder`` and below it.

    No other process may be writing there.
    """
    for torn in folder.rglob(".*.tmp"):
        torn.unlink(missing_ok=True)


def append_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Appends records to a JSONL file and flushes it to the disk.

    Raises:
        OSError: if they cannot be written; the file then has none of them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(to_json(record) + "\n" for record in records)
    # If a killed process left half a line, the first new record must not continue it.
    size = path.stat().st_size if path.exists() else 0
    torn = size > 0 and not _ends_with_newline(path)
    try:
        with path.open("a") as file:
            file.write("\n" + text if torn else text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # even fsync may find the disk full; a second try must not repeat records
        if path.exists():
            os.truncate(path, size)
        raise


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a JSONL file.

    It skips an unfinished last line, which a killed process leaves. For any other line that is no
    record it logs one warning.
    """
    for number, _, record in numbered_lines(path):
        if record is not None:
            yield record
        else:
            warn_once(f"{path}:{number} damaged; this line is left out")


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes, dict[str, Any] | None]]:
    """Yields number, bytes and record (None: damaged) of the lines of a JSONL file.

    An unfinished last line and empty lines are left out.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line, object_hook=numbers)
            except (ValueError, RecursionError):
                record = None
            if record is None and (not line.endswith(b"\n") or not line.strip()):
                continue
            yield number, line, record if isinstance(record, dict) else None


def keep_lines(path: Path, last_step: int) -> None:
    """Drops the records of steps after ``last_step``, which a resumed run writes again.

    Damaged lines are moved to ``NAME.damaged``, with a warning for each.
    """
    if not path.exists():
        return
    kept, damaged = [], []
    for number, line, record in numbered_lines(path):
        if record is None or not _is_point(record):
            aside = path.with_name(f"{path.name}.damaged")
            _log.warning("%s:%d damaged; the line is moved to %s", path, number, aside.name)
            damaged.append(line if line.endswith(b"\n") else line + b"\n")
        elif record["step"] <= last_step:
            kept.append(record)
    if damaged:
        aside = path.with_name(f"{path.name}.damaged")
        before = aside.read_bytes() if aside.exists() else b""
        write_atomic(aside, before + b"".join(damaged))
    write_atomic(path, "".join(to_json(record) + "\n" for record in kept))


def arrange_lines(path: Path, key: str, values: Sequence[str]) -> None:
    """Moves the records with these values of ``key`` to the end of a JSONL file, in their order.

    All other lines, damaged ones included, stay in front. Lines are not changed; the file is
    written only if their order changes.
    """
    if not path.exists():
        return
    rank = {value: number for number, value in enumerate(dict.fromkeys(values), start=1)}
    lines = path.read_bytes().splitlines(keepends=True)

    def place(line: bytes) -> int:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return 0
        return rank.get(str(record.get(key)), 0) if isinstance(record, dict) else 0

    arranged = sorted(lines, key=place)
    if arranged != lines:
        ended = (line if line.endswith(b"\n") else line + b"\n" for line in arranged)
        write_atomic(path, b"".join(ended))


def _is_point(record: dict[str, Any]) -> bool:
    """Returns whether a record has a step and, apart from a dataset's name, only numbers."""
    values = [value for name, value in record.items() if name not in ("step", "dataset")]
    return (
        type(record.get("step")) is int
        and isinstance(record.get("dataset", ""), str)
        and all(value is None or type(value) in (int, float) for value in values)
    )


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def wait_for_room(write: Callable[[], T], path: Path, size: int = 0) -> T:
    """Calls ``write``, and repeats it as long as the disk is full or the quota is used up.

    Args:
        write: Writes ``path``, completely or not at all.
        path: For the message.
        size: Bytes to be written, for the message; 0 leaves it out.

    Returns:
        The result of ``write``.

    Raises:
        KeyboardInterrupt: on SIGINT or SIGTERM during the wait; nothing is written.
    """
    try:
        return write()
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
    needed = f" ({size / 2**20:.1f} MiB)" if size else ""
    _log.warning(
        "the disk is full: waiting for room for %s%s; what was saved before is safe", path, needed
    )
    pause = 1.0
    with interrupt_on(signal.SIGINT, signal.SIGTERM):
        while True:
            sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE)
            try:
                result = write()
            except OSError as error:
                if error.errno not in _DISK_FULL:
                    raise
            else:
                _log.info("there is room again: %s is written", path)
                return result


def interrupt_on(*numbers: signal.Signals) -> AbstractContextManager[object]:
    """Turns signals into KeyboardInterrupt inside the context, whatever they did before.

    It has no effect outside of the main thread, where the caller must handle signals.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    return handle_signals(interrupt, *numbers)


@contextmanager
def delay_signals(*numbers: signal.Signals, also_in_children: bool = False) -> Iterator[None]:
    """Turns signals inside the context into one KeyboardInterrupt at its end.

    It has no effect outside of the main thread.

    Args:
        numbers: The signals.
        also_in_children: Whether processes that start inside never get the signals. It is for
            commands that end soon: a terminal sends Ctrl-C to them too.

    Raises:
        KeyboardInterrupt: at the end, if there was a signal.
    """
    came: list[int] = []
    with handle_signals(lambda number, _: came.append(number), *numbers):
        if also_in_children:  # a child inherits the mask, but not the handler
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        else:
            yield
    if came:
        raise KeyboardInterrupt


@contextmanager
def handle_signals(
    handler: Callable[[int, Any], object], *numbers: signal.Signals
) -> Iterator[dict[int, Any]]:
    """Calls ``handler`` on these signals inside the context; yields their earlier handlers.

    It has no effect outside of the main thread.
    """
    previous = {}
    with suppress(ValueError):  # not the main thread
        for number in numbers:
            previous[number] = signal.signal(number, handler)
    try:
        yield previous
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, which is made if it is missing.

    Where locks do not work (a read-only disk, some network file systems, Windows) it logs a
    warning and continues without.

    Raises:
        UserError: if another process holds the lock; the message names it.
    """
    path, handle = folder / ".lock", None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = acquire_lock(path, _MAX_LOCK_WAIT)
    except BlockingIOError:
        holder = path.read_text(errors="replace")[:200] or "another process"
        raise UserError(
            f"{folder} is in use by {holder}; wait until it ends, or choose another name"
        ) from None
    except OSError as error:
        _log.warning(
            "%s cannot be locked (%s): make sure that no other process uses it",
            *(folder, error.strerror),
        )
    else:
        with suppress(OSError):  # on a full disk the next process's message cannot name this one
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def acquire_lock(
    path: Path, max_wait: float = math.inf, on_wait: Callable[[], None] | None = None
) -> int:
    """Locks a file, which is made if it is missing, for this process.

    The system releases the lock when the process ends, however it ends. Child processes do not
    inherit it (as they would with ``flock``), so data workers that outlive a killed training for
    a moment do not hold it.

    Args:
        path: The lock file.
        max_wait: Seconds to wait for another process that holds the lock.
        on_wait: Called once if another process holds the lock.

    Returns:
        A file descriptor; ``os.close`` releases the lock.

    Raises:
        BlockingIOError: if another process holds the lock for longer than ``max_wait``.
        OSError: if locks do not work here.
    """
    if fcntl is None:
        raise OSError(errno.EOPNOTSUPP, "this operating system lacks such locks", str(path))
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    end = time.monotonic() + max_wait
    try:
        while True:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
            if on_wait is not None:
                on_wait()
                on_wait = None
            time.sleep(_LOCK_POLL)
    except BaseException:
        os.close(handle)
        raise

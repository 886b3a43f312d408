"""One process at a time in a folder: two would overwrite each other's checkpoints and logs."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from srtoolbox.errors import UserError

try:
    import fcntl
except ImportError:  # not a POSIX system: there are no such locks
    fcntl = None

_log = logging.getLogger("srtoolbox")
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

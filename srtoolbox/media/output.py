"""Writes a file completely or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from srtoolbox.errors import RunError
from srtoolbox.utils.files import sync_folder

Announce = Callable[[Path, Path], None]
"""Gets a complete temporary file and the path that it is about to replace."""

_announce: ContextVar[Announce | None] = ContextVar("announce", default=None)


@contextmanager
def announcing(announce: Announce) -> Iterator[None]:
    """Calls ``announce`` before each file that is written within the context gets its name.

    So a process that is killed at any moment leaves no result of which nobody knows.
    """
    token = _announce.set(announce)
    try:
        yield
    finally:
        _announce.reset(token)


def give_name(temporary: Path, path: Path) -> None:
    """Lets a complete temporary file replace ``path``."""
    if (announce := _announce.get()) is not None:
        announce(temporary, path)
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder, whose file replaces ``path`` at the end.

    If the context ends with an error, the temporary file is removed and an earlier file stays as
    it is. A killed process leaves ``.NAME.….tmp``, which ``utils.files.remove_torn`` removes.

    Args:
        path: The file; its folder is made if it is missing.

    Raises:
        RunError: if the file cannot be written.
    """
    # A name has at most 255 bytes, a character at most 4.
    temporary = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        give_name(temporary, path)
    except OSError as error:
        with suppress(OSError):  # of a read-only disk
            temporary.unlink()
        raise RunError(f"{path}: cannot be written ({error.strerror or error})") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

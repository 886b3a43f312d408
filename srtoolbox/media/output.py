"""Writes a file completely or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from srtoolbox.errors import RunError
from srtoolbox.utils.files import sync_folder

Announce = Callable[[Path, Path], None]
"""Gets a complete temporary file and the path that it is about to replace."""

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}(?:\.[a-z]+)?\.tmp")

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


def unfinished_files(folder: Path) -> dict[str, list[Path]]:
    """Returns the temporary files that processes have in a folder, or left there when killed.

    Returns:
        Their paths by the beginning of the name of the file that they were to replace, see
        ``name_beginning``.
    """
    found: dict[str, list[Path]] = {}
    for path in folder.glob(".*.tmp"):
        if match := _TEMPORARY.fullmatch(path.name):
            found.setdefault(match[1], []).append(path)
    return found


def name_beginning(path: Path) -> str:
    """Returns the beginning of a file's name that its temporary files have in theirs."""
    return path.name[:60]  # a name has at most 255 bytes, a character at most 4


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder, whose file replaces ``path`` at the end.

    If the context ends with an error, the temporary file is removed and an earlier file stays as
    it is. A killed process leaves ``.NAME.….tmp``; ``unfinished_files`` finds it.

    Args:
        path: The file; its folder is made if it is missing.

    Raises:
        RunError: if the file cannot be written.
    """
    temporary = path.with_name(f".{name_beginning(path)}.{secrets.token_hex(4)}.tmp")
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

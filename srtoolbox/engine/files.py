"""Writing files so that a reader, or a resumed run, never meets a half-written one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
    """Appends records to a JSONL file in one write, flushed to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record) + "\n" for record in records)
    # A line that a killed writer left unfinished must not swallow the first of ours.
    torn = path.exists() and path.stat().st_size > 0 and not _ends_with_newline(path)
    with path.open("a") as file:
        file.write("\n" + text if torn else text)
        file.flush()
        os.fsync(file.fileno())


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


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"

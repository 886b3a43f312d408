"""Generated datasets: their content, and an interruption while they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from srtoolbox.data.prepare import generate
from srtoolbox.utils import files


def content(folder: Path) -> dict[str, bytes]:
    """The content of all files below a folder but its lock, by their relative paths."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def stop_at_file(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """From now on, the generator is interrupted when file ``number`` is half-written."""
    write, count = files.write_synced, 0

    def write_some(path: Path, data: bytes | str) -> None:
        nonlocal count
        count += 1
        if count == number:
            write(path, data[: len(data) // 2])
            raise KeyboardInterrupt
        write(path, data)

    for module in (files, generate):  # the latter calls its own imported name
        monkeypatch.setattr(module, "write_synced", write_some)

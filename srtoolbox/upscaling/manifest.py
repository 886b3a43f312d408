"""Remembers which results are finished, so that a command that was killed goes on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.files import append_lines, check_regular

NAME = ".srtoolbox-upscale.jsonl"

_log = logging.getLogger("srtoolbox")

_WHOLE = 64 * 2**20  # larger files are identified by size, time and their ends
_END = 2**20


class Manifest:
    """The finished results of one folder: a line of JSON for each, in a hidden file.

    Args:
        folder: The folder of the results.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._entries: dict[str, dict[str, Any]] = {}
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        damaged = 0
        for line in lines:
            try:
                entry = json.loads(line)
                _ = Path(entry["file"]), entry["size"], entry["mtime_ns"], entry["key"]
                self._entries[entry["result"]] = entry
            except (ValueError, TypeError, KeyError, RecursionError):
                damaged += 1
        if damaged:
            _log.warning("%s: %d lines are damaged and ignored", self.path, damaged)

    @property
    def results(self) -> list[Path]:
        """Files that were written by earlier commands and not changed since."""
        kept = [entry for name, entry in self._entries.items() if self._is_unchanged(name)]
        return [self.path.parent / entry["file"] for entry in kept]

    def file(self, target: Path) -> Path:
        """Returns the file of a result that was entered; a video may have another suffix."""
        return self.path.parent / self._entries[target.name]["file"]

    def holds(self, target: Path, key: str) -> bool:
        """Returns whether a result is finished: of the same input and settings, and unchanged."""
        entry = self._entries.get(target.name)
        return entry is not None and entry["key"] == key and self._is_unchanged(target.name)

    def wrote(self, target: Path) -> bool:
        """Returns whether a file is a result of an earlier command, with any settings."""
        return target.name in self._entries and self._is_unchanged(target.name)

    def add(self, target: Path, key: str, path: Path, temporary: Path | None = None) -> None:
        """Enters a finished result, if it is not entered yet.

        Args:
            target: The file that was planned.
            key: See ``key_of``.
            path: The written file; a video may need another suffix.
            temporary: The same file under the name that it has before it replaces ``path``.

        Raises:
            RunError: if the file cannot be written.
        """
        status = (temporary or path).stat()
        entry = {
            "result": target.name,
            "file": path.name,
            "key": key,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }
        if self._entries.get(target.name) == entry:
            return
        try:
            append_lines(self.path, [entry])
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror})") from error
        self._entries[target.name] = entry

    def _is_unchanged(self, name: str) -> bool:
        entry = self._entries[name]
        try:
            status = (self.path.parent / entry["file"]).stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (entry["size"], entry["mtime_ns"])


def key_of(files: Sequence[Path], settings: dict[str, Any]) -> str:
    """Returns a hash of the content of inputs and of the settings.

    Raises:
        OSError: if a file cannot be read.
        UserError: if it is no regular file: reading a pipe or a device may never end.
    """
    total = hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode())
    for path in files:
        try:
            check_regular(path)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        total.update(_digest(path))
    return total.hexdigest()[:32]


def _digest(path: Path) -> bytes:
    own, status = hashlib.sha256(), path.stat()
    with path.open("rb") as file:
        if status.st_size <= _WHOLE:
            while block := file.read(_END):
                own.update(block)
        else:
            own.update(f"{status.st_size} {status.st_mtime_ns}".encode())
            own.update(file.read(_END))
            file.seek(-_END, 2)
            own.update(file.read(_END))
    return own.digest()

"""Finished segments of a long job, in a folder that survives a kill.

A segment is a Matroska file ``00000.mkv`` and a record ``00000.json``. The record is written last,
so a segment without one is unfinished. ``manifest.json`` holds a key of the source and of all
settings; segments of another key are removed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from srtoolbox.utils.files import sync_folder, write_atomic

_log = logging.getLogger("srtoolbox")

_HEAD = 2**20  # bytes of the source that are hashed, besides its size and time of change
_MANIFEST = "manifest.json"
_TEMPORARY = (".[0-9]*.mkv.tmp", ".[0-9]*.json.*.tmp", f".{_MANIFEST}.*.tmp")
_FORMAT = 1


@dataclass(frozen=True)
class Segment:
    """One finished segment.

    Attributes:
        frames: Number of frames of the source.
        pts: Time stamps of its frames, in units of the result.
        duration: Length of the last frame in these units.
        order: Number of the frame in each packet of the file.
        size: Size of the file in bytes.
        last: Whether the source ends after it.
    """

    frames: int
    pts: list[int]
    duration: int
    order: list[int]
    size: int
    last: bool


def source_key(path: Path) -> dict[str, Any]:
    """Returns size, time of change and a hash of the first MiB of a file."""
    status = path.stat()
    with path.open("rb") as file:
        head = hashlib.sha256(file.read(_HEAD)).hexdigest()
    return {"bytes": status.st_size, "changed_ns": status.st_mtime_ns, "head": head}


class SegmentStore:
    """The segments of one job.

    Args:
        folder: It is made if it is missing. The caller holds its lock.
        key: What the segments depend on, as JSON. Segments of another key are removed.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": _FORMAT, **key}, sort_keys=True, indent=1)
        manifest = folder / _MANIFEST
        before = manifest.read_text() if manifest.is_file() else None
        if before != text:
            if before is not None:
                _log.info("%s: source or settings have changed; all segments are new", folder)
            self.remove_files()
            write_atomic(manifest, text)
        _remove_temporary(self.folder)

    def finished(self) -> list[Segment]:
        """Returns the finished segments from the first one on, without a gap."""
        found: list[Segment] = []
        while (segment := self._read(len(found))) is not None:
            found.append(segment)
        return found

    def path(self, number: int) -> Path:
        """Returns the file of a segment."""
        return self.folder / f"{number:05d}.mkv"

    def temporary(self, number: int) -> Path:
        """Returns the file in which an unfinished segment is written."""
        return self.folder / f".{number:05d}.mkv.tmp"

    def add(self, number: int, segment: Segment) -> None:
        """Makes the temporary file of a segment its file, and writes its record.

        Both are on the disk when this returns.
        """
        temporary = self.temporary(number)
        handle = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        temporary.replace(self.path(number))
        sync_folder(self.folder)
        write_atomic(self._record(number), json.dumps(asdict(segment)))

    def remove_files(self) -> None:
        """Removes all files that this class writes."""
        remove_files(self.folder)

    def _record(self, number: int) -> Path:
        return self.path(number).with_suffix(".json")

    def _read(self, number: int) -> Segment | None:
        record, path = self._record(number), self.path(number)
        if not record.is_file() or not path.is_file():
            return None
        try:
            segment = Segment(**json.loads(record.read_text()))
        except (ValueError, TypeError):
            return None
        return segment if path.stat().st_size == segment.size else None


def remove_files(folder: Path) -> None:
    """Removes all files that ``SegmentStore`` writes."""
    _remove_temporary(folder)
    for pattern in ("[0-9]*.json", "[0-9]*.mkv"):  # records first
        for path in folder.glob(pattern):
            if path.stem.isdecimal():
                path.unlink(missing_ok=True)
    (folder / _MANIFEST).unlink(missing_ok=True)


def _remove_temporary(folder: Path) -> None:
    for pattern in _TEMPORARY:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)

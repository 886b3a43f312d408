"""Building the cache of decoded pixels, so that it can be killed at any instant.

All is made in a folder ``….part``, which gets its final name when it is complete. A journal lists
the images whose pixels have reached the disk; a build that was stopped goes on with the others.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from srtoolbox.data.files.reader import ImageInfo, image_info, read_image
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import progress_console, shows_progress
from srtoolbox.utils.cpu import map_threads

_log = logging.getLogger("srtoolbox")

_ALIGNMENT = 64  # bytes; what processors like best
_GIB = 2**30
_SYNC_SECONDS = 2.0  # how often pixels are forced to the disk: what a killed build may lose


class SourceFile(NamedTuple):
    """A file and what shows that it has changed."""

    path: str
    size: int
    mtime_ns: int


class Place(NamedTuple):
    """Where an image lies among the pixels: offset in bytes, (C, H, W), name of its type."""

    offset: int
    shape: tuple[int, int, int]
    dtype: str


def build(
    store: Path,
    sources: list[SourceFile],
    raw: bool,
    limit_gib: float,
    look_again: Callable[[], list[SourceFile]],
) -> list[Place]:
    """Decodes ``sources`` into the folder ``store``, or finishes what an earlier try began.

    The caller holds the lock. ``look_again`` gives the sources as they are at the end.

    Returns:
        The place of each source's pixels.

    Raises:
        UserError: as ``open_pixels``.
        RunError: if the disk fails or is full, or a source changes meanwhile.
    """
    infos = list(map_threads(lambda source: image_info(Path(source.path), raw), sources))
    places, size = _lay_out(infos)
    if size > limit_gib * _GIB:
        raise UserError(
            f"cache: the {len(sources)} files take {size / _GIB:.2f} GiB when decoded, more than "
            f"cache_limit ({limit_gib:g} GiB); raise cache_limit, or set cache: null to decode "
            "them each time they are read"
        )
    part = store.with_suffix(".part")
    try:
        part.mkdir(exist_ok=True)
        with (part / "pixels.bin").open("ab"):
            pass
        with (part / "pixels.bin").open("r+b", buffering=0) as blob:
            _check_space(blob.fileno(), part, size)
            _decode(blob.fileno(), part, sources, places, size, raw)
        if look_again() != sources:
            shutil.rmtree(part)
            raise RunError("cache: files changed while they were decoded; start again")
        _finish(store, part, sources, places, size)
    except OSError as error:
        free = shutil.disk_usage(part if part.exists() else store.parent).free / _GIB
        raise RunError(
            f"cache: {part} cannot be written ({error.strerror}; {size / _GIB:.2f} GiB needed in "
            f"all, {free:.2f} GiB free); what is decoded so far is kept, and the next run goes on "
            "from there; make room, name another folder, or set cache: null"
        ) from error
    return places


def _lay_out(infos: list[ImageInfo]) -> tuple[list[Place], int]:
    places, offset = [], 0
    for *shape, dtype in infos:
        places.append(Place(offset, tuple(shape), dtype))
        length = math.prod(shape) * np.dtype(dtype).itemsize
        offset += -(-length // _ALIGNMENT) * _ALIGNMENT
    return places, offset


def _check_space(blob: int, part: Path, size: int) -> None:
    missing = size - os.fstat(blob).st_blocks * 512  # an unfinished blob has holes
    free = shutil.disk_usage(part).free
    if missing > free:
        raise UserError(
            f"cache: {missing / _GIB:.2f} GiB are needed in {part.parent}, but only "
            f"{free / _GIB:.2f} GiB are free on that disk; make room, name another folder, or set "
            "cache: null to decode files each time they are read"
        )


def _decode(
    blob: int, part: Path, sources: list[SourceFile], places: list[Place], size: int, raw: bool
) -> None:
    def decode(number: int) -> int:
        place, path = places[number], Path(sources[number].path)
        pixels = read_image(path, raw)
        if pixels.shape != place.shape or pixels.dtype != place.dtype:
            raise RunError(f"{path}: changed while the cache was built; start again")
        _write(blob, np.ascontiguousarray(pixels), place.offset)
        return number

    journal = _Journal(part / "journal", blob, len(sources), size)
    done = len(journal.done)
    _log.info(
        "decoding %d files into %s (%.2f GiB), once for all runs%s",
        *(len(sources), part.parent, size / _GIB),
        f"; {done} are there already" if done else "",
    )
    columns = TextColumn("decoding"), BarColumn(bar_width=28), MofNCompleteColumn()
    with Progress(
        *(*columns, TimeRemainingColumn()),
        console=progress_console(),
        disable=not shows_progress(),
        transient=True,
    ) as progress:
        task = progress.add_task("", total=len(sources), completed=done)
        todo = (number for number in range(len(sources)) if number not in journal.done)
        try:
            with closing(map_threads(decode, todo)) as finished:  # no thread outlives an error
                for number in finished:
                    journal.add(number)
                    progress.advance(task)
        finally:
            journal.commit()


class _Journal:
    """The numbers of the images whose pixels are on the disk, one per line.

    A line is written after the pixels have been forced to the disk, so each whole line can be
    trusted; one that a crash left behind unfinished is cut off.

    Args:
        path: The journal; may exist.
        blob: Descriptor of the file of pixels; is given its full ``size``.
        count: How many images there are.
        size: Bytes of all pixels.
    """

    def __init__(self, path: Path, blob: int, count: int, size: int) -> None:
        self._path, self._blob = path, blob
        self._pending: list[int] = []
        self._last = time.monotonic()
        self.done: set[int] = set()
        trusted = 0
        if path.exists() and os.fstat(blob).st_size == size:
            for line in path.read_bytes().splitlines(keepends=True):
                number = line.removesuffix(b"\n")
                if number == line or not number.isdigit() or int(number) >= count:
                    break
                self.done.add(int(number))
                trusted += len(line)
        path.touch()
        os.truncate(path, trusted)
        os.ftruncate(blob, size)

    def add(self, number: int) -> None:
        """Notes an image that has been written; every so often it is made to last."""
        self._pending.append(number)
        if time.monotonic() - self._last >= _SYNC_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Forces the pixels to the disk, then the lines that vouch for them."""
        # Forgotten first: after an error the pixels may be lost, though a second try succeeds.
        numbers, self._pending = self._pending, []
        if numbers:
            os.fsync(self._blob)
            with self._path.open("ab") as file:
                file.write(b"".join(b"%d\n" % number for number in numbers))
                file.flush()
                os.fsync(file.fileno())
        self._last = time.monotonic()


def _write(blob: int, pixels: np.ndarray, offset: int) -> None:
    view = memoryview(pixels).cast("B")
    while view:
        written = os.pwrite(blob, view, offset)  # less than asked for on a disk that fills up
        view, offset = view[written:], offset + written


def _finish(
    store: Path, part: Path, sources: list[SourceFile], places: list[Place], size: int
) -> None:
    files = [[source.path, *place] for source, place in zip(sources, places, strict=True)]
    with (part / "index.json").open("w") as file:
        json.dump({"size": size, "files": files}, file)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(part)
    part.rename(store)
    _sync_folder(store.parent)
    (store / "journal").unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Builds the cache of decoded pixels; the process may be killed at any time.

Everything is written to a folder ``….part``, which gets its final name when it is complete. A
journal lists the images whose pixels are on the disk; an interrupted build continues with the
others.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srtoolbox.data.files.image_info import ImageInfo, ReadOptions
from srtoolbox.data.files.reader import image_info, read_image
from srtoolbox.data.files.windows import WindowedImage, is_large, open_image
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import progress_bar
from srtoolbox.utils.cpu import map_threads
from srtoolbox.utils.files import sync_folder, write_synced

_log = logging.getLogger("srtoolbox")

_ALIGNMENT = 64  # bytes; the size of a cache line
_GIB = 2**30
_SYNC_SECONDS = 2.0  # between two flushes of pixels to the disk: the work that a crash may lose


class SourceFile(NamedTuple):
    """A file, with the size and time by which changes are recognised."""

    path: str
    size: int
    mtime_ns: int


class Place(NamedTuple):
    """The position of an image in the file of pixels: offset in bytes, (C, H, W), name of type."""

    offset: int
    shape: tuple[int, int, int]
    dtype: str


def build(
    store: Path,
    sources: list[SourceFile],
    options: ReadOptions,
    limit_gib: float,
    list_again: Callable[[], list[SourceFile]],
) -> list[Place]:
    """Decodes files into a folder, or completes an interrupted build. The caller holds the lock.

    Args:
        store: The folder.
        sources: The files.
        options: How the files are read.
        limit_gib: Maximum size of the pixels, in GiB.
        list_again: Returns the sources as they are at the end, to detect changes.

    Returns:
        The place of each source's pixels.

    Raises:
        UserError: as ``open_pixels``.
        RunError: if the disk fails or is full, or a source changes during the build.
    """
    infos = list(map_threads(lambda source: image_info(Path(source.path), options), sources))
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
            _decode(blob.fileno(), part, sources, places, size, options)
        if list_again() != sources:
            shutil.rmtree(part)
            raise RunError("cache: files changed while they were decoded; start again")
        _finish(store, part, sources, places, size)
    except OSError as error:
        free = shutil.disk_usage(part if part.exists() else store.parent).free / _GIB
        raise RunError(
            f"cache: {part} cannot be written ({error.strerror}; {size / _GIB:.2f} GiB needed in "
            f"all, {free:.2f} GiB free); decoded files are kept, and the next run continues from "
            "there; free some space, name another folder, or set cache: null"
        ) from error
    return places


def _lay_out(infos: list[ImageInfo]) -> tuple[list[Place], int]:
    """Places the images one after the other; also returns the total size in bytes."""
    places, offset = [], 0
    for info in infos:
        place = Place(offset, info[:3], info.dtype)
        places.append(place)
        length = math.prod(place.shape) * np.dtype(place.dtype).itemsize
        offset += -(-length // _ALIGNMENT) * _ALIGNMENT
    return places, offset


def _check_space(blob: int, part: Path, size: int) -> None:
    missing = size - os.fstat(blob).st_blocks * 512  # an incomplete file has holes
    free = shutil.disk_usage(part).free
    if missing > free:
        raise UserError(
            f"cache: {missing / _GIB:.2f} GiB are needed in {part.parent}, but only "
            f"{free / _GIB:.2f} GiB are free on that disk; free some space, name another folder, "
            "or set cache: null to decode files each time they are read"
        )


def _decode(
    blob: int,
    part: Path,
    sources: list[SourceFile],
    places: list[Place],
    size: int,
    options: ReadOptions,
) -> None:
    def decode(number: int) -> int:
        place, path = places[number], Path(sources[number].path)
        large = is_large(ImageInfo(*place.shape, place.dtype))
        image = open_image(path, options) if large else read_image(path, options)
        if image.shape != place.shape or image.dtype != place.dtype:
            raise RunError(f"{path}: changed while the cache was built; start again")
        if isinstance(image, np.ndarray):
            _write(blob, np.ascontiguousarray(image), place.offset)
        else:
            _write_strips(blob, image, place.offset)
        return number

    journal = _Journal(part / "journal", blob, len(sources), size)
    done = len(journal.done)
    _log.info(
        "decoding %d files into %s (%.2f GiB), once for all runs%s",
        *(len(sources), part.parent, size / _GIB),
        f"; {done} are already decoded" if done else "",
    )
    with progress_bar("decoding") as progress:
        progress(done, len(sources))
        todo = (number for number in range(len(sources)) if number not in journal.done)
        try:
            with closing(map_threads(decode, todo)) as finished:  # an error ends all threads
                for count, number in enumerate(finished, done + 1):
                    journal.add(number)
                    progress(count, len(sources))
        finally:
            journal.commit()


class _Journal:
    """A file with the numbers of the images whose pixels are on the disk, one per line.

    A line is written after the pixels were flushed to the disk, so every complete line is valid. A
    line that a crash left incomplete is removed.

    Args:
        path: The journal; may exist.
        blob: Descriptor of the file of pixels; it is extended to ``size``.
        count: Number of images.
        size: Size of all pixels in bytes.
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
        """Adds an image whose pixels were written; commits if the last commit is long ago."""
        self._pending.append(number)
        if time.monotonic() - self._last >= _SYNC_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Flushes the pixels to the disk, then writes their lines."""
        # Cleared first: after a failed flush, pixels may be lost although the next flush succeeds.
        numbers, self._pending = self._pending, []
        if numbers:
            os.fsync(self._blob)
            with self._path.open("ab") as file:
                file.write(b"".join(b"%d\n" % number for number in numbers))
                file.flush()
                os.fsync(file.fileno())
        self._last = time.monotonic()


def _write(blob: int, pixels: np.ndarray, offset: int) -> None:
    view = pixels.data.cast("B")
    while view:
        written = os.pwrite(blob, view, offset)  # may write only a part when the disk gets full
        view, offset = view[written:], offset + written


def _write_strips(blob: int, image: WindowedImage, offset: int) -> None:
    """Writes a large image (C, H, W) without reading it as a whole."""
    _, height, width = image.shape
    row_size = width * image.dtype.itemsize
    for top, strip in image.strips():
        for channel, rows in enumerate(strip):
            start = offset + (channel * height + top) * row_size
            _write(blob, np.ascontiguousarray(rows), start)


def index_checksum(files: list[list[Any]]) -> int:
    """Returns the checksum of the files, places and forms in an index of a cache."""
    return zlib.crc32(json.dumps(files).encode())


def _finish(
    store: Path, part: Path, sources: list[SourceFile], places: list[Place], size: int
) -> None:
    files = [[source.path, *place] for source, place in zip(sources, places, strict=True)]
    index = {"size": size, "crc32": index_checksum(files), "files": files}
    write_synced(part / "index.json", json.dumps(index))
    sync_folder(part)
    part.rename(store)
    sync_folder(store.parent)
    (store / "journal").unlink()

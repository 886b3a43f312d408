"""Decoded pixels in a memory-mapped file: training reads crops of them instead of decoding files.

A list of files gets one folder, named by a hash of their paths, sizes, times of change and of how
they are read. ``pixels.bin`` has the images (C, H, W) one after the other, ``index.json`` says
where. All runs and workers share it; ``cache_build`` makes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from srtoolbox.data.cache.build import Place, SourceFile, build
from srtoolbox.data.files.reader import image_info, read_image
from srtoolbox.errors import UserError

_log = logging.getLogger("srtoolbox")

_VERSION = 1  # of what the folder holds and of how files are decoded

PixelReader = Callable[[Path], np.ndarray]


def open_pixels(
    files: Sequence[Path], cache: Path | None, *, raw: bool = False, limit_gib: float = 200
) -> PixelReader:
    """A function that gives the pixels (C, H, W) of each of ``files``, to be read only.

    Args:
        files: What may be asked for.
        cache: Folder for decoded pixels; None decodes a file each time it is asked for.
            Otherwise the list's pixels are looked up there, or decoded now, once. If another
            process is at it, this waits; if one was interrupted, this goes on where it stopped.
        raw: As of ``read_image``.
        limit_gib: Most that the pixels of these files may take on the disk, in GiB.

    Returns:
        Views into a memory map, or fresh arrays without a cache. It can be pickled: every process
        opens the map for itself.

    Raises:
        UserError: if a file cannot be read, or the pixels need more than the limit or the disk.
        RunError: if the cache cannot be written; what was decoded so far is kept.
    """
    if cache is None:
        return partial(read_image, raw=raw)
    cache = Path(cache).absolute()
    numbers, sources = _list_sources(files, raw)
    key = json.dumps([_VERSION, raw, [list(source) for source in sources]])
    store = cache / f"pixels-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    places = _find(store, sources)
    if places is None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cache: {cache} cannot be made ({error.strerror}); name another folder"
            ) from error
        with _locked(store.with_suffix(".lock"), store):
            places = _find(store, sources)  # by now another process may have built it
            if places is None:
                if store.exists():
                    _log.warning("%s: damaged; it is built again", store)
                    shutil.rmtree(store)
                places = build(store, sources, raw, limit_gib, lambda: _list_sources(files, raw)[1])
    return _MappedPixels(
        store / "pixels.bin", {path: places[number] for path, number in numbers.items()}
    )


class _MappedPixels:
    """Views of the images in a file of decoded pixels.

    Args:
        blob: The file.
        places: Where each image lies, by the path under which it will be asked for.
    """

    def __init__(self, blob: Path, places: dict[str, Place]) -> None:
        self._blob, self._places = blob, places
        self._map: np.memmap | None = None

    def __call__(self, path: Path) -> np.ndarray:
        """The pixels (C, H, W) of a file: a view, which nobody can write to."""
        offset, shape, dtype = self._places[os.fspath(path)]
        if self._map is None:
            self._map = np.memmap(self._blob, mode="r")
        return np.ndarray(shape, dtype, buffer=self._map, offset=offset)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}  # else the pixels would be sent along


def _list_sources(files: Sequence[Path], raw: bool) -> tuple[dict[str, int], list[SourceFile]]:
    """The files that ``files`` stand for, each once, in order; and for each path which it is."""
    folders: dict[str, str] = {}
    resolved: dict[str, str] = {}
    states: dict[str, SourceFile] = {}
    for path in map(os.fspath, files):
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.join(folders[folder], name)  # noqa: PTH118 (this runs for each of 10⁵ files)
        try:
            real = os.path.realpath(real) if os.path.islink(real) else real  # noqa: PTH114
            state = os.stat(real)  # noqa: PTH116
        except OSError as error:
            image_info(Path(path), raw)  # has the better words
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        resolved[path] = real
        states[real] = SourceFile(real, state.st_size, state.st_mtime_ns)
    sources = sorted(states.values())
    order = {source.path: number for number, source in enumerate(sources)}
    return {path: order[real] for path, real in resolved.items()}, sources


def _find(store: Path, sources: list[SourceFile]) -> list[Place] | None:
    """Where the pixels of ``sources`` lie; None if they are not there, or not as they should be."""
    try:
        index = json.loads((store / "index.json").read_bytes())
        size = (store / "pixels.bin").stat().st_size
        places = [Place(offset, tuple(shape), dtype) for _, offset, shape, dtype in index["files"]]
        ends = (p.offset + math.prod(p.shape) * np.dtype(p.dtype).itemsize for p in places)
        if [path for path, *_ in index["files"]] != [source.path for source in sources]:
            return None
        return places if size == index["size"] >= max(ends, default=0) else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise UserError(f"{store}: the cache cannot be read ({error.strerror})") from error


@contextmanager
def _locked(path: Path, store: Path) -> Iterator[None]:
    """Holds a lock that dies with the process, waiting for whoever has it."""
    try:
        import fcntl
    except ImportError as error:
        raise UserError(
            "cache: this operating system lacks the file locks it needs; set cache: null"
        ) from error
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("waiting for another process, which builds %s", store)
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"cache: {path} cannot be locked ({error.strerror}); name a folder on another "
                "disk, or set cache: null"
            ) from error
        yield

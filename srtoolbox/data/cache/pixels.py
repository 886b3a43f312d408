"""Keeps decoded pixels in a memory-mapped file, so that training reads crops without decoding.

Each list of files gets one folder. Its name is a hash of the paths, sizes and modification times of
the files and of how they are read. ``pixels.bin`` contains the images (C, H, W) one after the
other, ``index.json`` their places. All runs and workers share the folder; ``build`` makes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from srtoolbox.data.cache.build import Place, SourceFile, build, index_checksum
from srtoolbox.data.files.archives import file_state, is_in_archive
from srtoolbox.data.files.image_info import PLAIN, ImageInfo, ReadOptions, fits_channels
from srtoolbox.data.files.reader import image_info
from srtoolbox.data.files.windows import open_image
from srtoolbox.errors import UserError
from srtoolbox.utils.collector import collector_paused
from srtoolbox.utils.cpu import map_threads
from srtoolbox.utils.files import acquire_lock, user_path

_log = logging.getLogger("srtoolbox")

# Of the folder's format and of how files are decoded; version 2 turns images by their tag.
_VERSION = 2

PixelReader = Callable[[Path], np.ndarray]
"""Returns the pixels (C, H, W) of a file, which must not be written to.

Without a cache, a large TIFF or JPEG 2000 file is a ``WindowedImage``, which is indexed like an
array."""


def open_pixels(
    files: Sequence[Path],
    cache: str | Path | None,
    *,
    options: ReadOptions = PLAIN,
    limit_gib: float = 200,
) -> PixelReader:
    """Returns a function that reads the pixels (C, H, W) of any of ``files``.

    Args:
        files: The files that may be read.
        cache: Folder for decoded pixels; None: a file is decoded each time it is read. With a
            folder, all files are decoded now unless they already were. If another process is
            decoding them, this waits; if one was interrupted, this continues its work.
        options: How the files are read.
        limit_gib: Maximum size of the pixels of these files on the disk, in GiB.

    Returns:
        A function that can be pickled; each process opens the memory map by itself. With a cache
        it returns read-only views, otherwise new arrays.

    Raises:
        UserError: if a file cannot be read, or the pixels exceed the limit or the free disk space.
        RunError: if the cache cannot be written; the files decoded so far are kept.
    """
    if cache is None:
        return cast("PixelReader", partial(open_image, options=options))
    cache = user_path(cache).absolute()
    numbers, sources = _list_sources(files, options)
    if (found := _find_pixels(cache, numbers, sources, options)) is not None:
        return found
    if options.any_range:
        store = _store_of_any_range(cache, sources, options)
    else:
        store = _store(cache, sources, options)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cache: {cache} cannot be created ({error.strerror}); name another folder"
        ) from error
    with _locked(store):
        places = _find(store, sources)  # another process may have built it meanwhile
        if places is None:
            if store.exists():
                _log.warning("%s: damaged; building it again", store)
                shutil.rmtree(store)
            places = build(
                store, sources, options, limit_gib, lambda: _list_sources(files, options)[1]
            )
    return CachedPixels(store, numbers, places)


@collector_paused()
def find_pixels(
    files: Sequence[Path], cache: str | Path | None, options: ReadOptions = PLAIN
) -> CachedPixels | None:
    """Returns what ``open_pixels`` returns if the cache has the pixels of all files as they are.

    No file is opened. A cache of files that changed (path, size or time of change) is not found.

    Args:
        files: As of ``open_pixels``.
        cache: Folder for decoded pixels; None: there is none.
        options: How the files are read.
    """
    if cache is None:
        return None
    try:
        numbers, sources = _list_sources(files, options)
        return _find_pixels(user_path(cache).absolute(), numbers, sources, options)
    except UserError:  # ``open_pixels`` and the check of the files report it
        return None


def _find_pixels(
    cache: Path, numbers: dict[str, int], sources: list[SourceFile], options: ReadOptions
) -> CachedPixels | None:
    """Returns the pixels of files from the cache; None if they are missing or damaged there."""
    store = _store(cache, sources, options)
    places = _find(store, sources)
    if places is None and options.any_range:
        store = _of_any_range(store)
        places = _find(store, sources)
    return None if places is None else CachedPixels(store, numbers, places)


def _store(cache: Path, sources: list[SourceFile], options: ReadOptions) -> Path:
    """Returns the folder of pixels that are read in one way."""
    values = [_VERSION, options.raw, options.convert, [list(source) for source in sources]]
    # Options that change nothing of grey and RGB files leave the name as it always was.
    nodata = float(options.nodata) if isinstance(options.nodata, int) else options.nodata
    more: dict[str, Any] = {"bands": options.bands, "nodata": nodata}
    more["alpha"] = options.keeps_alpha or None
    more = {name: value for name, value in more.items() if value is not None}
    key = json.dumps([*values, more] if more else values)
    return cache / f"pixels-{hashlib.sha256(key.encode()).hexdigest()[:24]}"


def _store_of_any_range(cache: Path, sources: list[SourceFile], options: ReadOptions) -> Path:
    """Returns the folder of pixels of any range; it differs only if there are such pixels.

    Others must not find int16 or floats that were not checked.
    """
    store = _store(cache, sources, options)
    infos = map_threads(lambda source: image_info(Path(source.path), options), sources)
    if all(info.dtype in ("uint8", "uint16") for info in infos):
        return store
    return _of_any_range(store)


def _of_any_range(store: Path) -> Path:
    return store.with_name(f"{store.name}-any")


class CachedPixels:
    """Reads images from a folder of decoded pixels; a ``PixelReader``.

    Args:
        store: The folder.
        numbers: The number of each image, by the path under which it is requested.
        places: The places of the images.
    """

    def __init__(self, store: Path, numbers: dict[str, int], places: list[Place]) -> None:
        self._blob = store / "pixels.bin"
        self._places = {path: places[number] for path, number in numbers.items()}
        self._map: np.memmap | None = None

    def infos(self, paths: Sequence[Path], options: ReadOptions) -> dict[Path, ImageInfo]:
        """Returns the forms of images as they are read, without those that do not suit ``options``.

        Options that change no pixel share a cache, although they allow other numbers of channels.
        ``orientation`` and ``nodata`` of the forms have their defaults.

        Args:
            paths: Some of the files.
            options: How they are read.
        """
        known: dict[tuple[tuple[int, int, int], str], ImageInfo] = {}  # most images are alike
        found = {}
        for path in paths:
            _, shape, dtype = self._places[os.fspath(path)]
            if (info := known.get((shape, dtype))) is None:
                info = known[shape, dtype] = ImageInfo(*shape, dtype)
            found[path] = info
        suited = {info for info in known.values() if fits_channels(info, options)}
        return {path: info for path, info in found.items() if info in suited}

    def __call__(self, path: Path) -> np.ndarray:
        """Returns a read-only view of the pixels (C, H, W) of a file."""
        offset, shape, dtype = self._places[os.fspath(path)]
        if self._map is None:
            self._map = np.memmap(self._blob, mode="r")
        return np.ndarray(shape, dtype, buffer=self._map, offset=offset)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}  # a memory map would be pickled with its pixels


def _list_sources(
    files: Sequence[Path], options: ReadOptions
) -> tuple[dict[str, int], list[SourceFile]]:
    """Resolves links; returns the number of each path's file, and the files in sorted order."""
    folders: dict[str, str] = {}
    resolved: dict[str, str] = {}
    states: dict[str, SourceFile] = {}
    for path in map(os.fspath, files):
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.join(folders[folder], name)  # noqa: PTH118 (this runs for each of 10⁵ files)
        try:
            try:
                state = os.lstat(real)
                if stat.S_ISLNK(state.st_mode):
                    real = os.path.realpath(real)
                    state = os.stat(real)  # noqa: PTH116
                size, mtime_ns = state.st_size, state.st_mtime_ns
            except OSError:  # an image in an archive has no file of its own
                if not is_in_archive(Path(real)):  # the archive is a link to a name without suffix
                    real = os.fspath(Path(path).absolute())
                size, mtime_ns = file_state(real)
        except OSError as error:
            image_info(Path(path), options)  # raises an error with a better message
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        resolved[path] = real
        states[real] = SourceFile(real, size, mtime_ns)
    sources = sorted(states.values())
    order = {source.path: number for number, source in enumerate(sources)}
    return {path: order[real] for path, real in resolved.items()}, sources


def _find(store: Path, sources: list[SourceFile]) -> list[Place] | None:
    """Returns the places of the pixels of ``sources``; None if they are missing or damaged."""
    try:
        index = json.loads((store / "index.json").read_bytes())
        size = (store / "pixels.bin").stat().st_size
        places = [Place(offset, tuple(shape), dtype) for _, offset, shape, dtype in index["files"]]
        sizes = {dtype: np.dtype(dtype).itemsize for dtype in {place.dtype for place in places}}
        ends = (p.offset + math.prod(p.shape) * sizes[p.dtype] for p in places)
        if [path for path, *_ in index["files"]] != [source.path for source in sources]:
            return None
        # A cache that an earlier version of the package wrote has no checksum.
        if "crc32" in index and index["crc32"] != index_checksum(index["files"]):
            return None
        return places if size == index["size"] >= max(ends, default=0) else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise UserError(f"{store}: the cache cannot be read ({error.strerror})") from error


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Holds the lock of a folder of pixels; waits while another process holds it."""
    path = store.with_suffix(".lock")
    try:
        handle = acquire_lock(
            path, on_wait=lambda: _log.info("waiting for another process, which builds %s", store)
        )
    except OSError as error:
        raise UserError(
            f"cache: {path} cannot be locked ({error.strerror}); name a folder on another disk, or "
            "set cache: null"
        ) from error
    try:
        yield
    finally:
        os.close(handle)  # releases the lock

"""Shows the images in LMDB folders and HDF5 files as files in folders.

BasicSR stores a set of images as the folder ``NAME.lmdb``: ``data.mdb`` has the encoded images by
their keys, ``meta_info.txt`` a line ``key.png (height,width,channels) level`` for each of them.
``div2h5.py`` of CARN and of DSRNet stores arrays (H, W, C) in the groups ``HR``, ``X2``, … of an
HDF5 file. The path of an entry is the path of the archive, its key, and a suffix:
``DIV2K_HR_sub.lmdb/0001_s001.png``, ``DIV2K_train.h5/HR/0.npy``. The keys ``000_00000000`` of REDS
and ``00001_0001_4`` of Vimeo-90K in older files are shown as frames in folders of clips.

Reading needs lmdb (extra ``[lmdb]``) or h5py (extra ``[hdf5]``).
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from srtoolbox.data.files.image_info import ImageFault
from srtoolbox.errors import UserError
from srtoolbox.utils.console import warn_once

_LMDB, _HDF5 = ".lmdb", (".h5", ".hdf5")
_ENCODED = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp"})  # formats of entries
_META, _DATA = "meta_info.txt", "data.mdb"
_META_LINE = re.compile(r"(?P<name>\S.*?\.\w+)(?: \((\d+), ?(\d+), ?(\d+)\)(?: \d+)?)?")
# Keys of older files of REDS and Vimeo-90K: the folders of a frame are joined by underscores.
_FLAT = (
    (re.compile(r"(\d{3})_(\d{8})"), r"\1/\2"),
    (re.compile(r"(\d{5})_(\d{4})_(?:im)?(\d)"), r"\1/\2/im\3"),
)

_State = tuple[int, int, int]  # size and time of an archive's file, and which file it is
_Shape = tuple[int, ...]


class _Key(NamedTuple):
    """An entry: its key in the archive, and (H, W, C) if the list of entries states it."""

    key: str
    shape: _Shape | None


class _Place(NamedTuple):
    """A path in an archive: the archive and the names below it, joined by slashes."""

    archive: Path
    name: str

    @property
    def is_lmdb(self) -> bool:
        return self.archive.suffix.lower() == _LMDB

    @property
    def file(self) -> Path:
        """The file that contains the pixels."""
        return self.archive / _DATA if self.is_lmdb else self.archive

    @property
    def state(self) -> _State:
        return _state(self.file)


@dataclass(frozen=True)
class _Folder:
    """The folders and entries at one place of an archive, by name."""

    folders: dict[str, _Folder]
    entries: dict[str, _Key]

    def find(self, name: str) -> _Folder | _Key | None:
        """Returns the folder or entry at a path; None if there is none."""
        here: _Folder | _Key | None = self
        for part in filter(None, name.split("/")):
            if not isinstance(here, _Folder):
                return None
            here = here.folders.get(part) or here.entries.get(part)
        return here


class ArchiveEntry:
    """A folder or an image in an archive, with the methods of ``os.DirEntry`` that a search needs.

    Args:
        folder: Path of the folder that contains it.
        name: Its name.
        is_folder: Whether it is a folder.
    """

    def __init__(self, folder: str, name: str, is_folder: bool) -> None:
        self.name, self.path, self._is_folder = name, f"{folder}/{name}", is_folder

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Returns whether it is a folder."""
        return self._is_folder

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Returns whether it is an image."""
        return not self._is_folder


def is_in_archive(path: Path) -> bool:
    """Returns whether a path is an archive or lies in one."""
    return _place(path) is not None


def is_folder(path: Path) -> bool:
    """Returns whether a path is a folder, an archive, or a folder in an archive.

    Raises:
        UserError: if the archive cannot be listed.
    """
    place = _place(path)
    return path.is_dir() if place is None else isinstance(_find(place), _Folder)


def scan_folder(folder: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    """Returns the entries of a folder, as ``os.scandir``; also of one in an archive.

    Raises:
        UserError: if the archive cannot be listed.
        OSError: as ``os.scandir``.
    """
    place = _place(Path(folder))
    return os.scandir(folder) if place is None else _entries(folder, place)


def stored_in(path: str | Path) -> str | Path:
    """Returns the file that contains an image: the path itself; for one in an archive, the archive.

    Raises:
        UserError: if the archive cannot be listed.
    """
    place = _place(path)
    return place.file if place is not None and isinstance(_find(place), _Key) else path


def file_state(path: str | Path) -> tuple[int, int]:
    """Returns size (bytes) and time (ns) of a file; for an image in an archive, of the archive.

    Raises:
        OSError: if there is no such file.
    """
    state = os.stat(stored_in(path))  # noqa: PTH116 (this runs for each of 10⁵ files)
    return state.st_size, state.st_mtime_ns


def in_lmdb(path: Path) -> bool:
    """Returns whether a path is an image in an LMDB folder."""
    place = _place(path)
    return place is not None and place.is_lmdb and isinstance(_find(place), _Key)


@contextmanager
def open_encoded(path: Path) -> Iterator[BinaryIO]:
    """Opens an image file, or an image in an LMDB folder, to read its bytes.

    Raises:
        ImageFault: if the archive is damaged or lacks the entry.
        OSError: if the file cannot be opened.
    """
    place = _place(path)
    entry = None if place is None or not place.is_lmdb else _find(place)
    if place is None or not isinstance(entry, _Key):
        with path.open("rb", buffering=0) as file:
            yield cast("BinaryIO", file)
        return
    with _value(place, path, entry.key) as value:
        yield cast("BinaryIO", _Value(value))


@contextmanager
def image_source(path: Path) -> Iterator[Path | BinaryIO]:
    """Gives what Pillow opens: the path of a file, or the bytes of an image in an LMDB folder."""
    if in_lmdb(path):
        with open_encoded(path) as file:
            yield file
    else:
        yield path


def stated_shape(path: Path) -> tuple[int, ...] | None:
    """Returns (H, W, C) of an image in an LMDB folder as its ``meta_info.txt`` states it, or None.

    The number of channels is that of the file that the entry was made from.
    """
    place = _place(path)
    entry = None if place is None or not place.is_lmdb else _find(place)
    return entry.shape if isinstance(entry, _Key) else None


def open_array(path: Path) -> tuple[tuple[int, ...], np.dtype, Callable[[], np.ndarray]] | None:
    """Opens an array in an HDF5 file; None if the path is none.

    Returns:
        Its shape, its type, and a function that reads its values.

    Raises:
        ImageFault: if the file is damaged.
    """
    place = _place(path)
    entry = None if place is None or place.is_lmdb else _find(place)
    if place is None or not isinstance(entry, _Key):
        return None
    with _hdf5(place.archive) as file:
        array = file[entry.key]
        return array.shape, array.dtype, lambda: _read_array(place.archive, entry.key)


def _read_array(archive: Path, key: str) -> np.ndarray:
    with _hdf5(archive) as file:
        return file[key][()]


def _place(path: str | Path) -> _Place | None:
    """Returns the place of a path that is an archive or in an archive; None for other paths."""
    text = os.fspath(path)
    lower = text.lower()
    if _LMDB not in lower and not any(suffix in lower for suffix in _HDF5):
        return None
    path = Path(text)
    for archive in (path, *path.parents):
        suffix = archive.suffix.lower()
        is_archive = (suffix == _LMDB and (archive / _DATA).is_file()) or (
            suffix in _HDF5 and archive.is_file()
        )
        if is_archive:
            name = path.relative_to(archive).as_posix()
            return _Place(archive, "" if name == "." else name)
    return None


def _find(place: _Place) -> _Folder | _Key | None:
    listing = _list_lmdb if place.is_lmdb else _list_hdf5
    return listing(place.archive, place.state, _meta_state(place)).find(place.name)


def _meta_state(place: _Place) -> _State | None:
    """Returns size and time of ``meta_info.txt``; None if there is none."""
    try:
        return _state(place.archive / _META)
    except OSError:
        return None


def _state(file: Path) -> _State:
    state = file.stat()
    return state.st_size, state.st_mtime_ns, state.st_ino


@contextmanager
def _entries(folder: str, place: _Place) -> Iterator[Iterator[Any]]:
    found = _find(place)
    if found is None:
        raise FileNotFoundError(folder)
    if not isinstance(found, _Folder):
        raise NotADirectoryError(folder)
    names = [(name, True) for name in found.folders] + [(name, False) for name in found.entries]
    yield (ArchiveEntry(folder, name, is_folder) for name, is_folder in names)


def _tree(archive: Path, entries: Mapping[str, _Key]) -> _Folder:
    """Returns the folders that the names of entries, such as ``000/00000000.png``, describe."""
    root = _Folder({}, {})
    for name, entry in entries.items():
        *folders, last = name.split("/")
        if "\\" in name or {"", ".", ".."} & {*folders, last}:
            raise UserError(f"{archive}: the key {entry.key!r} is no path; rename it")
        here = root
        for folder in folders:
            here = here.folders.setdefault(folder, _Folder({}, {}))
        here.entries[last] = entry
    return root


# LMDB


@lru_cache(maxsize=32)
def _list_lmdb(archive: Path, state: _State, meta_state: _State | None) -> _Folder:
    """Returns the images of an LMDB folder: those in ``meta_info.txt``, without it all keys."""
    if meta_state is None:
        with _transaction(archive, archive) as transaction:
            keys = [_text(archive, key) for key in transaction.cursor().iternext(values=False)]
        suffixed = (key if Path(key).suffix.lower() in _ENCODED else f"{key}.png" for key in keys)
        found = {name: _Key(key, None) for name, key in zip(suffixed, keys, strict=True)}
    else:
        found = _read_meta(archive)
        _check_keys(archive, {entry.key for entry in found.values()})
    return _tree(archive, _unflattened(found))


def _unflattened(found: dict[str, _Key]) -> dict[str, _Key]:
    """Returns frames of REDS and Vimeo-90K whose keys are flat by names with folders."""
    for pattern, path in _FLAT:
        stems = {name: name.rpartition(".")[::2] for name in found}
        matches = {name: pattern.fullmatch(stem) for name, (stem, _) in stems.items()}
        if found and all(matches.values()):
            return {
                f"{match.expand(path)}.{stems[name][1]}": found[name]
                for name, match in matches.items()
                if match is not None
            }
    return found


def _read_meta(archive: Path) -> dict[str, _Key]:
    """Reads ``meta_info.txt``; returns the keys by the names of their images."""
    path = archive / _META
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from error
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _META_LINE.fullmatch(line.strip())
        if match is None:
            raise UserError(
                f"{path}, line {number}: expected 'key.png (height,width,channels) level', got "
                f"{line[:80]!r}"
            )
        name, sizes = match["name"], match.groups()[1:]
        shape = None if None in sizes else tuple(map(int, sizes))
        found[name] = _Key(name.rpartition(".")[0], shape)
    return found


def _check_keys(archive: Path, listed: set[str]) -> None:
    """Raises a UserError if an LMDB folder and its list do not have the same keys."""
    with _transaction(archive, archive) as transaction:
        if transaction.stat()["entries"] == len(listed):
            return  # each listed key is looked up when it is read
        keys = {_text(archive, key) for key in transaction.cursor().iternext(values=False)}
    if extra := sorted(keys - listed):
        raise UserError(
            f"{archive}: {_META} does not list {len(extra)} of {len(keys)} keys, such as "
            f"{extra[0]!r}; make it again, or remove {_META} to read all keys"
        )
    absent = sorted(listed - keys)
    raise UserError(
        f"{archive}: {len(absent)} of {len(listed)} keys that {_META} lists do not exist, such as "
        f"{absent[0]!r}; make it again, or remove {_META} to read all keys"
    )


def _text(archive: Path, key: Any) -> str:
    try:
        return bytes(key).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{archive}: the key {bytes(key)!r} is no UTF-8 text") from error


class _Opened:
    """An opened LMDB folder.

    Args:
        state: State of its file when it was opened.
        environment: It has no locks and writes nothing, so all threads may read by it.
    """

    def __init__(self, state: _State, environment: Any) -> None:
        self.state, self.environment = state, environment
        self.readers = 0


class _Environments:
    """The LMDB folders that this process has opened, each once, as LMDB requires.

    A folder whose file was replaced is opened again as soon as no thread reads from it: closing
    it takes the memory away that its images are read from.
    """

    def __init__(self) -> None:
        self._opened: dict[Path, _Opened] = {}
        self._changed = threading.Condition()
        self._of_thread = threading.local()

    @contextmanager
    def reading(self, archive: Path, path: Path) -> Iterator[Any]:
        """Gives the environment of a folder for reading; ``path`` begins the message of an error.

        Raises:
            ImageFault: if it is damaged, or was changed within the block.
        """
        real = archive.resolve()  # a link may lead to a folder without the suffix
        held: dict[Path, _Opened] = self._of_thread.__dict__.setdefault("held", {})
        if (outer := held.get(real)) is not None:
            yield outer.environment
            return
        opened = held[real] = self._acquire(real, archive, path)
        try:
            yield opened.environment
        finally:
            del held[real]
            with self._changed:
                opened.readers -= 1
                self._changed.notify_all()
        if _state(real / _DATA) != opened.state:
            raise ImageFault(
                f"{path}: {_DATA} was changed while it was read; start again, and do not change a "
                "dataset that is in use",
                "changed archive",
            )

    def _acquire(self, real: Path, archive: Path, path: Path) -> _Opened:
        with self._changed:
            while True:
                state = _state(real / _DATA)
                opened = self._opened.get(real)
                if opened is None:
                    opened = self._opened[real] = _Opened(state, _open_lmdb(real, path, state[0]))
                if opened.state == state:
                    opened.readers += 1
                    return opened
                if opened.readers:
                    self._changed.wait()
                    continue
                warn_once(
                    f"{archive}: {_DATA} was changed after this process had read from it; the new "
                    "images are read from now on"
                )
                self._close(real)

    def _close(self, real: Path) -> None:
        self._opened.pop(real).environment.close()

    def after_fork(self) -> None:
        """Forgets what the parent process had opened, and which of its threads were reading."""
        for real in list(self._opened):
            self._close(real)
        self.__init__()


def _open_lmdb(real: Path, path: Path, size: int) -> Any:
    import lmdb

    try:
        opened = lmdb.open(str(real), readonly=True, lock=False, create=False, readahead=False)
    except lmdb.Error as error:
        raise ImageFault(f"{path}: {_DATA} is damaged ({error})", "damaged archive") from error
    pages, page = opened.info()["last_pgno"] + 1, opened.stat()["psize"]
    if size < pages * page:  # reading beyond the end of the file would end the process
        opened.close()
        raise ImageFault(
            f"{path}: {_DATA} is cut off: {size} of {pages * page} bytes; copy it again",
            "damaged archive",
        )
    return opened


_environments = _Environments()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_environments.after_fork)


@contextmanager
def _transaction(archive: Path, path: Path) -> Iterator[Any]:
    """Opens an LMDB folder for reading; ``path`` begins the message of an error."""
    try:
        import lmdb
    except ImportError:
        text = f'{archive}: LMDB folders need lmdb; pip install "srtoolbox[lmdb]"'
        raise ImageFault(text, "lmdb missing") from None
    with _environments.reading(archive, path) as environment:
        try:
            with environment.begin(buffers=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            text = f"{path}: {_DATA} is damaged ({error}); make it again"
            raise ImageFault(text, "damaged archive") from error


@contextmanager
def _value(place: _Place, path: Path, key: str) -> Iterator[memoryview]:
    """Gives the bytes of a key, which are valid within the block."""
    with _transaction(place.archive, path) as transaction:
        value = transaction.get(key.encode())
        if value is None:
            raise ImageFault(
                f"{path}: {_META} lists the key {key!r}, but {_DATA} does not have it; make the "
                "LMDB folder again",
                "missing key",
            )
        yield memoryview(value)


class _Value(io.RawIOBase):
    """Reads bytes in memory as a file, without a copy of all of them."""

    def __init__(self, value: memoryview) -> None:
        super().__init__()
        self._value, self._at = value, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._value)}[whence]
        if start + offset < 0:
            raise ValueError(f"negative place {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        part = self._value[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def readall(self) -> bytes:
        part = bytes(self._value[self._at :])
        self._at += len(part)
        return part


# HDF5


@lru_cache(maxsize=32)
def _list_hdf5(archive: Path, state: _State, meta_state: _State | None) -> _Folder:
    """Returns the arrays of an HDF5 file; links to other files are not followed."""
    keys: list[str] = []

    with _hdf5(archive) as file:
        import h5py

        def add(key: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset):
                keys.append(key)

        file.visititems(add)
    found: dict[str, _Key] = {}
    for key in keys:
        path = PurePosixPath(key)
        stem = path.with_suffix("") if path.suffix.lower() in {*_ENCODED, ".npy"} else path
        if (first := found.get(f"{stem}.npy")) is not None:
            raise UserError(
                f"{archive}: the keys {first.key!r} and {key!r} differ in their suffix only; "
                "rename one"
            )
        found[f"{stem}.npy"] = _Key(key, None)
    return _tree(archive, found)


@contextmanager
def _hdf5(archive: Path) -> Iterator[Any]:
    """Opens an HDF5 file for reading."""
    try:
        import h5py
    except ImportError:
        text = f'{archive}: HDF5 files need h5py; pip install "srtoolbox[hdf5]"'
        raise ImageFault(text, "h5py missing") from None
    try:
        with h5py.File(archive, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        reason = " ".join(str(error).split())[:120]
        raise ImageFault(
            f"{archive}: a damaged HDF5 file, or none ({reason}); make or copy it again",
            "damaged archive",
        ) from error

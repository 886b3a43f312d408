"""Identifies test sets by the content of their files; each file is read once until it changes."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from srtoolbox.config.files import plain
from srtoolbox.data.base import EvalDataset, dataset_info
from srtoolbox.data.files.archives import stored_in
from srtoolbox.engine.build import own_code
from srtoolbox.utils.console import size_text, warn_once
from srtoolbox.utils.cpu import map_threads
from srtoolbox.utils.environment import digest
from srtoolbox.utils.files import sha256_of, write_atomic

_log = logging.getLogger("srtoolbox")

# Options of datasets that locate files or speed up reading and training; the files are hashed
# instead.
_LOCATION_OPTIONS = (
    "dataroot",
    "dataroot_gt",
    "dataroot_lq",
    "dataroot_mask",
    "meta_info_file",
    "cache",
    "cache_limit",
    "on_device",
)
_LARGE = 2**30  # bytes; reading more is announced
# A file that changed within these seconds may change again without another time of change.
_SETTLED = 2.0

_State = tuple[int, ...]  # size, times of the last changes of content and of facts (ns)


class FileHashes:
    """SHA-256 of files, which are read again only if size or times changed.

    The time of the last change of facts (ctime) counts beside that of content (mtime): archives
    and copies may give other pixels of the same size the same mtime, but not the same ctime, which
    only the file system sets. The inode does not count: nodes of a cluster may see others. Where
    they also see other times, they read the files again.

    At the end of ``with`` they are stored, also after an error: a mistake in an option must not
    cost reading all files again.

    Args:
        file: The hashes that earlier commands stored; it may be missing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = _read(file)
        self._used: dict[str, tuple[str, int]] = {}  # by this command
        self._unsettled: set[str] = set()
        self._is_changed = False

    def __enter__(self) -> FileHashes:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # whoever writes the study names a folder that is read-only
            self.save()

    def of(self, paths: Sequence[Path]) -> list[tuple[str, int]]:
        """Returns hash and size (bytes) of each file; for an image in an archive, of the archive.

        They stay as they are at the first call for a file.

        Raises:
            OSError: if a file cannot be read.
        """
        files = [os.path.abspath(stored_in(path)) for path in paths]  # noqa: PTH100 (10⁵ files)
        new = [file for file in dict.fromkeys(files) if file not in self._used]
        states = {file: _state(file) for file in new}
        changed = [file for file, state in states.items() if not self._knows(file, state)]
        if (size := sum(states[file][0] for file in changed)) > _LARGE:
            _log.info("reading %s of test sets, to identify their content", size_text(size))
        now = time.time_ns()

        def read(file: str) -> None:
            self._known[file] = states[file], sha256_of(Path(file))
            self._is_changed = True
            if now - max(states[file][1:]) < _SETTLED * 1e9:
                self._unsettled.add(file)

        for _ in map_threads(read, changed):
            pass
        for file, state in states.items():
            self._used[file] = self._known[file][1], state[0]
        return [self._used[file] for file in files]

    def save(self) -> None:
        """Stores the hashes, also those of earlier commands whose files still exist.

        Raises:
            OSError: if they cannot be written.
        """
        if not self._is_changed:
            return
        kept = {
            file: [*state, found]
            for file, (state, found) in self._known.items()
            if file not in self._unsettled and (file in self._used or Path(file).exists())
        }
        if kept:
            write_atomic(self._file, json.dumps(kept, indent=0))
        self._is_changed = False

    def _knows(self, file: str, state: _State) -> bool:
        return file in self._known and self._known[file][0] == state


def content_of(
    spec: Mapping[str, Any], data: EvalDataset, hashes: FileHashes
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what decides the samples of a test set, without the folders of its files.

    Args:
        spec: The options of the dataset.
        data: The dataset.
        hashes: Knows the content of files.

    Returns:
        Its options, with names and content of its files instead of their places, and the code of
        users' own components; and the same with sizes instead of content and without code, as
        earlier versions identified it.

    Raises:
        OSError: if a file cannot be read.
    """
    options, list_paths = plain(spec), dataset_info(data).paths
    own = {"own_code": code} if (code := own_code([("dataset", spec)])) else {}
    if list_paths is None:
        return {**options, **own}, options
    paths = list_paths()
    found = list(zip(paths, hashes.of(paths), strict=True))
    kept = {key: value for key, value in options.items() if key not in _LOCATION_OPTIONS}
    files = sorted([path.parent.name, path.name, content] for path, (content, _) in found)
    sizes = sorted([path.parent.name, path.name, size] for path, (_, size) in found)
    return {**kept, **own, "files": digest(files)}, {**kept, "files": digest(sizes)}


def _state(file: str) -> _State:
    status = os.stat(file)  # noqa: PTH116 (this runs for each of 10⁵ files)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(file: Path) -> dict[str, tuple[_State, str]]:
    """Returns the stored states and hashes; none if the file is missing or damaged."""
    try:
        content = json.loads(file.read_bytes())
        # Earlier versions stored the inode too.
        return {n: (tuple(map(int, state[:3])), str(sha)) for n, (*state, sha) in content.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, RecursionError):
        warn_once(f"{file} damaged; the files of the test sets are read again")
        return {}

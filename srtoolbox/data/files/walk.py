"""Finding the files that match a template of a layout.

Only the folders that the template names are looked into, each once, so that 300,000 files take a
few seconds and a symbolic link to a folder above itself leads nowhere.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from srtoolbox.data.files.reader import IMAGE_SUFFIXES
from srtoolbox.data.layouts.base import Files

_PLACEHOLDER = re.compile(r"\{(clip|frame|stem|any)\}")


@dataclass(frozen=True)
class Fault:
    """Something wrong with a file or folder of a dataset.

    Args:
        path: The file or folder.
        kind: A few words by which faults can be sorted: "missing partner", "symlink loop", …
        text: One line for the user: what is wrong, and what to do.
    """

    path: Path
    kind: str
    text: str


class Found(NamedTuple):
    """A file, the item it belongs to, and what it is called among that item's frames."""

    key: str
    frame: str
    path: str


def natural(text: str) -> tuple:
    """A sort key by which frame 9 comes before frame 10."""
    parts = re.split(r"(\d+)", text)
    return (*(int(part) if i % 2 else part for i, part in enumerate(parts)), text)


def walk(
    files: Files,
    root: Path,
    scale: int,
    faults: list[Fault],
    wanted: Callable[[str], bool] = lambda key: True,
    keys: Sequence[str] | None = None,
) -> Iterator[Found]:
    """The files that a template describes, in no particular order.

    Args:
        files: The template.
        root: What its folder is relative to.
        scale: What ``{scale}`` stands for.
        faults: Receives what is wrong with the folders and links on the way.
        wanted: Tells by the name of an item whether it is asked for.
        keys: Names of items, if they are known beforehand: no other clip folder is then looked at.
    """
    levels = [level for level in files.folder.split("/") if level]
    search = _Search(levels, files.name, scale, faults, wanted)
    if keys is None or "{clip}" not in levels:
        yield from search.descend(str(root), 0, ())
        return
    for key in keys:
        parts = key.split("/")
        if levels.count("{clip}") == len(parts):
            left = iter(parts)
            search.levels = [next(left) if level == "{clip}" else level for level in levels]
            yield from search.descend(str(root), 0, tuple(parts))


def split_fixed(files: Files, scale: int) -> tuple[str, Files]:
    """The folder that a template surely begins with, and the template from there on."""
    levels = [level for level in files.folder.split("/") if level]
    fixed = list(takewhile(lambda level: not _PLACEHOLDER.search(level), levels))
    rest = "/".join(levels[len(fixed) :])
    return "/".join(fixed).replace("{scale}", str(scale)), Files(rest, files.name)


def fill(files: Files, scale: int, key: str, frame: str = "*") -> str:
    """The path, from the root, that a file of an item has; ``*`` where it may be anything."""
    values = {"{scale}": str(scale), "{stem}": key, "{frame}": frame, "{any}": "*"}
    folder = files.folder
    for part in key.split("/"):
        folder = folder.replace("{clip}", part, 1)
    path = f"{folder}/{files.name}.*".lstrip("/").replace("{clip}", key.rpartition("/")[2])
    for placeholder, value in values.items():
        path = path.replace(placeholder, value)
    return path


class _Search:
    """A walk down the levels of a template."""

    def __init__(
        self,
        levels: list[str],
        name: str,
        scale: int,
        faults: list[Fault],
        wanted: Callable[[str], bool],
    ) -> None:
        self.scale, self.faults, self.wanted = scale, faults, wanted
        self.levels: list[str] = levels
        self.num_clip = "/".join(levels).count("{clip}")
        self.name = self._compile(name)

    def descend(
        self, folder: str, depth: int, clips: tuple[str, ...], frame: str = ""
    ) -> Iterator[Found]:
        """Everything below ``folder``, which is at level ``depth``."""
        if self.num_clip and len(clips) == self.num_clip and not self.wanted("/".join(clips)):
            return
        if depth == len(self.levels):
            yield from self._files(folder, clips, frame)
            return
        level = self.levels[depth]
        if not _PLACEHOLDER.search(level):
            below = f"{folder}/{level.replace('{scale}', str(self.scale))}"
            if not self._is_loop(below):
                yield from self.descend(below, depth + 1, clips, frame)
            return
        pattern = self._compile(level)
        for entry in self._entries(folder):
            match = pattern.fullmatch(entry.name)
            if match and self._is_folder(entry):
                group = match.groupdict()
                inner = (*clips, group["clip"]) if "clip" in group else clips
                yield from self.descend(entry.path, depth + 1, inner, group.get("frame", frame))

    def _files(self, folder: str, clips: tuple[str, ...], frame: str) -> Iterator[Found]:
        for entry in self._entries(folder):
            stem, _, suffix = entry.name.rpartition(".")
            if f".{suffix.lower()}" not in IMAGE_SUFFIXES:
                continue
            match = self.name.fullmatch(stem)
            if not match:
                continue
            group = match.groupdict()
            if clips and group.get("clip", clips[-1]) != clips[-1]:
                continue
            key = "/".join(clips) or group.get("clip") or group.get("stem") or stem
            if self.wanted(key) and self._is_file(entry):
                yield Found(key, group.get("frame", frame), entry.path)

    def _compile(self, template: str) -> re.Pattern[str]:
        template = template.replace("{scale}", str(self.scale))
        pieces = _PLACEHOLDER.split(template)
        return re.compile(
            "".join(
                re.escape(piece) if i % 2 == 0 else ".+" if piece == "any" else f"(?P<{piece}>.+)"
                for i, piece in enumerate(pieces)
            )
        )

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                # Hidden files are the file system's: "._0001.png" holds no image.
                yield from (entry for entry in entries if not entry.name.startswith("."))
        except FileNotFoundError:
            return
        except OSError as error:
            self._report(folder, error)

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_dir() and not self._is_loop(entry.path)
        except OSError as error:
            self._report(entry.path, error)
            return False

    def _is_file(self, entry: os.DirEntry[str]) -> bool:
        try:
            if entry.is_file():
                return True
            if entry.is_dir():
                self._add(entry.path, "not a file", "is a folder where an image should be")
            else:
                self._add(entry.path, "broken link", "leads to no file; mend or remove the link")
        except OSError as error:
            self._report(entry.path, error)
        return False

    def _is_loop(self, path: str) -> bool:
        """Whether a path is a link to a folder that it lies in."""
        if not Path(path).is_symlink():
            return False
        here, target = os.path.realpath(Path(path).parent), os.path.realpath(path)
        if not f"{here}/".startswith(f"{target}/"):
            return False
        self._add(path, "symlink loop", f"links to {target}, which it lies in; remove the link")
        return True

    def _report(self, path: str, error: OSError) -> None:
        if error.errno == errno.ELOOP:
            self._add(path, "symlink loop", "links to itself; remove the link")
        elif isinstance(error, NotADirectoryError):
            self._add(path, "not a folder", "is a file where a folder should be")
        elif isinstance(error, PermissionError):
            self._add(path, "unreadable folder", "may not be read; change its permissions")
        else:
            self._add(path, "unreadable folder", f"cannot be read ({error.strerror})")

    def _add(self, path: str, kind: str, text: str) -> None:
        self.faults.append(Fault(Path(path), kind, text))

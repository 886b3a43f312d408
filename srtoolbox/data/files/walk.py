"""Finds the files that match a template of a layout.

Only the folders that the template names are opened, each once, so that 300,000 files take a few
seconds. A symbolic link to a folder that contains the link is reported and not followed.
"""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from srtoolbox.data.files.archives import scan_folder
from srtoolbox.data.files.reader import IMAGE_SUFFIXES
from srtoolbox.errors import UserError

_PLACEHOLDER = re.compile(r"\{(clip|frame|stem|any|-any)\}")
_ANY_PLACEHOLDER = re.compile(r"\{(clip|frame|stem|any|-any|scale)\}")

_LINE_BREAK = "line-break name"
# Files that describe a dataset; nobody expects them to be read as images.
_TEXT_SUFFIXES = frozenset({".txt", ".md", ".json", ".jsonl", ".csv", ".yml", ".yaml", ".pdf"})


@dataclass(frozen=True)
class Fault:
    """A problem with a file or folder of a dataset.

    Args:
        path: The file or folder.
        kind: A few words by which faults are grouped: "missing partner", "symlink loop", …
        text: One line for the user: what is wrong, and what to do.
    """

    path: Path
    kind: str
    text: str


class FoundFile(NamedTuple):
    """A file, the name of its item, and the name of its frame within the item."""

    key: str
    frame: str
    path: str


class LeftOut:
    """Collects what a search leaves out, by kind."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}

    def add(self, path: str, kind: str) -> None:
        """Adds a file or folder, once."""
        self._kinds[path] = kind

    def update(self, other: LeftOut) -> None:
        """Adds everything that another search left out."""
        self._kinds |= other._kinds

    def clause(self) -> str:
        """Returns ``"; left out: …"`` for the end of a message; empty if there is nothing."""
        text = self.describe()
        return f"; left out: {text}" if text else ""

    def describe(self) -> str | None:
        """Returns a line with the number of each kind and an example; None if there is nothing."""
        if not self._kinds:
            return None
        counts = Counter(self._kinds.values())
        shown = []
        for kind, count in sorted(counts.items()):
            example = min(path for path, found in self._kinds.items() if found == kind)
            words = kind if count == 1 else f"{kind}s"
            shown.append(f"{count} {words} ({Path(example).name!r}{', …' if count > 1 else ''})")
        return ", ".join(shown)


def _kind(entry: os.DirEntry[str], stem: str, suffix: str) -> str:
    try:
        if entry.is_dir():
            return "sub-folder"
    except OSError:
        pass
    return f"{suffix} file" if stem else "suffixless file"


def _is_real_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def composed(name: str) -> str:
    """Returns a name with composed characters (NFC), because macOS may store decomposed ones."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def natural(text: str) -> tuple[tuple[int | str, ...], str]:
    """Returns a sort key that puts frame 9 before frame 10."""
    parts = re.split(r"(\d+)", text)
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), text


def walk(
    template: str,
    root: Path,
    scale: int,
    faults: list[Fault],
    wanted: Callable[[str], bool] = lambda key: True,
    keys: Sequence[str] | None = None,
    recursive: bool = False,
    left_out: LeftOut | None = None,
) -> Iterator[FoundFile]:
    """Finds the files that match a template, in no particular order.

    Args:
        template: As in `Split`.
        root: The folder that the template is relative to.
        scale: The number that replaces ``{scale}``.
        faults: Receives the problems with folders and links on the way.
        wanted: Returns whether the item of that name is asked for.
        keys: Names of the items, if they are known; then no other clip folder is opened.
        recursive: Also take images in sub-folders of the last folder, or clips in sub-folders of
            the folder of clips; their keys begin with the path of the sub-folder. Links to folders
            are not followed there.
        left_out: Receives what is left out.
    """
    levels = template.split("/")[:-1]
    search = _Search(template, scale, faults, wanted, recursive, left_out or LeftOut())
    if keys is not None and "{-any}" in template:  # folders may have longer names than items
        yield from (file for file in search.descend(str(root), levels) if file.key in keys)
        return
    if keys is None or "{clip}" not in levels:
        yield from search.descend(str(root), levels)
        return
    for key in keys:
        names = _clip_names(key, levels.count("{clip}")) if recursive else key.split("/")
        if levels.count("{clip}") == len(names):
            yield from search.descend(str(root), levels, known=names)


def split_fixed(template: str, scale: int) -> tuple[str, str]:
    """Splits a template into the folder that it always begins with, and the rest."""
    levels = template.split("/")
    fixed = list(takewhile(lambda level: not _PLACEHOLDER.search(level), levels[:-1]))
    return "/".join(fixed).replace("{scale}", str(scale)), "/".join(levels[len(fixed) :])


def name_template(template: str, placeholder: str, option: str) -> str:
    """Returns a template of file stems, such as ``"{}_x4"``, with a placeholder in place of ``{}``.

    Args:
        template: Text with one ``{}``; other placeholders may occur once each.
        placeholder: ``"{stem}"`` or ``"{frame}"``.
        option: Name of the option, for the error.

    Raises:
        UserError: if there is not exactly one ``{}``, or a placeholder occurs twice.
    """
    filled = template.replace("{}", placeholder)
    others = _PLACEHOLDER.findall(filled)
    if template.count("{}") != 1 or len(set(others)) < len(others):
        raise UserError(
            f"{option} '{template}' must contain {{}} once, in the place of the stem of the ground "
            "truth's file"
        )
    return filled


def fill(template: str, scale: int, key: str, frame: str = "*") -> str:
    """Returns the path of an item's file relative to the root; ``*`` stands for any text."""
    last_clip = key.rpartition("/")[2]
    values = {"scale": str(scale), "stem": key, "frame": frame, "any": "*", "-any": "*"}

    def value(placeholder: re.Match[str]) -> str:
        name = placeholder[1]
        return next(clips, last_clip) if name == "clip" else values[name]

    folder, slash, name = template.rpartition("/")
    clips = iter(_clip_names(key, folder.count("{clip}")))
    folder = _ANY_PLACEHOLDER.sub(value, folder)
    clips = iter(())  # in the file's name, {clip} is always the last folder level
    return f"{folder}{slash}{_ANY_PLACEHOLDER.sub(value, name)}.*"


def _clip_names(key: str, levels: int) -> list[str]:
    """Returns the names of the folder levels of a clip; a single level may be a path."""
    return [key] if levels == 1 else key.split("/")


class _Search:
    """Searches the folders of a template level by level."""

    def __init__(
        self,
        template: str,
        scale: int,
        faults: list[Fault],
        wanted: Callable[[str], bool],
        recursive: bool,
        left_out: LeftOut,
    ) -> None:
        self.scale, self.faults, self.wanted = scale, faults, wanted
        self.recursive, self.left_out = recursive, left_out
        folder, _, name = template.rpartition("/")
        self.num_clip = folder.count("{clip}")
        self.nested_clips = recursive and self.num_clip == 1
        self.name = self._compile(name)

    def descend(
        self,
        folder: str,
        levels: Sequence[str],
        clips: tuple[str, ...] = (),
        frame: str = "",
        known: Sequence[str] = (),
        above: str = "",
    ) -> Iterator[FoundFile]:
        """Finds the files below ``folder``.

        Args:
            folder: Where to search.
            levels: Templates of the folder levels below it.
            clips: Names of the clip folders above.
            frame: Name of the frame, if a folder above gives it.
            known: Names of the clip folders below, if they are known.
            above: Path of the folder within that of the clips, for clips in sub-folders.
        """
        if self.num_clip and len(clips) == self.num_clip and not self.wanted("/".join(clips)):
            return
        if not levels:
            yield from self._files(folder, clips, frame)
            return
        level, deeper = levels[0], levels[1:]
        name = None if _PLACEHOLDER.search(level) else level.replace("{scale}", str(self.scale))
        if known and level == "{clip}":
            name, known = known[0], known[1:]
            clips = (*clips, name)
        if name is not None:
            below = f"{folder}/{name}"
            if not self._is_loop(below):
                yield from self.descend(below, deeper, clips, frame, known)
            return
        pattern = self._compile(level)
        for entry in self._entries(folder):
            match = pattern.fullmatch(entry.name)
            if match and self._is_folder(entry):
                group = match.groupdict()
                inner = (*clips, above + group["clip"]) if "clip" in group else clips
                yield from self.descend(entry.path, deeper, inner, group.get("frame", frame), known)
                if self.nested_clips and level == "{clip}" and _is_real_folder(entry):
                    below = f"{above}{entry.name}/"
                    yield from self.descend(entry.path, levels, clips, frame, (), below)
            elif "\n" in entry.name:
                self.left_out.add(entry.path, _LINE_BREAK)
            elif not above and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                self.left_out.add(entry.path, "stray image")

    def _files(
        self, folder: str, clips: tuple[str, ...], frame: str, prefix: str = ""
    ) -> Iterator[FoundFile]:
        for entry in self._entries(folder):
            stem, _, suffix = entry.name.rpartition(".")
            suffix = f".{suffix.lower()}"
            if "\n" in entry.name:
                self.left_out.add(entry.path, _LINE_BREAK)
                continue
            if suffix not in IMAGE_SUFFIXES:
                if self.recursive and self.num_clip < 2 and _is_real_folder(entry):
                    if not self.nested_clips:  # else it is a folder of clips; see `descend`
                        below = f"{prefix}{entry.name}/"
                        yield from self._files(entry.path, clips, frame, below)
                elif suffix not in _TEXT_SUFFIXES:
                    self.left_out.add(entry.path, _kind(entry, stem, suffix))
                continue
            match = self.name.fullmatch(stem)
            if not match:
                continue
            group = match.groupdict()
            clip = clips[-1].rpartition("/")[2] if clips else None
            if clips and group.get("clip", clip) != clip:
                continue
            key = "/".join(clips) or prefix + (group.get("clip") or group.get("stem") or stem)
            if self.wanted(key) and self._is_file(entry):
                yield FoundFile(key, group.get("frame", frame), entry.path)

    def _compile(self, template: str) -> re.Pattern[str]:
        template = template.replace("{scale}", str(self.scale))
        pieces = _PLACEHOLDER.split(template)
        patterns = {name: f"(?P<{name}>.+)" for name in ("clip", "frame", "stem")}
        patterns |= {"any": ".+", "-any": "(?:-.*)?"}
        if "-any" in pieces:
            patterns["clip"] = "(?P<clip>.+?)"  # ends at the first hyphen
        return re.compile(
            "".join(
                patterns[piece] if i % 2 else re.escape(piece) for i, piece in enumerate(pieces)
            )
        )

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with scan_folder(folder) as entries:
                # Hidden files belong to the system: macOS writes "._0001.png", which is no image.
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
            elif os.path.exists(entry.path):  # noqa: PTH110 (links are followed)
                text = "is a pipe or a device, not an image file; remove it"
                self._add(entry.path, "not a file", text)
            else:
                self._add(entry.path, "broken link", "points to no file; repair or remove the link")
        except OSError as error:
            self._report(entry.path, error)
        return False

    def _is_loop(self, path: str) -> bool:
        """Returns whether a path is a link to a folder that contains the link."""
        if not Path(path).is_symlink():
            return False
        here, target = os.path.realpath(Path(path).parent), os.path.realpath(path)
        if not f"{here}/".startswith(f"{target}/"):
            return False
        text = f"links to {target}, a folder that contains the link; remove the link"
        self._add(path, "symlink loop", text)
        return True

    def _report(self, path: str, error: OSError) -> None:
        if error.errno == errno.ELOOP:
            self._add(path, "symlink loop", "links to itself; remove the link")
        elif isinstance(error, NotADirectoryError):
            self._add(path, "not a folder", "is a file where a folder should be")
        elif isinstance(error, PermissionError):
            self._add(path, "unreadable folder", "no permission to read it; change its permissions")
        else:
            self._add(path, "unreadable folder", f"cannot be read ({error.strerror})")

    def _add(self, path: str, kind: str, text: str) -> None:
        self.faults.append(Fault(Path(path), kind, text))

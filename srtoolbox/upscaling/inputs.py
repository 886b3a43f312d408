"""Finds what the user wants to upscale, and names the results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from srtoolbox.data.files.other_formats import JPEG_2000
from srtoolbox.data.files.reader import read_head
from srtoolbox.data.files.walk import natural
from srtoolbox.errors import UserError
from srtoolbox.media.animation import ANIMATION_SUFFIXES, animation_info
from srtoolbox.media.geo import is_map
from srtoolbox.media.image_file import READ_SUFFIXES, WRITE_SUFFIXES, format_of, npy_bands
from srtoolbox.media.video_join import FORMAT_OF_SUFFIX
from srtoolbox.upscaling.options import UpscaleOptions

Kind = Literal["picture", "burst", "sequence", "animation", "video", "map"]

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2ts", ".mts", ".wmv"}
    | {".flv", ".ogv", ".3gp", ".y4m"}
)
HIDDEN = ".srtoolbox"
"""Beginning of the names of the command's own files."""

_STARTS = (  # first bytes of pictures
    *(b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", b"\x93NUMPY"),
    *(b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NOT_WRITTEN = frozenset(  # formats of pictures that users may ask for
    {".heic", ".heif", ".avif", ".jxl", ".j2k", ".psd", ".tga", ".ico", ".svg", ".pdf", ".eps"}
    | {".exr", ".hdr", ".pfm", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw"}
)
_WRITABLE = {suffix for suffixes in WRITE_SUFFIXES.values() for suffix in suffixes}


@dataclass(frozen=True)
class Job:
    """One input and its result.

    Args:
        kind: How it is upscaled.
        source: The file, or the folder of a burst or sequence.
        target: The file to write; of a sequence the folder.
        files: The pictures of a burst or sequence.
        targets: The files to write of a sequence.
    """

    kind: Kind
    source: Path
    target: Path
    files: tuple[Path, ...] = ()
    targets: tuple[Path, ...] = ()

    @property
    def sources(self) -> tuple[Path, ...]:
        """All files that are read."""
        return self.files or (self.source,)

    @property
    def results(self) -> tuple[Path, ...]:
        """All files that are written."""
        return self.targets or (self.target,)


@dataclass
class Found:
    """The jobs, and what was left out, one sentence each."""

    jobs: list[Job] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_jobs(
    inputs: Sequence[Path],
    output: Path | None,
    options: UpscaleOptions,
    sees_frames: bool,
    label: str,
    written: Collection[Path] = (),
) -> Found:
    """Finds the inputs and names their results.

    A folder is a burst with ``burst``; a clip whose frames are its pictures if the network sees
    several frames; otherwise a collection of files. Without ``output``, the result of a file is
    written beside it as ``NAME_x4``, and that of a folder into ``FOLDER_x4`` beside the folder.

    Args:
        inputs: Files and folders.
        output: A folder, or the name of a file if there is one result.
        options: Options on files.
        sees_frames: Whether the first network sees several frames.
        label: Text after the name of a result beside its source, such as ``_x4``.
        written: Files that the command wrote earlier; they are not inputs in folders.

    Raises:
        UserError: if an input does not exist, nothing is found, or two results have one name.
    """
    found = Found()
    finder = _Finder(output, options, sees_frames, label, frozenset(map(_real, written)), found)
    seen: set[Path] = set()
    for path in inputs:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        if _real(path) not in seen:
            seen.add(_real(path))
            finder.add(path)
    if not found.jobs:
        names = ", ".join(map(str, inputs[:3]))
        left_out = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise UserError(f"{names}: no picture, video or animation found{left_out}")
    results = sum(len(job.results) for job in found.jobs)
    if finder.one_file and results > 1:
        raise UserError(
            f"-o {output}: is the name of one file, but there are {results} results; give a folder"
        )
    _check_names(found.jobs)
    return found


class _Finder:
    def __init__(
        self,
        output: Path | None,
        options: UpscaleOptions,
        sees_frames: bool,
        label: str,
        written: frozenset[Path],
        found: Found,
    ) -> None:
        self.output, self.options, self.found = output, options, found
        self.sees_frames, self.label, self.written = sees_frames, label, written
        known = READ_SUFFIXES | VIDEO_SUFFIXES
        self.one_file = (
            output is not None and not output.is_dir() and output.suffix.lower() in known
        )
        if output is not None and output.exists() and not (self.one_file or output.is_dir()):
            raise UserError(f"-o {output}: is a file, but no picture, animation or video")
        if output is not None and not output.exists() and output.suffix.lower() in _NOT_WRITTEN:
            known_pictures = ", ".join(sorted(_WRITABLE))
            raise UserError(
                f"-o {output}: pictures cannot be written as {output.suffix!r}; known are "
                f"{known_pictures}"
            )

    def add(self, path: Path) -> None:
        """Adds the jobs of an input."""
        if not path.is_dir():
            if self.options.burst:
                raise UserError(f"{path}: --burst takes folders with the pictures of one burst")
            folder = path.parent if self.output is None else self.output
            self.add_file(path, folder, self.label if self.output is None else "")
            return
        folder = _named(path)
        target = self.output
        if target is None or self.one_file:
            target = folder.parent / f"{folder.name}{self.label}"
        own = _real(target)
        files = list(self.files_in(path, own))
        for sub, entries in _by_folder(files).items():
            place = target / sub.relative_to(path) if self.options.keep_tree else target
            pictures = [entry for entry in entries if entry.suffix.lower() in READ_SUFFIXES]
            if self.options.burst:
                self.add_burst(sub, pictures, place if self.options.keep_tree else target)
            elif self.sees_frames:
                # Animations and maps may lie between the pictures; a broken file is a picture.
                clip = {entry: None for entry in pictures if kind_of(entry) == "picture"}
                if len(clip) > 1:
                    self.add_sequence(sub, list(clip), place)
                    entries = [entry for entry in entries if entry not in clip]
            if not self.options.burst:
                for entry in entries:
                    self.add_file(entry, place, "")

    def files_in(self, folder: Path, own: Path) -> Iterator[Path]:
        """Yields the media files of a folder in natural order; counts all others."""
        others: Counter[str] = Counter()
        for root, folders, names in os.walk(folder):
            base = Path(root)
            folders.sort(key=natural)
            if not self.options.recursive:
                if folders and base == folder and not self.options.burst:
                    others["sub-folder"] += len([n for n in folders if not n.startswith(".")])
                folders.clear()
            folders[:] = [n for n in folders if not n.startswith(".") and _real(base / n) != own]
            for name in sorted(names, key=natural):
                path = base / name
                suffix = path.suffix.lower()
                if name.startswith("."):
                    continue
                if suffix not in READ_SUFFIXES and suffix not in VIDEO_SUFFIXES:
                    others[f"{suffix or 'suffixless'} file"] += 1
                elif _real(path) in self.written:
                    others["result of this command"] += 1
                else:
                    yield path
        if others:
            text = ", ".join(
                f"{count} {kind if count == 1 else _plural(kind)}"
                for kind, count in sorted(others.items())
                if count
            )
            hint = "; -r uses sub-folders" if others["sub-folder"] else ""
            if text:
                self.found.notes.append(f"{folder}: left out: {text}{hint}")

    def add_file(self, path: Path, folder: Path, label: str) -> None:
        kind = kind_of(path)
        if self.one_file and self.output is not None:
            if kind == "picture":
                self.check_output(self.output)
            self.found.jobs.append(Job(kind, path, self.output))
            return
        suffix = self.options.suffix if self.options.suffix is not None else label
        target = folder / f"{path.stem}{suffix}{self.suffix_for(kind, path)}"
        self.found.jobs.append(Job(kind, path, target))

    def check_output(self, output: Path) -> None:
        """Raises a UserError, before the work, if the name of a picture has a wrong suffix."""
        own, wanted = format_of(output), self.options.format
        if wanted not in ("same", own):
            raise UserError(f"-o {output}: does not fit --format {wanted}; leave out one of them")

    def add_burst(self, folder: Path, pictures: list[Path], target: Path) -> None:
        if not pictures:
            return
        reference = pictures[min(self.options.reference, len(pictures) - 1)]
        beside = self.output is None
        suffix = self.options.suffix or (self.label if beside else "")
        name = f"{_named(folder).name}{suffix}{self.suffix_for('picture', reference)}"
        place = _named(folder).parent if beside else target
        result = place / name
        if self.one_file and self.output is not None:
            self.check_output(self.output)
            result = self.output
        self.found.jobs.append(Job("burst", folder, result, tuple(pictures)))

    def add_sequence(self, folder: Path, pictures: list[Path], target: Path) -> None:
        suffix = self.options.suffix or ""
        targets = tuple(
            target / f"{path.stem}{suffix}{self.suffix_for('picture', path)}" for path in pictures
        )
        self.found.jobs.append(Job("sequence", folder, target, tuple(pictures), targets))

    def suffix_for(self, kind: Kind, path: Path) -> str:
        """Returns the suffix of the result of a file."""
        own = path.suffix.lower()
        if kind == "video":
            wanted = self.options.container
            if wanted != "auto":
                return f".{wanted}"
            return path.suffix if own in FORMAT_OF_SUFFIX else ".mkv"
        if kind == "animation":
            wanted = self.options.anim_format
            if wanted != "same":
                return f".{'png' if wanted == 'apng' else wanted}"
            info = animation_info(path)
            allowed = ANIMATION_SUFFIXES[info.format] if info else (".png",)
            return path.suffix if own in allowed else allowed[-1]
        if kind == "map":
            return path.suffix if own in WRITE_SUFFIXES["tif"] else ".tif"
        if self.options.format != "same":
            return f".{self.options.format}"
        if own == ".npy":  # only it and TIFF hold bands that are no colours
            return path.suffix if npy_bands(path) not in (0, 1, 3) else ".png"
        return path.suffix if own in _WRITABLE else ".png"


def kind_of(path: Path) -> Kind:
    """Returns how a file is upscaled, by its content; a broken file is a picture that will fail.

    Raises:
        UserError: if it is neither a picture, an animation, a map nor a video.
    """
    try:
        head = read_head(path)
        if head[:4] in _TIFF or head.startswith(JPEG_2000):
            return "map" if is_map(path) else "picture"
        if head.startswith(_STARTS) and path.suffix.lower() != ".avi":  # RIFF, like WebP
            return "animation" if animation_info(path) is not None else "picture"
    except UserError:
        return "video" if path.suffix.lower() in VIDEO_SUFFIXES else "picture"
    if path.suffix.lower() in READ_SUFFIXES:
        return "picture"
    return "video"


def _by_folder(files: Sequence[Path]) -> dict[Path, list[Path]]:
    groups: dict[Path, list[Path]] = {}
    for path in files:
        groups.setdefault(path.parent, []).append(path)
    return groups


def _check_names(jobs: Sequence[Job]) -> None:
    """Raises a UserError if two results, or a result and a source, are the same file."""
    sources = {_real(source): source for job in jobs for source in job.sources}
    names: dict[Path, Path] = {}
    for job in jobs:
        for place, target in enumerate(job.results):
            source = job.files[place] if job.kind == "sequence" else job.source
            path = _real(target)
            if path in sources:
                raise UserError(
                    f"{target}: the result of {source} would replace the input {sources[path]}; "
                    "give another folder, or --suffix"
                )
            if path in names:
                raise UserError(
                    f"{target}: would be the result of {names[path]} and of {source}; use "
                    "--keep-tree, --suffix, another --format, or separate commands"
                )
            names[path] = source


def _named(folder: Path) -> Path:
    """Returns the absolute path of a folder, with its own name for ``..``."""
    return folder.resolve() if folder.name == ".." else folder.absolute()


def _plural(kind: str) -> str:
    return kind.replace("result of", "results of") if kind.startswith("result") else f"{kind}s"


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))

"""Upscales clips whose frames are stored as picture files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.reader import image_info
from srtoolbox.errors import UserError
from srtoolbox.media.image_file import read_picture
from srtoolbox.media.picture import Picture, as_type
from srtoolbox.upscaling.options import UpscaleOptions
from srtoolbox.upscaling.pictures import write_result
from srtoolbox.upscaling.result import Result
from srtoolbox.upscaling.upscaler import Upscaler
from srtoolbox.upscaling.windows import ClipFrame, ClipRestorer, Restored
from srtoolbox.utils.console import Progress


def upscale_sequence(
    upscaler: Upscaler,
    files: Sequence[Path],
    targets: Sequence[Path],
    options: UpscaleOptions,
    on_progress: Progress | None,
    is_done: Callable[[int], bool],
    on_done: Callable[[int, Result], None],
) -> None:
    """Writes an enlarged picture for each frame, with the depth and metadata of its own file.

    A network that doubles the frame rate writes two pictures for each frame: ``NAME.png``, and
    ``NAME_mid.png`` for the time between it and the next frame. (With a larger factor these are
    ``NAME_mid1.png``, ``NAME_mid2.png``, ….) After the last frame of a scene it is repeated.

    A frame that cannot be read ends the clip before it, and a new clip begins after it; the error
    is raised when all other frames are written. Only files that the windows of missing results need
    are read, so that a job that was killed goes on.

    Args:
        upscaler: The networks.
        files: The pictures in order, all of one size.
        targets: The file to write for each of them.
        options: Size, frames, depth, transparency, quality and metadata.
        on_progress: Called with the number of finished and of all frames.
        is_done: Returns whether the result of a frame is finished.
        on_done: Called with the number of a frame and its result when it is written.

    Raises:
        UserError: if files differ in size, cannot be read, or names of results collide.
        RunError: if memory does not suffice, or a file cannot be written.
    """
    between = [names_between(target, upscaler.time_scale) for target in targets]
    taken = set(targets)
    for names, file in zip(between, files, strict=True):
        if twice := taken.intersection(names):
            raise UserError(
                f"{twice.pop()}: would be the result of a frame, and of the time between "
                f"{file.name} and the next; give the results another --suffix"
            )
    wanted = [
        not (is_done(index) and all(path.exists() for path in names))
        for index, names in enumerate(between)
    ]
    if not any(wanted):
        return
    _check_sizes(files, options)
    job = _Sequence(upscaler, files, options, ClipRestorer(upscaler, options), wanted)
    done = len(files) - sum(wanted)
    for index, pictures in job.results():
        source, paths = pictures[0], [targets[index], *between[index]]
        # The frame itself comes last: where it is, those after it are, too.
        for path, picture in reversed(list(zip(paths, pictures, strict=True))):
            notes = list(source.notes)
            result = write_result(upscaler, job.pictures[index], picture, path, options, notes)
        del job.pictures[index]
        on_done(index, replace(result, frames=len(paths)))
        done += 1
        if on_progress is not None:
            on_progress(done, len(files))
    if job.errors:
        more = f" ({len(job.errors)} frames cannot be read)" if len(job.errors) > 1 else ""
        raise UserError(f"{job.errors[0]}{more}")


@dataclass
class _Sequence:
    """The frames of a clip, read when they are needed.

    Attributes:
        wanted: For each frame whether it is restored.
        pictures: Frames that were read, and whose results are not written.
        errors: Of frames that could not be read.
    """

    upscaler: Upscaler
    files: Sequence[Path]
    options: UpscaleOptions
    restorer: ClipRestorer
    wanted: list[bool]
    pictures: dict[int, Picture] = field(default_factory=dict)
    errors: list[UserError] = field(default_factory=list)

    def results(self) -> Iterator[tuple[int, list[Picture]]]:
        """Yields the number and the results of each wanted frame."""
        for start, stop in _runs(self.wanted, self.restorer.context):
            while start < stop:
                frames = _Frames(self, start, stop)
                restored = self.restorer.restore(frames.read())
                for index in range(start, stop):
                    parts = [next(restored, None) for _ in range(self.upscaler.time_scale)]
                    if index < frames.end and self.wanted[index]:
                        yield index, [self._picture(index, part) for part in parts if part]
                start = frames.end + 1

    def _picture(self, index: int, restored: Restored) -> Picture:
        """Returns a result with the type, colours and metadata of a frame."""
        source = self.pictures[index]
        pixels, alpha = restored.pixels, restored.alpha
        if len(pixels) > len(source.pixels) == 1:  # other frames in its window have colours
            pixels = pixels.mean(0, keepdims=True)
        dtype = source.pixels.dtype
        alpha = None if alpha is None else as_type(alpha, dtype)
        return replace(source, pixels=as_type(pixels, dtype), alpha=alpha)


class _Frames:
    """The frames ``start`` to ``stop - 1`` up to the first that cannot be read.

    Attributes:
        end: The first that cannot be read, or ``stop``.
    """

    def __init__(self, job: _Sequence, start: int, stop: int) -> None:
        self._job, self._start, self.end = job, start, stop

    def read(self) -> Iterator[ClipFrame]:
        job, options = self._job, self._job.options
        first: tuple[Path, tuple[int, ...]] | None = None
        for index in range(self._start, self.end):
            path = job.files[index]
            try:
                picture = read_picture(path, auto_orient=options.auto_orient)
            except UserError as error:
                job.errors.append(error)
                self.end = index
                return
            size = picture.pixels.shape[1:]
            first = first or (path, size)
            if size != first[1]:
                raise _other_size(path, size, *first)
            if options.alpha == "drop":
                picture = replace(picture, alpha=None)
            if job.wanted[index]:
                job.pictures[index] = picture
            yield ClipFrame(picture.pixels, index, picture.alpha, job.wanted[index])


def _runs(wanted: Sequence[bool], context: int) -> list[tuple[int, int]]:
    """Returns begin and end of the parts of a clip that wanted frames need."""
    runs: list[tuple[int, int]] = []
    for index in (index for index, is_wanted in enumerate(wanted) if is_wanted):
        start, stop = max(0, index - context), min(len(wanted), index + context + 1)
        if runs and start <= runs[-1][1]:
            start = runs.pop()[0]
        runs.append((start, stop))
    return runs


def names_between(target: Path, time_scale: int) -> list[Path]:
    """Returns the names of the results between a frame and the next."""
    marks = [""] if time_scale == 2 else range(1, time_scale)
    return [target.with_name(f"{target.stem}_mid{mark}{target.suffix}") for mark in marks]


def _check_sizes(files: Sequence[Path], options: UpscaleOptions) -> None:
    """Raises a UserError if headers state different sizes; it names two files."""
    first: tuple[Path, tuple[int, ...]] | None = None
    for path in files:
        try:
            info = image_info(path, ReadOptions(convert=True))
        except UserError:
            continue  # reading it will tell, or it is of a kind that datasets do not have
        size = info.size
        if not options.auto_orient and info.orientation >= 5:
            size = size[::-1]
        first = first or (path, size)
        if size != first[1]:
            raise _other_size(path, size, *first)


def _other_size(
    path: Path, size: tuple[int, ...], other: Path, theirs: tuple[int, ...]
) -> UserError:
    return UserError(
        f"{path}: is {size[1]}×{size[0]}, but {other.name} is {theirs[1]}×{theirs[0]}; the frames "
        "of a clip have one size, put other pictures into another folder"
    )

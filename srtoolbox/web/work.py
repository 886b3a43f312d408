"""What the page does with uploaded files; it needs no browser and no gradio."""

from __future__ import annotations

import re
import secrets
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from srtoolbox.archs.base import arch_info
from srtoolbox.data.files.image_info import ImageFault, ReadOptions
from srtoolbox.data.files.reader import DECODER_ERRORS, image_info
from srtoolbox.errors import RunError, UserError
from srtoolbox.media.animation import animation_info
from srtoolbox.media.image_file import read_picture, write_picture
from srtoolbox.media.metadata import Metadata
from srtoolbox.media.picture import Picture, as_type, bicubic, resize_to
from srtoolbox.upscaling.animations import upscale_animation
from srtoolbox.upscaling.inputs import VIDEO_SUFFIXES, Job, Kind, find_jobs, kind_of
from srtoolbox.upscaling.options import UpscaleOptions, upscale_options
from srtoolbox.upscaling.pictures import upscale_picture
from srtoolbox.upscaling.upscaler import Upscaler
from srtoolbox.upscaling.videos import upscale_video
from srtoolbox.utils.console import duration_text
from srtoolbox.web.choices import Choices
from srtoolbox.web.queue import Control, error_line

MAX_SHOWN = 4096
"""Longest side in pixels of the pictures that the page shows; files are not limited."""

MAX_OVERVIEW = 800
"""Longest side in pixels of the picture in which the user chooses a part."""

MIN_SIDE, MAX_SIDE = 32, 1024
"""Side in pixels of the part of a picture for comparisons."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "JPEG2000")
_MAX_RATE = 50  # frames per second that an animation is taken to have
_MAX_STEM = 60  # characters of the name of a result


@dataclass(frozen=True)
class Limits:
    """What may be uploaded.

    Args:
        bytes: Size of a file.
        pixels: Pixels of a picture, or of a frame.
        seconds: Length of a video or an animation.
    """

    bytes: int = 200 * 2**20
    pixels: int = 16_000_000
    seconds: float = 300.0


@dataclass(frozen=True)
class Settings:
    """What the user chose.

    Args:
        weights: A name of ``Choices``.
        denoise: Denoising level; None: without, or the lowest if all weights denoise.
        options: Options of ``UpscaleOptions``: device, precision, tile, container.
    """

    weights: str
    denoise: int | None
    options: dict[str, Any]


@dataclass(frozen=True)
class Restored:
    """The result for one file.

    Args:
        path: The result, for download.
        kind: "picture", "animation" or "video".
        text: Sizes, network and time in one line.
        notes: What the file does not hold as the input has it, one sentence each.
        before: Picture to show: the bicubic enlargement; None for others.
        after: Picture to show: the result.
    """

    path: Path
    kind: Kind
    text: str
    notes: tuple[str, ...] = ()
    before: Path | None = None
    after: Path | None = None


@dataclass(frozen=True)
class Compared:
    """A part of a picture, enlarged in one way.

    Args:
        name: Name of the weights, or "Bicubic".
        network: Class and scale of the network.
        params: Number of parameters; None: it has none.
        seconds: Time for this part, with the pixels around it that the network sees.
        image: PNG file, of the same size for all.
    """

    name: str
    network: str
    params: int | None
    seconds: float
    image: Path


class Workplace:
    """Restores uploaded files with the weights of ``choices``, within ``limits``."""

    def __init__(self, choices: Choices, limits: Limits, root: Path) -> None:
        self.choices, self.limits, self._root = choices, limits, root

    def describe(self, upload: Path, name: str) -> str:
        """Returns kind and size of an upload in one line.

        Raises:
            UserError: if it is none that can be restored, or it is too large.
        """
        with _named(upload, name):
            kind = self._kind(upload)
            if kind == "animation":
                info = _animation(upload)
                return f"animation, {info.width}×{info.height}, {info.num_frame} frames"
            if kind == "video":
                video = _probe(upload)
                length = duration_text(video.duration)
                return f"video, {video.upright_width}×{video.upright_height}, {length}"
            size = _picture_size(upload)
            if size is None:
                size = read_picture(upload).pixels.shape[:0:-1]
            return f"picture, {size[0]}×{size[1]}"

    def overview(
        self, upload: Path, name: str, centre: tuple[float, float], side: int
    ) -> tuple[Path, tuple[int, int]]:
        """Draws a frame around the part of ``compare``.

        Returns:
            A PNG file with at most ``MAX_OVERVIEW`` pixels on a side; its width and height.

        Args and errors are those of ``compare``.
        """
        with self._folder() as folder, _named(upload, name):
            self._check_kind(upload, ("picture",))
            picture = read_picture(upload)
            height, width = picture.pixels.shape[1:]
            left, top, own_width, own_height = part_of(width, height, centre, side)
            factor = min(1, MAX_OVERVIEW / max(width, height))
            size = max(1, round(width * factor)), max(1, round(height * factor))
            pixels = resize_to(as_type(picture.pixels, np.uint8), *size)
            canvas = np.ascontiguousarray(pixels.repeat(3 // len(pixels), 0).transpose(1, 2, 0))
            first = round(left * factor), round(top * factor)
            last = round((left + own_width) * factor) - 1, round((top + own_height) * factor) - 1
            for value, thickness in ((255, 5), (0, 1)):
                cv2.rectangle(canvas, first, last, (value, value, value), thickness)
            metadata = Metadata(icc=picture.metadata.icc if len(pixels) == 3 else None)
            path = folder / "overview.png"
            write_picture(path, Picture(canvas.transpose(2, 0, 1), metadata=metadata))
            return path, size

    def restore_picture(
        self, upload: Path, name: str, settings: Settings, control: Control
    ) -> Restored:
        """Enlarges a picture by ``upscale_picture``.

        Args:
            upload: The file.
            name: Its name on the user's computer; the result's name is made of it.
            settings: Weights and options.
            control: Counts tiles.

        Raises:
            UserError: if it is no picture, or too large; the message has ``name``, not the path.
            RunError: if memory does not suffice, or the network's output is not finite.
            Cancelled: if the user cancelled it.
        """
        with self._job(upload, name, settings, "picture") as (job, upscaler, options):
            size = _picture_size(job.source) or read_picture(job.source).pixels.shape[:0:-1]
            begin = time.perf_counter()
            with _watched(upscaler, control, upscaler.count_runs(size[1], size[0])):
                result = upscale_picture(upscaler, job.source, job.target, options)
            seconds = time.perf_counter() - begin
            control.check()
            source, restored = read_picture(job.source), read_picture(job.target)
            height, width = restored.pixels.shape[1:]
            before = replace(source, pixels=_enlarged(source.pixels, width, height))
            if source.alpha is not None:
                before = replace(before, alpha=_enlarged(source.alpha, width, height))
            shown = [
                _write_shown(job.target.with_name(f"{label}.png"), picture)
                for label, picture in (("before", before), ("after", restored))
            ]
            notes = list(result.notes)
            if max(width, height) > MAX_SHOWN:
                notes.append(f"it is shown with {MAX_SHOWN} pixels on its longest side")
            text = _summary(source.pixels.shape[:0:-1], (width, height), upscaler, seconds)
            return Restored(job.target, "picture", text, tuple(notes), *shown)

    def restore_media(
        self, upload: Path, name: str, settings: Settings, control: Control
    ) -> Restored:
        """Enlarges an animation or a video, with sound, subtitles and chapters.

        A video becomes a Matroska file, with a note, if MP4 cannot hold all of it.

        Args and errors are those of ``restore_picture``; ``control`` counts frames.
        """
        with self._job(upload, name, settings, "animation", "video") as (job, upscaler, options):
            if job.kind == "animation":
                run, info = upscale_animation, _animation(job.source)
                size = info.width, info.height
            else:
                run, video = upscale_video, _probe(job.source)
                size = video.upright_width, video.upright_height
                if options.container == "mp4":  # by the name of the target: Matroska if need be
                    options = replace(options, container="auto")
            begin = time.perf_counter()
            with _watched(upscaler, control):
                result = run(upscaler, job.source, job.target, options, control.progress)
            seconds = time.perf_counter() - begin
            text = _summary(size, (result.width, result.height), upscaler, seconds, result.frames)
            return Restored(result.path, job.kind, text, result.notes)

    def compare(
        self,
        upload: Path,
        name: str,
        weights: Sequence[tuple[str, int | None]],
        centre: tuple[float, float],
        side: int,
        options: dict[str, Any],
        control: Control,
    ) -> list[Compared]:
        """Enlarges the same part of a picture by several networks and bicubically.

        The networks see the pixels around the part that they need, so that the result is that of
        the whole picture. Results are resized to the size of the largest.

        Args:
            upload: The picture.
            name: Its name on the user's computer.
            weights: Two or more names of ``Choices``, each with a denoising level or None.
            centre: Centre of the part, from left and top, 0 to 1.
            side: Width and height of the part in pixels of the picture.
            options: As in ``Settings``.
            control: Counts networks.

        Raises:
            UserError, RunError, Cancelled: as for ``restore_picture``; UserError for fewer than two
                weights.
        """
        chosen = [(self.choices[entry], level) for entry, level in dict.fromkeys(weights)]
        if len(chosen) < 2:
            raise UserError("choose two or more weights to compare")
        with self._folder() as folder, _named(upload, name):
            self._check_kind(upload, ("picture",))
            picture = read_picture(upload)
            box = part_of(picture.pixels.shape[2], picture.pixels.shape[1], centre, side)
            top_scale = max(choice.scale for choice, _ in chosen)
            width, height = box[2] * top_scale, box[3] * top_scale
            begin = time.perf_counter()
            plain = _enlarged(_cut(picture.pixels, box, 0, 1)[0], width, height)
            seconds = time.perf_counter() - begin
            results = [Compared("Bicubic", f"×{top_scale}", None, seconds, folder / "bicubic.png")]
            _write_shown(results[0].image, replace(picture, pixels=plain, alpha=None))
            for number, (choice, level) in enumerate(chosen):
                control.progress(number, len(chosen))
                checked = upscale_options(options)
                upscaler = Upscaler(self.choices.networks(choice.name, level), checked)
                halo = upscaler.halo_of()
                multiple = arch_info(upscaler.nets[0]).size_multiple
                pixels, left, top = _cut(picture.pixels, box, halo, multiple)
                with _watched(upscaler, control, None):
                    begin = time.perf_counter()
                    sr = upscaler.image(pixels)
                    seconds = time.perf_counter() - begin
                scale = choice.scale
                inner = sr[
                    :,
                    top * scale : (top + box[3]) * scale,
                    left * scale : (left + box[2]) * scale,
                ].clip(0, 1)
                shown = replace(picture, pixels=resize_to(inner, width, height), alpha=None)
                path = _write_shown(folder / f"{number}.png", shown)
                label = choice.name if level is None else f"{choice.name}, denoise {level}"
                kind, params = f"{choice.network} ×{scale}", choice.params or None
                results.append(Compared(label, kind, params, seconds, path))
            control.progress(len(chosen), len(chosen))
            return results

    def _kind(self, upload: Path) -> Kind:
        """Returns how a file is restored, after the limits on its size are checked."""
        size = upload.stat().st_size
        if size > self.limits.bytes:
            raise UserError(
                f"{upload}: has {size / 2**20:.1f} MB; this page takes at most "
                f"{self.limits.bytes / 2**20:g}"
            )
        kind = kind_of(upload)
        if kind == "video" and upload.suffix.lower() not in VIDEO_SUFFIXES:
            raise UserError(f"{upload}: is no picture, animation or video that can be read")
        if kind == "map":
            raise UserError(f"{upload}: is a GeoTIFF; enlarge it by `srtoolbox upscale`")
        if kind == "animation":
            info = _animation(upload)
            self._check_pixels(upload, info.width, info.height)
            self._check_seconds(upload, info.num_frame / _MAX_RATE, f"{info.num_frame} frames")
        elif kind == "video":
            video = _probe(upload)
            self._check_pixels(upload, video.upright_width, video.upright_height)
            if video.duration is not None:
                self._check_seconds(upload, video.duration, duration_text(video.duration))
        elif (found := _picture_size(upload)) is not None:
            self._check_pixels(upload, *found)
        return kind

    def _check_kind(self, upload: Path, wanted: Sequence[Kind]) -> None:
        kind = self._kind(upload)
        if kind in wanted:
            return
        if kind == "picture":
            read_picture(upload)  # a damaged file gets the more helpful message
            raise UserError(f"{upload}: is a picture; use the tab Picture")
        article = "an" if kind == "animation" else "a"
        raise UserError(f"{upload}: is {article} {kind}; use the tab Video and animation")

    def _check_pixels(self, upload: Path, width: int, height: int) -> None:
        if width * height > self.limits.pixels:
            raise UserError(
                f"{upload}: has {width}×{height} = {width * height / 1e6:.1f} megapixels; this "
                f"page takes at most {self.limits.pixels / 1e6:g}"
            )

    def _check_seconds(self, upload: Path, seconds: float, found: str) -> None:
        if seconds > self.limits.seconds:
            longest = duration_text(self.limits.seconds)
            if found.endswith("frames"):
                longest = f"{round(self.limits.seconds * _MAX_RATE)} frames"
            raise UserError(f"{upload}: has {found}; this page takes at most {longest}")

    @contextmanager
    def _job(
        self, upload: Path, name: str, settings: Settings, *wanted: Kind
    ) -> Iterator[tuple[Job, Upscaler, UpscaleOptions]]:
        """Yields the job for an upload in a folder of its own, and what runs it."""
        choice = self.choices[settings.weights]
        options = upscale_options({**settings.options, "suffix": f"_x{choice.scale}"})
        with self._folder() as folder:
            source = folder / "input" / safe_name(name)
            source.parent.mkdir()
            shutil.copyfile(upload, source)
            with _named(source, name):
                self._check_kind(source, wanted)
                nets = self.choices.networks(choice.name, settings.denoise)
                upscaler = Upscaler(nets, options)
                job = find_jobs([source], folder, options, False, "").jobs[0]
                yield job, upscaler, options
            shutil.rmtree(source.parent)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """Yields a new folder with a random name; an error removes it."""
        folder = self._root / secrets.token_hex(16)
        folder.mkdir(parents=True)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


class Results:
    """Removes results that are no longer shown.

    Args:
        remove: Removes a folder.
    """

    def __init__(self, remove: Callable[[Path], None] | None = None) -> None:
        self._remove = remove or (lambda folder: shutil.rmtree(folder, ignore_errors=True))
        self._folders: dict[str, Path] = {}

    def replace(self, owner: str, folder: Path) -> None:
        """Keeps the folder of an owner's newest result, and removes the one before."""
        before = self._folders.pop(owner, None)
        self._folders[owner] = folder
        if before is not None:
            self._remove(before)

    def forget(self, owner: str) -> None:
        """Removes the result of an owner."""
        folder = self._folders.pop(owner, None)
        if folder is not None:
            self._remove(folder)


def safe_name(name: str) -> str:
    """Returns the name of a file that is safe in every folder: no separators, no leading dot.

    Letters of all languages, digits, spaces and ``._-()`` stay; others become ``_``.
    """
    base = re.split(r"[/\\]", name)[-1]
    stem, dot, suffix = base.rpartition(".")
    if not dot:
        stem, suffix = base, ""
    stem = re.sub(r"[^\w .()-]", "_", stem).strip(" .-")[:_MAX_STEM].strip(" .") or "file"
    suffix = re.sub(r"[^0-9A-Za-z]", "", suffix)[:8]
    return f"{stem}.{suffix}" if suffix else stem


def part_of(
    width: int, height: int, centre: tuple[float, float], side: int
) -> tuple[int, int, int, int]:
    """Returns left, top, width and height of a part of a picture, moved to lie inside of it.

    Args:
        width: Width of the picture in pixels.
        height: Height of the picture.
        centre: Centre of the part, from left and top, 0 to 1.
        side: Width and height of the part; limited to ``MIN_SIDE`` to ``MAX_SIDE`` and the picture.
    """
    side = min(max(side, MIN_SIDE), MAX_SIDE)
    box = []
    for length, place in ((width, centre[0]), (height, centre[1])):
        own = min(side, length)
        start = round(length * min(max(place, 0), 1) - own / 2)
        box.append((min(max(start, 0), length - own), own))
    (left, own_width), (top, own_height) = box
    return left, top, own_width, own_height


def _cut(
    pixels: np.ndarray, box: tuple[int, int, int, int], halo: int, multiple: int
) -> tuple[np.ndarray, int, int]:
    """Cuts out a part with ``halo`` pixels around it, as far as there are any.

    Returns:
        The pixels, and left and top of the part in them. They begin at a multiple of ``multiple``.
    """
    left, top, width, height = box
    first, first_row = (max(0, start - halo) // multiple * multiple for start in (left, top))
    cut = pixels[:, first_row : top + height + halo, first : left + width + halo]
    return cut, left - first, top - first_row


def _enlarged(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    plain = bicubic(as_type(pixels, np.float32), width, height)
    return as_type(plain.clip(0, 1), pixels.dtype)


def _write_shown(path: Path, picture: Picture) -> Path:
    """Writes a picture for the browser: PNG with 8 bits, on white, not too large."""
    pixels = as_type(picture.pixels, np.float32)
    if picture.alpha is not None:
        alpha = as_type(picture.alpha, np.float32)
        pixels = pixels * alpha + (1 - alpha)
    height, width = pixels.shape[1:]
    factor = MAX_SHOWN / max(width, height)
    if factor < 1:
        pixels = resize_to(pixels, max(1, round(width * factor)), max(1, round(height * factor)))
    metadata = Metadata(icc=picture.metadata.icc, png_colour=picture.metadata.png_colour)
    write_picture(path, Picture(as_type(pixels, np.uint8), metadata=metadata))
    return path


def _summary(
    size: Sequence[int],
    result: tuple[int, int],
    upscaler: Upscaler,
    seconds: float,
    frames: int = 1,
) -> str:
    count = f", {frames} frames" if frames > 1 else ""
    return (
        f"{size[0]}×{size[1]} → {result[0]}×{result[1]}{count}; {upscaler.describe()}, "
        f"{upscaler.precision} on {upscaler.device}; {duration_text(seconds)}"
    )


@contextmanager
def _watched(upscaler: Upscaler, control: Control, runs: int | None = None) -> Iterator[None]:
    """Context in which a cancelled job stops before the next tile.

    Args:
        upscaler: Its networks are watched; nobody else may use them.
        control: The job's.
        runs: How often the networks will run, to count that; None: only to stop.
    """
    if runs != 1:
        for stage in range(len(upscaler.nets)):
            upscaler.halo_of(stage)  # now, so that its measurement is not counted
    count = 0

    def before_run(*_: Any) -> None:
        nonlocal count
        if runs is None:
            control.check()
        else:
            control.progress(count, runs)
        count += 1

    handles = [net.register_forward_pre_hook(before_run) for net in upscaler.nets]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Context whose errors name the user's file, not where it lies."""
    try:
        yield
    except UserError as error:
        raise UserError(_with_name(error, path, name)) from error
    except (RunError, OSError) as error:
        raise RunError(_with_name(error, path, name)) from error


def _with_name(error: Exception, path: Path, name: str) -> str:
    text = error_line(error)
    if str(path) not in text:
        return f"{name}: {text}"
    return text.replace(str(path), name)


def _picture_size(path: Path) -> tuple[int, int] | None:
    """Returns width and height of a picture from its header; None: unknown.

    Raises:
        UserError: if it states an impossible size.
    """
    try:
        info = image_info(path, ReadOptions(convert=True))
        return info.width, info.height
    except ImageFault as error:
        if error.kind == "too large":
            raise
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                return image.width, image.height
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too large ({error}); make it smaller") from error
    except DECODER_ERRORS:
        return None  # whoever reads it tells what is wrong


def _animation(path: Path) -> Any:
    info = animation_info(path)
    if info is None:
        raise UserError(f"{path}: is no animation")
    return info


def _probe(path: Path) -> Any:
    from srtoolbox.media.video import probe

    return probe(path)

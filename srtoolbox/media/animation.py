"""Reads and writes animations: GIF, APNG and WebP.

Frames are coalesced: each is the whole picture that is seen at its time, whatever part of it the
file stores and whatever happens to the frame before. Frames are read and written one by one, so
that memory does not grow with their number. Written files have as many frames as were given;
libraries that merge equal frames would change their number.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFile

from srtoolbox.data.files.reader import DECODER_ERRORS, broken_file, read_head
from srtoolbox.errors import UserError, check_choice
from srtoolbox.media.animation_files import ApngFile, GifFile, WebpFile
from srtoolbox.media.gif import MAX_PIXELS, Gif, gif_frames, parse_gif
from srtoolbox.media.metadata import Metadata
from srtoolbox.media.output import replacing

AnimationFormat = Literal["gif", "webp", "apng"]

ANIMATION_SUFFIXES = {"gif": (".gif",), "webp": (".webp",), "apng": (".apng", ".png")}

_PILLOW_FORMATS = ("PNG", "WEBP")
_GIF, _STARTS = b"GIF8", (b"\x89PNG", b"RIFF")


@dataclass(frozen=True)
class Frame:
    """A frame of an animation.

    Args:
        pixels: (3, H, W) uint8, not multiplied by alpha.
        alpha: (1, H, W) uint8, 0 where transparent; None: opaque.
        duration: Time that it is shown, in milliseconds.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    duration: float


@dataclass(frozen=True)
class AnimationInfo:
    """The header of an animation.

    Args:
        format: gif, webp or apng.
        width: Width in pixels.
        height: Height in pixels.
        num_frame: Number of frames.
        plays: How often it is shown; 0: without end.
        icc: Colour profile (WebP and APNG).
        notes: What is converted while reading.
    """

    format: AnimationFormat
    width: int
    height: int
    num_frame: int
    plays: int
    icc: bytes | None = None
    notes: tuple[str, ...] = ()


def animation_info(path: Path) -> AnimationInfo | None:
    """Returns the form of an animation; None if the file is something else, or has one frame.

    Raises:
        UserError: if the file cannot be read, or is damaged.
    """
    head = read_head(path)
    if head.startswith(_GIF):
        gif = _parsed(path)
        count, loop = len(gif.parts), gif.repetitions
        # The file counts repetitions; without a count it is shown once.
        plays = 1 if loop is None else loop and loop + 1
        form = AnimationInfo("gif", gif.width, gif.height, count, plays)
        return form if count > 1 else None
    if not head.startswith(_STARTS):
        return None
    with _opened(path) as image:
        count = getattr(image, "n_frames", 1) - _first(image)
        if count < 2:
            return None
        notes = ()
        if ";16" in str(getattr(image, "tile", "")):
            notes = ("an animation is read with 8 bits; the file has 16",)
        return AnimationInfo(
            "apng" if image.format == "PNG" else "webp",
            image.width,
            image.height,
            count,
            int(image.info.get("loop") or 0),
            image.info.get("icc_profile") or None,
            notes,
        )


def read_frames(path: Path) -> Iterator[Frame]:
    """Yields the frames of an animation, coalesced, one after the other.

    Durations are those of the file; 0 means as fast as possible (programs then choose one).

    Raises:
        UserError: if the file cannot be read, or is damaged.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    is_gif = read_head(path).startswith(_GIF)
    whole = gif_frames(_parsed(path)) if is_gif else _pillow_frames(path)
    number = 0
    while True:
        try:
            planes, duration = next(whole)
        except StopIteration:
            return
        except UserError:
            raise
        except DECODER_ERRORS as error:
            raise UserError(
                f"{path}: frame {number + 1} is truncated or broken ({error}); replace or repair "
                "the file"
            ) from error
        number += 1
        opaque = planes[3].min() == 255
        alpha = None if opaque else np.ascontiguousarray(planes[3:])
        yield Frame(np.ascontiguousarray(planes[:3]), alpha, float(duration))


def _pillow_frames(path: Path) -> Iterator[tuple[np.ndarray, float]]:
    with _opened(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UserError(
                f"{path}: an animation of {image.width}×{image.height} pixels; expected at most "
                f"{MAX_PIXELS} pixels, make it smaller"
            )
        for index in range(_first(image), getattr(image, "n_frames", 1)):
            image.seek(index)
            image.load()
            planes = np.asarray(image.convert("RGBA")).transpose(2, 0, 1)
            yield planes, image.info.get("duration", 0)


def _parsed(path: Path) -> Gif:
    try:
        return parse_gif(path.read_bytes())
    except DECODER_ERRORS as error:
        raise broken_file(path, error) from error


def write_animation(
    path: Path,
    frames: Iterable[Frame],
    *,
    format: AnimationFormat | None = None,
    plays: int = 0,
    quality: int | None = None,
    icc: bytes | None = None,
) -> tuple[str, ...]:
    """Writes an animation, completely or not at all.

    GIF: each frame has its own palette: its colours if they are at most 256, otherwise the 256 of
    a median cut. Nothing is dithered, because the pattern of a dither changes from frame to frame
    and flickers. Pixels with alpha below 128 are transparent, all others opaque. Durations are
    multiples of 10 ms; what a frame loses by rounding is added to the next.

    Only the part of a frame that differs from the one before is stored.

    Args:
        path: The file; its folder is made if it is missing.
        frames: The frames, all of one size.
        format: gif, webp or apng; None: by the suffix.
        plays: How often it is shown; 0: without end.
        quality: Of WebP, 1 to 100, default 90; 100 is lossless.
        icc: Colour profile, for RGB; GIF has none.

    Returns:
        What the file does not hold as the frames have it, one sentence each.

    Raises:
        UserError: for an unknown format, no frame, frames of several sizes, or an impossible size.
        RunError: if the file cannot be written.
    """
    kind = format or animation_format_of(path)
    check_choice("format", kind, ANIMATION_SUFFIXES)
    if quality is not None and not 1 <= quality <= 100:
        raise UserError(f"quality is {quality}; expected 1 to 100")
    if not 0 <= plays <= 65535:
        raise UserError(f"plays is {plays}; expected 0 (without end) to 65535")
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise UserError(f"{path}: an animation needs at least one frame")
    height, width = first.pixels.shape[1:]
    limit = {"gif": 65535, "webp": 16383, "apng": 2**31 - 1}[kind]
    if max(height, width) > limit:
        raise UserError(
            f"{path}: {width}×{height} pixels; an animated {kind} holds at most {limit} on a side, "
            "use apng"
        )
    notes = []
    if icc and (kind == "gif" or Metadata(icc=icc).profile_channels != 3):
        notes.append(f"an animated {kind} does not hold this colour profile: it is left out")
        icc = None
    with replacing(path) as temporary, temporary.open("w+b") as file:
        if kind == "gif":
            writer = GifFile(file, width, height, plays)
        elif kind == "apng":
            writer = ApngFile(file, width, height, plays, icc)
        else:
            writer = WebpFile(file, width, height, plays, quality or 90, icc)
        for number, frame in enumerate(chain([first], remaining), 1):
            if frame.pixels.shape != (3, height, width):
                found = "×".join(map(str, frame.pixels.shape[:0:-1]))
                raise UserError(f"frame {number} is {found}; the first is {width}×{height}")
            opaque = np.full((1, height, width), 255, np.uint8)
            alpha = opaque if frame.alpha is None else frame.alpha
            writer.add(np.concatenate([frame.pixels, alpha]), frame.duration)
        writer.close()
    return (*notes, *writer.notes)


def animation_format_of(path: Path) -> AnimationFormat:
    """Returns the format of an animation to be written, by its suffix.

    Raises:
        UserError: for another suffix.
    """
    for kind, suffixes in ANIMATION_SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return kind  # type: ignore[return-value]  # the keys are those of AnimationFormat
    raise UserError(
        f"{path}: animations cannot be written as {path.suffix!r}; known are .gif, .webp, .apng "
        "and .png"
    )


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path, formats=_PILLOW_FORMATS)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too large ({error}); make it smaller") from error
    except DECODER_ERRORS as error:
        raise broken_file(path, error) from error


def _first(image: Image.Image) -> int:
    """Returns the first frame; an APNG may have a picture before it for other programs."""
    return int(bool(image.info.get("default_image", getattr(image, "default_image", False))))

"""Upscales animations: GIF, APNG and WebP."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from srtoolbox.errors import UserError
from srtoolbox.media.animation import (
    ANIMATION_SUFFIXES,
    AnimationInfo,
    Frame,
    animation_format_of,
    animation_info,
    read_frames,
    write_animation,
)
from srtoolbox.media.picture import as_type, resize_to
from srtoolbox.upscaling.options import UpscaleOptions
from srtoolbox.upscaling.result import Result, result_size
from srtoolbox.upscaling.upscaler import Upscaler
from srtoolbox.upscaling.windows import ClipFrame, ClipRestorer
from srtoolbox.utils.console import Progress

_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
_UNTIMED = Fraction(1, 10)  # seconds in a video; browsers show such frames of a GIF as long


def upscale_animation(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    options: UpscaleOptions,
    on_progress: Progress | None = None,
) -> Result:
    """Writes an enlarged animation with the durations, loops and transparency of its source.

    A network that doubles the frame rate halves the durations. A video has no transparency: it
    shows the frames on white.

    Args:
        upscaler: The networks.
        source: The animation.
        target: The file to write; its suffix chooses GIF, APNG, WebP, or a video (MP4, MOV, MKV).
        options: Size, frames, transparency, quality, and for a video the encoder.
        on_progress: Called with the number of finished and of all frames of the source.

    Raises:
        UserError: if the source cannot be read, is no animation, or the format of the target
            differs from ``anim_format`` or cannot hold the result; for a video if PyAV is missing.
        RunError: if memory does not suffice, or the file cannot be written.
    """
    info = animation_info(source)
    if info is None:
        raise UserError(f"{source}: is no animation; give it as a picture")
    is_video = target.suffix.lower() in _VIDEO_SUFFIXES
    _check_format(target, is_video, options)
    size = result_size(options, info.width, info.height, upscaler.scale)
    notes = list(info.notes)
    if size != (info.width * upscaler.scale, info.height * upscaler.scale):
        notes.append(f"the network enlarges by {upscaler.scale}; its result is resized")
    clip = _Clip(upscaler, source, info, options, size, on_progress)
    if is_video:
        size = _write_video(clip, target, options)
        if clip.is_transparent:
            notes.append("a video has no transparency: the frames are shown on white")
        if clip.is_untimed:
            notes.append("frames without a duration are shown for 100 ms")
        if info.plays != 1:
            notes.append("a video does not state how often it is shown")
        if info.icc:
            notes.append("a video does not hold the colour profile: it is left out")
    else:
        notes += write_animation(
            target, clip.frames(), plays=info.plays, quality=options.quality, icc=info.icc
        )
    return Result(target, *size, frames=clip.written, notes=tuple(notes))


def _check_format(target: Path, is_video: bool, options: UpscaleOptions) -> None:
    """Raises a UserError if the suffix of the target is unknown, or not as the options state."""
    kind = "mp4" if is_video else animation_format_of(target)
    if options.anim_format not in ("same", kind):
        suffix = ANIMATION_SUFFIXES.get(options.anim_format, (".mp4",))[-1]
        raise UserError(
            f"{target}: its suffix means {kind}, but --anim-format is {options.anim_format}; "
            f"name the file {target.stem}{suffix}, or leave out the option"
        )


@dataclass
class _Clip:
    """The enlarged frames of an animation, and what was seen while they were made.

    Attributes:
        written: Number of frames so far.
        is_transparent: Whether a frame has transparent pixels.
        is_untimed: Whether a frame has no duration.
    """

    upscaler: Upscaler
    source: Path
    info: AnimationInfo
    options: UpscaleOptions
    size: tuple[int, int]
    on_progress: Progress | None
    written: int = 0
    is_transparent: bool = False
    is_untimed: bool = False

    def frames(self) -> Iterator[Frame]:
        """Yields the enlarged frames; each shares the duration of its source with those after."""
        durations: deque[float] = deque()

        def clip() -> Iterator[ClipFrame]:
            for index, frame in enumerate(read_frames(self.source)):
                durations.append(frame.duration)
                self.is_untimed |= frame.duration <= 0
                alpha = None if self.options.alpha == "drop" else frame.alpha
                self.is_transparent |= alpha is not None
                yield ClipFrame(frame.pixels, index, alpha)

        time_scale = self.upscaler.time_scale
        for restored in ClipRestorer(self.upscaler, self.options).restore(clip()):
            assert restored is not None  # all frames are wanted
            pixels = as_type(resize_to(restored.pixels, *self.size), np.uint8)
            alpha = restored.alpha
            if alpha is not None:
                alpha = as_type(resize_to(alpha, *self.size), np.uint8)
            yield Frame(pixels, alpha, durations[0] / time_scale)
            self.written += 1
            if self.written % time_scale == 0:
                durations.popleft()
                if self.on_progress is not None:
                    self.on_progress(self.written // time_scale, self.info.num_frame)


def _write_video(clip: _Clip, target: Path, options: UpscaleOptions) -> tuple[int, int]:
    """Writes the frames to a video; returns width and height of the encoded frames."""
    from srtoolbox.media.video_encoder import EncoderOptions
    from srtoolbox.media.video_write import write_video

    def on_white() -> Iterator[tuple[np.ndarray, Fraction]]:
        for frame in clip.frames():
            pixels = frame.pixels
            if frame.alpha is not None:
                opacity = as_type(frame.alpha, np.float32)
                pixels = as_type(as_type(pixels, np.float32) * opacity + (1 - opacity), np.uint8)
            seconds = Fraction(frame.duration / 1000).limit_denominator(90_000)
            yield pixels, seconds if seconds > 0 else _UNTIMED / clip.upscaler.time_scale

    encoder = EncoderOptions(options.codec, options.crf, options.preset, options.pix_fmt)
    written = write_video(target, on_white(), encoder)
    return written.width, written.height

"""Writes frames that come from no video, for example those of an animation, to a video file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np

from srtoolbox.errors import RunError, UserError
from srtoolbox.media.output import replacing
from srtoolbox.media.video import import_av, open_video
from srtoolbox.media.video_colour import Colour
from srtoolbox.media.video_encoder import EncoderOptions, SegmentEncoder, pixel_format
from srtoolbox.media.video_join import FORMAT_OF_SUFFIX, can_hold, timed_packets
from srtoolbox.media.video_segments import Segment

_UNIT = Fraction(1, 90_000)  # seconds of a time stamp
_PIXEL_FORMAT = "yuv420p"  # every player shows it
_SRGB = Colour("rgb", True, 0, primaries=1, transfer=13, stated=True)


@dataclass(frozen=True)
class WrittenVideo:
    """A written video: number of frames, and size of the encoded frames in pixels."""

    frames: int
    width: int
    height: int


def write_video(
    path: Path,
    frames: Iterable[tuple[np.ndarray, Fraction]],
    options: EncoderOptions | None = None,
) -> WrittenVideo:
    """Writes a video without sound, completely or not at all.

    Frames keep their lengths, which may differ. A size that is odd gets one more row or column if
    the encoder needs it.

    Args:
        path: The file; its suffix (.mp4, .m4v, .mov, .mkv) chooses the format.
        frames: Pixels (3, H, W) in sRGB, uint8, uint16 or float32 in [0, 1], all of one size, and
            the time in seconds that each is shown.
        options: Of the encoder. The pixel format "same" is yuv420p.

    Raises:
        UserError: if PyAV is missing, there is no frame, or the options or the suffix do not fit.
        RunError: if frames differ in size, or the file cannot be written.
    """
    av = import_av()
    options = options or EncoderOptions()
    container = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if container is None:
        raise UserError(f"{path}: videos are written as {', '.join(FORMAT_OF_SUFFIX)}")
    layout = pixel_format(options, _PIXEL_FORMAT)
    if not can_hold(container, options.encoder):
        raise UserError(f"{path}: {container} cannot hold video of {options.encoder}; use .mkv")
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise UserError(f"{path}: a video needs at least one frame")
    shape = first[0].shape
    with replacing(path) as temporary:
        stored = temporary.with_name(f"{temporary.name[:-4]}.video.tmp")
        try:
            encoder = SegmentEncoder(
                *(stored, _SRGB, Fraction(1), options, layout, shape[2], shape[1], 1 / first[1])
            )
            pts, time = [], Fraction(0)
            try:
                for pixels, seconds in chain([first], remaining):
                    if pixels.shape != shape:
                        raise RunError(f"{path}: a frame is {pixels.shape}, the first is {shape}")
                    encoder.add(pixels)
                    pts.append(round(time / _UNIT))
                    time += seconds
                order = encoder.finish()
            except BaseException:
                encoder.abort()
                raise
            last = max(1, round(time / _UNIT) - pts[-1])
            segment = Segment(len(pts), pts, last, order, stored.stat().st_size, True)
            with (
                open_video(stored) as source,
                av.open(str(temporary.absolute()), "w", format=container) as result,
            ):
                old = source.streams.video[0]
                video = result.add_stream_from_template(old, opaque=True)
                video.time_base = _UNIT
                size = old.codec_context.width, old.codec_context.height
                try:
                    for _, packet in timed_packets([(stored, segment)], video, _UNIT):
                        result.mux(packet)
                except (ValueError, OSError) as error:
                    raise RunError(f"{path}: cannot be written as {container} ({error})") from error
        finally:
            stored.unlink(missing_ok=True)
    return WrittenVideo(len(pts), *size)

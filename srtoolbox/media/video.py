"""Reads videos: what a file holds, and its frames with exact time stamps.

Frames are upright RGB arrays in the order in which they are shown. The decoder is drained at the
end, so that the last frames of videos with B-frames are not lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from heapq import heapify, heappop, heappush
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srtoolbox.errors import UserError
from srtoolbox.media.video_colour import (
    Colour,
    FromFrame,
    Orientation,
    colour_of,
    depth,
    orientation_of,
    side_data_names,
)

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_log = logging.getLogger("srtoolbox")

_DEFAULT_RATE = Fraction(25)  # frames per second of a stream that states none
_SEEK_MARGIN = 2  # seconds before the wanted start
_RATE_SAMPLE = 240  # frames whose time stamps tell a constant from a variable rate


@dataclass(frozen=True)
class StreamInfo:
    """One stream of a file.

    Attributes:
        index: Number in the file.
        kind: "video", "audio", "subtitle", "attachment" or "data".
        codec: Name of the codec; of an attachment its file name.
        language: Three letters, or None.
        title: Title, or None.
    """

    index: int
    kind: str
    codec: str
    language: str | None
    title: str | None


@dataclass(frozen=True)
class VideoInfo:
    """A video file and its main video stream.

    Attributes:
        path: The file.
        container: FFmpeg's name of the file format.
        codec, pixel_format, bits: Name of codec and pixel format; bits per channel.
        width, height: Size of the stored frames.
        upright_width, upright_height: Size of the frames that are read.
        orientation: How stored frames become upright.
        rotation: Angle in degrees in the file, counter-clockwise, 0 to 359.
        colour: Matrix, range and tags.
        sample_aspect_ratio: Width of an upright pixel divided by its height.
        frames: Number of frames, or None if the file does not state it.
        rate: Average frames per second.
        time_base: Seconds of one unit of the time stamps.
        variable_rate: Whether the first frames are not equally long.
        duration: Seconds, or None if it is not known.
        origin: Seconds of the file's first time stamp in formats that start anywhere (MPEG-TS), 0
            in others. Time stamps of frames are relative to it.
        interlaced: Whether the first frame consists of two fields.
        side_data: FFmpeg's names of what the first frame carries besides pixels.
        streams: All streams.
        chapters: Number of chapters.
    """

    path: Path
    container: str
    codec: str
    pixel_format: str
    bits: int
    width: int
    height: int
    upright_width: int
    upright_height: int
    orientation: Orientation
    rotation: int
    colour: Colour
    sample_aspect_ratio: Fraction
    frames: int | None
    rate: Fraction
    time_base: Fraction
    variable_rate: bool
    duration: float | None
    origin: Fraction
    interlaced: bool
    side_data: tuple[str, ...]
    streams: tuple[StreamInfo, ...]
    chapters: int


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        pixels: (3, H, W), RGB, upright; uint8, or uint16 (white is 65535) above 8 bits.
        pts: Time stamp in units of the stream's time base, from the file's origin.
        duration: Length in the same units.
        index: Number of the frame from the first one that was asked for.
        wanted: False for a frame that only shows the surroundings of wanted frames.
    """

    pixels: np.ndarray
    pts: int
    duration: int
    index: int
    wanted: bool = True


def probe(path: Path, count: bool = False) -> VideoInfo:
    """Returns what a video file holds.

    Args:
        path: The file.
        count: Whether to read the whole file (without decoding it) to count its frames.

    Raises:
        UserError: if the file cannot be read, or has no video.
    """
    with open_video(path) as container:
        info = _inspect(container, path)
        if not count:
            return info
    with open_video(path) as container:
        stream = main_stream(container, path)
        number = sum(packet.size > 0 for packet in container.demux(stream))
    return replace(info, frames=number)


def read_frames(
    path: Path,
    start: float | str | Fraction | None = None,
    end: float | str | Fraction | None = None,
    info: VideoInfo | None = None,
    skip: int = 0,
) -> Iterator[Frame]:
    """Yields the frames of a video in the order in which they are shown.

    A missing time stamp is replaced by that of the frame before plus one frame's length, and one
    that does not increase by that of the frame before plus one unit, with one warning.

    Args:
        path: The file.
        start: Seconds from the file's origin; earlier frames are left out.
        end: Seconds; frames at this time and later are left out.
        info: The result of ``probe``, if it is known.
        skip: Number of first frames that are decoded but not yielded.

    Raises:
        UserError: if the file cannot be read, or has no video.
    """
    info = info or probe(path)
    first = None if start is None else ceil(seconds(start) / info.time_base)
    last = None if end is None else ceil(seconds(end) / info.time_base)
    convert = FromFrame(info.colour, info.orientation)
    index = 0
    for frame, pts, duration in _timed(path, info, first):
        if first is not None and pts < first:
            continue
        if last is not None and pts >= last:
            return
        if index >= skip:
            pixels = convert(frame, (info.width, info.height))
            yield Frame(pixels, pts, duration, index)
        index += 1


class IncreasingTimes:
    """Repairs time stamps that are missing or do not increase.

    Args:
        jump: A time stamp that is earlier than the last one by more begins a new part, as in files
            that were joined: it and all after it follow the last one.
        least: Smallest difference.
    """

    def __init__(self, jump: int, least: int = 1) -> None:
        self.jump = jump
        self.least = least
        self.repaired = False
        self._offset = 0
        self._last: int | None = None

    def next(self, time: int | None, step: int) -> int:
        """Returns the next time stamp.

        Args:
            time: As it is stored.
            step: Usual difference.
        """
        last = self._last
        if last is None:
            right = time or 0
        elif time is None:
            right = last + step
        elif time + self._offset < last - self.jump:
            right = last + step
            self._offset = right - time
        else:
            right = max(time + self._offset, last + self.least)
        self.repaired |= time is None or right != time
        self._last = right
        return right


def seconds(time: float | str | Fraction) -> Fraction:
    """Returns a time in seconds exactly as it is written in decimals."""
    return time if isinstance(time, Fraction) else Fraction(str(time))


def as_fraction(number: Any) -> Fraction | None:
    """Returns one of PyAV's rational numbers, or None where it is missing or has no denominator."""
    if number is None or not number.denominator:
        return None
    return Fraction(number.numerator, number.denominator)


@contextmanager
def open_video(path: Path) -> Iterator[InputContainer]:
    """Opens a file for reading.

    Raises:
        UserError: if PyAV is not installed, or it cannot read the file.
    """
    av = import_av()
    try:
        # An absolute path: FFmpeg takes "name:rest" for a protocol, and "-" for standard input.
        container = av.open(str(path.absolute()), metadata_errors="replace")
    except (OSError, ValueError) as error:  # PyAV's errors are also built-in ones
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read as a video ({reason}); is it damaged?") from None
    with container:
        yield container


def import_av() -> Any:
    """Returns the module ``av``.

    Raises:
        UserError: if PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError("reading videos needs PyAV; pip install srtoolbox[video]") from None
    return av


def main_stream(container: InputContainer, path: Path) -> VideoStream:
    """Returns the first video stream that is no cover picture.

    Raises:
        UserError: if there is none, or FFmpeg has no decoder for it.
    """
    from av.stream import Disposition

    videos = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not videos:
        raise UserError(f"{path}: has no video stream")
    if videos[0].codec_context is None:
        raise UserError(f"{path}: its video codec is not supported by PyAV; convert it first")
    return videos[0]


def _inspect(container: InputContainer, path: Path) -> VideoInfo:
    stream = main_stream(container, path)
    frame = next(_decoded(container, stream, path), None)
    if frame is None:
        raise UserError(f"{path}: has no frame that can be decoded; is it damaged?")
    orientation = orientation_of(frame)
    if orientation is None:
        _log.warning("%s: is turned by %s degrees; this is ignored", path, frame.rotation)
        orientation = Orientation()
    size = (frame.width, frame.height)
    ratio = as_fraction(stream.sample_aspect_ratio) or Fraction(1)
    if orientation.transpose:
        size, ratio = size[::-1], 1 / ratio
    rate = as_fraction(stream.average_rate) or as_fraction(stream.guessed_rate) or _DEFAULT_RATE
    time_base = as_fraction(stream.time_base) or 1 / rate
    length = container.duration  # microseconds
    duration = None if length is None else length / 1e6
    if stream.duration:
        duration = float(stream.duration * time_base)
    return VideoInfo(
        path=path,
        container=container.format.name,
        codec=stream.codec_context.name,
        pixel_format=frame.format.name,
        bits=depth(frame.format),
        width=frame.width,
        height=frame.height,
        upright_width=size[0],
        upright_height=size[1],
        orientation=orientation,
        rotation=int(frame.rotation) % 360,
        colour=colour_of(frame, str(path)),
        sample_aspect_ratio=ratio,
        frames=stream.frames or None,
        rate=rate,
        time_base=time_base,
        variable_rate=_has_variable_rate(path),
        duration=duration,
        origin=_origin(container),
        interlaced=bool(frame.interlaced_frame),
        side_data=side_data_names(frame),
        streams=tuple(_stream_info(one) for one in container.streams),
        chapters=len(container.chapters()),
    )


def _stream_info(stream: Any) -> StreamInfo:
    context = getattr(stream, "codec_context", None)
    name = context.name if context is not None else getattr(stream, "name", None)
    tags = stream.metadata
    return StreamInfo(
        stream.index, stream.type, name or "unknown", tags.get("language"), tags.get("title")
    )


def _origin(container: InputContainer) -> Fraction:
    from av.format import Flags

    starts_anywhere = container.format.flags & Flags.ts_discont.value
    if not starts_anywhere or container.start_time is None:
        return Fraction(0)
    return Fraction(container.start_time, 1_000_000)


def _has_variable_rate(path: Path) -> bool:
    """Returns whether the first frames differ in length by more than the rounding of the units."""
    times: list[int] = []
    with open_video(path) as container:
        for packet in container.demux(main_stream(container, path)):
            if packet.size and packet.pts is not None:
                times.append(packet.pts)
            if len(times) == _RATE_SAMPLE:
                break
    times.sort()
    # The order of storing is not that of showing: the last ones may miss a frame in between.
    lengths = [after - before for before, after in pairwise(times[:-16] or times)]
    return bool(lengths) and max(lengths) - min(lengths) > 1


def _timed(path: Path, info: VideoInfo, first: int | None) -> Iterator[tuple[VideoFrame, int, int]]:
    """Yields decoded frames with time stamps that increase, and lengths.

    With ``first`` it may begin later, but never after the first frame at that time or later.
    """
    step = max(1, round(1 / (info.rate * info.time_base)))
    shift = round(info.origin / info.time_base)
    margin = ceil(_SEEK_MARGIN / info.time_base)
    seek = first is not None and first > margin
    with open_video(path) as container:
        stream = main_stream(container, path)
        frames = _decoded(container, stream, path)
        if seek and first is not None:
            container.seek(first - margin + shift, backward=True, any_frame=False, stream=stream)
            head = next(frames, None)
            # Some formats have no index: then the place is not exact, or unknown.
            if head is None or head.pts is None or head.pts - shift > first:
                yield from _timed(path, info, None)
                return
            frames = _chain(head, frames)
        times = IncreasingTimes(round(1 / info.time_base))
        warned = False
        for frame in frames:
            pts = times.next(None if frame.pts is None else frame.pts - shift, step)
            if times.repaired and not warned:
                warned = True
                _log.warning(
                    "%s: time stamps are missing or do not increase; they are repaired", path
                )
            yield frame, pts, frame.duration or step


def _chain(head: VideoFrame, rest: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    yield head
    yield from rest


def _decoded(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[VideoFrame]:
    """Yields all frames of a stream. Packets that cannot be decoded cost one warning.

    AVI stores no time of showing, and FFmpeg's guess is wrong with B-frames. The times of its
    packets are right, in another order: each frame gets the smallest one that is left.
    """
    from av.error import InvalidDataError

    stream.thread_type = "AUTO"
    sort_times = container.format.name == "avi"
    times: list[int] = []
    damaged = 0
    # The last packet of a stream is empty: it drains the decoder.
    for packet in container.demux(stream):
        time = packet.dts if sort_times and packet.size else None
        if time is not None:
            heappush(times, time)
        try:
            frames = packet.decode()
        except InvalidDataError:
            damaged += 1
            if time is not None:
                times.remove(time)
                heapify(times)
            continue
        for frame in frames:
            if times:
                frame.pts = heappop(times)
            yield frame
    if damaged:
        _log.warning("%s: %d damaged packets are left out", path, damaged)

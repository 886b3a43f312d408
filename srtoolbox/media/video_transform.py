"""Transforms a video frame by frame: decode, transform, encode, and join with sound and the rest.

The video is encoded in segments of a few seconds that are finished one by one. A killed job
continues after its last finished segment, and its result equals that of an unbroken job: in both,
transform and encoder start anew at each segment, and the transform sees the same neighbours.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from srtoolbox.errors import RunError, UserError
from srtoolbox.media.output import give_name, unfinished_files
from srtoolbox.media.video import Frame, VideoInfo, import_av, probe, read_frames, seconds
from srtoolbox.media.video_encoder import (
    EncoderOptions,
    SegmentEncoder,
    has_alpha,
    pixel_format,
)
from srtoolbox.media.video_join import Plan, join, plan_streams
from srtoolbox.media.video_segments import Segment, SegmentStore, remove_files, source_key
from srtoolbox.utils.console import Progress
from srtoolbox.utils.files import locked

_log = logging.getLogger("srtoolbox")

_LOST = {
    "MASTERING_DISPLAY_METADATA": "the mastering display's colours (HDR10)",
    "CONTENT_LIGHT_LEVEL": "light levels (HDR10)",
    "DYNAMIC_HDR_PLUS": "HDR10+ data",
    "DOVI_METADATA": "Dolby Vision data",
    "A53_CC": "closed captions in the video",
}

_MISSING = 1.0  # seconds without frames at the end that are worth a message

Transform = Callable[[Iterator[Frame]], Iterable["np.ndarray | None"]]
"""Maps the frames of a segment to ``time_scale`` arrays (3, H, W) for each of them, in order."""


@dataclass(frozen=True)
class VideoResult:
    """The written file.

    Attributes:
        path: The file; its suffix may differ from the one that was asked for.
        frames_in, frames_out: Number of frames.
        width, height: Size of the encoded frames.
        messages: What the user must know, in sentences.
    """

    path: Path
    frames_in: int
    frames_out: int
    width: int
    height: int
    messages: tuple[str, ...]


def transform_video(
    source: Path,
    target: Path,
    transform: Transform,
    *,
    time_scale: int = 1,
    context: int = 0,
    codec: str = "libx264",
    crf: float | None = None,
    preset: str | None = None,
    pix_fmt: str = "same",
    container: str = "auto",
    start: float | str | None = None,
    end: float | str | None = None,
    segment_seconds: float = 10.0,
    work_folder: Path | None = None,
    key: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> VideoResult:
    """Writes a transformed video with the sound, subtitles, chapters and attachments of its source.

    ``transform`` is called once per segment. It gets an iterator of frames and yields, for each
    frame in order, ``time_scale`` arrays (3, H', W'), RGB: uint8, uint16 (white is 65535) or
    float32 in [0, 1], all of one size. The first array of a frame keeps its time stamp, the others
    lie between it and the next. The segment's frames come with up to ``context`` frames before and
    after them, whose ``wanted`` is False; their outputs are dropped and may be None. So a window of
    2 n + 1 frames needs ``context=n`` and does not see the segment's borders.

    The same call continues a killed job. Its result equals an unbroken one on the same machine.
    Other settings, another ``key`` or a changed source start a new job.

    Args:
        source: A video.
        target: The result. It is replaced when the new one is whole.
        transform: See above.
        time_scale: Frames of the result for each frame of the source.
        context: Frames before and after a segment that the transform needs.
        codec: Encoder: "libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1", …
        crf: Constant quality; None: nearly without visible loss.
        preset: The encoder's trade of time for size.
        pix_fmt: "same" or a pixel format. A size that is odd gets one more row or column if the
            encoder needs it.
        container: "auto" (by the suffix; Matroska if that cannot hold a stream), "mkv" or "mp4".
        start, end: Seconds; the result begins at zero.
        segment_seconds: Length of a segment.
        work_folder: For finished segments; by default a hidden folder beside ``target``. It is
            removed at the end.
        key: What the transform depends on, as JSON: for example a hash of the weights.
        on_progress: Called with the number of finished and of all frames of the source (the
            latter is expected by length and rate).

    Raises:
        UserError: if the source cannot be read, an option is wrong, or another process works in
            ``work_folder``.
        RunError: if the transform's output does not fit, or the result cannot be written.
    """
    if time_scale < 1 or context < 0 or segment_seconds <= 0:
        raise UserError(
            f"time_scale {time_scale} must be at least 1, context {context} at least 0 and "
            f"segment_seconds {segment_seconds} positive"
        )
    av = import_av()
    info = probe(source)
    options = EncoderOptions(codec, crf, preset, pix_fmt)
    layout = pixel_format(options, info.pixel_format)
    plan = plan_streams(info, target, container, options.encoder)
    if plan.path.exists() and plan.path.samefile(source):
        raise UserError(f"{target}: is the source itself; choose another name")
    plan.messages += _limits(info)
    for message in plan.messages:
        _log.warning("%s: %s", source, message)
    begin = Fraction(0) if start is None else seconds(start)
    stop = None if end is None else seconds(end)
    if stop is not None and stop <= begin:
        raise UserError(f"end {end} must be after start {start or 0}")
    folder = work_folder or _work_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    manifest = {
        "source": source_key(source),
        "encoder": asdict(options),
        "layout": layout,
        "time_scale": time_scale,
        "context": context,
        "start": str(begin),
        "end": str(stop),
        "segment_seconds": segment_seconds,
        "transform": dict(key or {}),
        "av": av.__version__,
    }
    total = expected_frames(info, begin, stop)
    job = _Job(info, transform, options, layout, time_scale, context, begin, stop, total)
    try:
        with locked(folder):
            store = SegmentStore(folder, manifest)
            try:
                segments = _encode_segments(job, store, seconds(segment_seconds), on_progress)
                files = [(store.path(number), segment) for number, segment in enumerate(segments)]
                size = probe(files[0][0])
                _write_result(job, plan, files)
            except BaseException:
                if store.finished():
                    raise  # the next call continues
                _remove_work(store)
                raise
            _remove_work(store)
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    _check_length(job, segments, plan)
    return VideoResult(
        path=plan.path,
        frames_in=sum(segment.frames for segment in segments),
        frames_out=sum(len(segment.pts) for segment in segments),
        width=size.width,
        height=size.height,
        messages=tuple(plan.messages),
    )


def _check_length(job: _Job, segments: list[Segment], plan: Plan) -> None:
    """Adds a message if the source states that it is longer than its frames last."""
    info, last = job.info, segments[-1]
    if info.duration is None or job.end is not None:
        return
    unit = info.time_base / job.time_scale
    ends = float(job.start + (last.pts[-1] + last.duration) * unit)
    if info.duration - ends > _MISSING:
        message = (
            f"the file states {info.duration:.1f} s, but its frames end after {ends:.1f} s; "
            "is it truncated?"
        )
        _log.warning("%s: %s", info.path, message)
        plan.messages.append(message)


def _write_result(job: _Job, plan: Plan, files: list[tuple[Path, Segment]]) -> None:
    """Joins the segments; the result gets its name when it is whole and on the disk."""
    temporary = plan.path.with_name(f".{plan.path.name}.{secrets.token_hex(4)}.tmp")
    _remove_torn(plan.path)
    try:
        unit = job.info.time_base / job.time_scale
        join(job.info, plan, temporary, files, unit, job.start, job.end)
        _sync(temporary)
        give_name(temporary, plan.path)
    finally:
        temporary.unlink(missing_ok=True)


def _work_folder(target: Path) -> Path:
    return target.with_name(f".{target.name}.segments")


def remove_segments(target: Path) -> None:
    """Removes the segments of a result that is finished, if a job was killed before it did."""
    folder = _work_folder(target)
    if folder.is_dir():
        with suppress(UserError), locked(folder):  # another process uses it
            remove_files(folder)
            (folder / ".lock").unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _remove_work(store: SegmentStore) -> None:
    store.remove_files()
    (store.folder / ".lock").unlink(missing_ok=True)


def expected_frames(info: VideoInfo, start: Fraction, end: Fraction | None = None) -> int:
    """Returns how many frames of the source lie between start and end, as far as is known."""
    if start == 0 and end is None and info.frames is not None:
        return info.frames
    length = None if info.duration is None else Fraction(info.duration)
    stop = min((time for time in (length, end) if time is not None), default=start)
    return max(0, round((stop - start) * info.rate))


def _limits(info: VideoInfo) -> list[str]:
    """Returns sentences on properties of the source that the result lacks."""
    messages = []
    if info.interlaced:
        messages.append("the video is interlaced; its frames are used as they are stored")
    if has_alpha(import_av().VideoFormat(info.pixel_format)):
        messages.append("alpha is left out")
    lost = [text for name, text in _LOST.items() if name in info.side_data]
    if lost:
        messages.append(f"{', '.join(lost)} cannot be written by PyAV and are left out")
    return messages


@dataclass(frozen=True)
class _Job:
    info: VideoInfo
    transform: Transform
    options: EncoderOptions
    layout: str
    time_scale: int
    context: int
    start: Fraction
    end: Fraction | None
    total: int


def _encode_segments(
    job: _Job, store: SegmentStore, length: Fraction, on_progress: Progress | None
) -> list[Segment]:
    """Encodes the segments that are not finished; returns all."""
    segments = store.finished()
    done = sum(segment.frames for segment in segments)
    if segments and on_progress is not None:
        on_progress(done, max(done, job.total))
    if segments and segments[-1].last:
        return segments
    skip = max(0, done - job.context)
    start = None if job.start == 0 else job.start
    # Decoded again from the start: a jump into the file could change pixels and time stamps.
    frames = _Frames(read_frames(job.info.path, start, job.end, job.info, skip), job.context)
    for _ in range(done - skip):
        frames.pop()
    if frames.peek(0) is None and not segments:
        raise UserError(f"{job.info.path}: has no frame between start and end")
    while frames.peek(0) is not None:
        number = len(segments)
        segment = _encode_segment(job, store, number, frames, length, done, on_progress)
        segments.append(segment)
        done += segment.frames
    return segments


def _encode_segment(
    job: _Job,
    store: SegmentStore,
    number: int,
    frames: _Frames,
    length: Fraction,
    done: int,
    on_progress: Progress | None,
) -> Segment:
    """Encodes the frames from the next one on that fill one segment."""
    scale = job.time_scale
    units = length / job.info.time_base
    shift = round(job.start / job.info.time_base)
    dropped = len(frames.before) * scale  # outputs of frames before the segment
    waiting: deque[int] = deque()  # time stamps of frames whose outputs are still to come
    pts: list[int] = []
    count, last_duration, fed_all = 0, 1, False

    def segment_frames() -> Iterator[Frame]:
        nonlocal count, last_duration, fed_all
        yield from [replace(frame, wanted=False) for frame in frames.before]
        first = frames.peek(0)
        assert first is not None
        while (frame := frames.peek(0)) is not None and frame.pts - first.pts < units:
            frames.pop()
            after = frames.peek(0)
            duration = frame.duration if after is None else after.pts - frame.pts
            for part in range(scale):
                waiting.append((frame.pts - shift) * scale + part * duration)
            last_duration = duration
            count += 1
            yield frame
        fed_all = True
        for place in range(job.context):
            if (frame := frames.peek(place)) is None:
                return
            yield replace(frame, wanted=False)

    outputs = iter(job.transform(segment_frames()))
    encoder: SegmentEncoder | None = None
    shape: tuple[int, ...] = ()
    temporary = store.temporary(number)
    try:
        for output in outputs:
            if dropped:
                dropped -= 1
                continue
            if not waiting:
                if fed_all:
                    break  # the rest belongs to frames after the segment
                raise RunError("the transform yields more frames than it was given")
            if encoder is None:
                shape = _checked(output, None).shape
                rate = job.info.rate * scale
                look = job.info.colour, job.info.sample_aspect_ratio
                encoder = SegmentEncoder(
                    *(temporary, *look, job.options, job.layout, shape[2], shape[1], rate)
                )
            encoder.add(_checked(output, shape))
            pts.append(waiting.popleft())
            if on_progress is not None and len(pts) % scale == 0:
                now = done + len(pts) // scale
                on_progress(now, max(now, job.total))
        if not fed_all or waiting or encoder is None:
            raise RunError(
                f"the transform yields {len(pts)} frames for {count}, not {count * scale}"
            )
        order = encoder.finish()
    except BaseException:
        if encoder is not None:
            encoder.abort()
        temporary.unlink(missing_ok=True)
        raise
    segment = Segment(
        frames=count,
        pts=pts,
        duration=max(1, last_duration),
        order=order,
        size=temporary.stat().st_size,
        last=frames.peek(0) is None,
    )
    store.add(number, segment)
    return segment


class _Frames:
    """Frames with a look ahead, and the last ``keep`` ones that were taken."""

    def __init__(self, frames: Iterator[Frame], keep: int) -> None:
        self._frames = frames
        self._ahead: deque[Frame] = deque()
        self.before: deque[Frame] = deque(maxlen=keep)

    def peek(self, place: int) -> Frame | None:
        """Returns the frame after ``place`` others, or None after the end."""
        while len(self._ahead) <= place:
            frame = next(self._frames, None)
            if frame is None:
                return None
            self._ahead.append(frame)
        return self._ahead[place]

    def pop(self) -> None:
        """Takes one frame."""
        if self.peek(0) is not None:
            self.before.append(self._ahead.popleft())


def _checked(output: np.ndarray | None, shape: tuple[int, ...] | None) -> np.ndarray:
    """Returns an output of the transform that can be encoded."""
    if not isinstance(output, np.ndarray):
        raise RunError(f"the transform yields {type(output).__name__} for a wanted frame")
    if output.ndim != 3 or output.shape[0] != 3 or (shape and output.shape != shape):
        raise RunError(f"the transform yields {output.shape}, not {shape or '(3, height, width)'}")
    if output.dtype not in (np.uint8, np.uint16, np.float32):
        raise RunError(f"the transform yields {output.dtype}, not uint8, uint16 or float32")
    return output


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_torn(target: Path) -> None:
    """Removes unfinished results of killed jobs with the same target. The caller holds the lock."""
    for path in unfinished_files(target.parent).get(target.name, []):
        path.unlink(missing_ok=True)

"""Joins encoded video with all other streams of the source, without encoding anything again.

Packets of audio and subtitles are copied bit by bit; chapters, attachments, cover pictures and
metadata are kept. A container that cannot hold a stream is replaced by Matroska, which can.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from srtoolbox.errors import RunError, UserError, check_choice
from srtoolbox.media.video import (
    IncreasingTimes,
    VideoInfo,
    as_fraction,
    import_av,
    main_stream,
    open_video,
)
from srtoolbox.media.video_segments import Segment

_log = logging.getLogger("srtoolbox")

CONTAINERS = ("auto", "mkv", "mp4")
FORMAT_OF_SUFFIX = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_MIME_OF_COVER = {"png": "image/png", "mjpeg": "image/jpeg", "bmp": "image/bmp"}
_SUFFIX_OF_COVER = {"png": "png", "mjpeg": "jpg", "bmp": "bmp"}
# Tags of the old file or of the old video packets; the new ones are written by the container.
_FILE_TAGS = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration")
_VIDEO_TAGS = ("encoder", "rotate", "duration", "vendor_id", "bps", "number_of_", "_statistics_")
_TAIL = 10  # seconds after the end at which packets of other streams may still be needed


@dataclass
class Plan:
    """Which container the result has, and what happens to the streams of the source.

    Attributes:
        path: The file of the result.
        format: FFmpeg's name of its format.
        copied: Indices of streams whose packets are copied.
        as_text: Indices of MP4 subtitles that become plain text subtitles.
        attached: Indices of attachments and cover pictures that become attachments.
        dropped: Indices of streams that no container here can hold.
        messages: What the user must know, in sentences.
    """

    path: Path
    format: str
    copied: list[int] = field(default_factory=list)
    as_text: list[int] = field(default_factory=list)
    attached: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


def plan_streams(info: VideoInfo, target: Path, container: str, encoder: str) -> Plan:
    """Chooses the container of the result.

    Args:
        info: The source.
        target: The file that was asked for.
        container: "mkv"; "mp4", which fails if MP4 cannot hold all streams; or "auto": by the
            suffix of ``target``, and Matroska if that cannot hold all streams.
        encoder: Name of the encoder of the video.

    Raises:
        UserError: if ``container`` is "mp4" and cannot hold a stream or the video.
    """
    check_choice("container", container, CONTAINERS)
    suffix = target.suffix.lower()
    if container == "auto":
        wanted = FORMAT_OF_SUFFIX.get(suffix, "matroska")
    else:
        wanted = "matroska" if container == "mkv" else "mp4"
    with open_video(info.path) as source:
        main = main_stream(source, info.path).index
        plan = _plan(source, main, target, wanted, encoder)
        lost = [one for one in plan.dropped if source.streams[one].type != "data"]
        names = ", ".join(_describe(source.streams[one]) for one in lost)
        if wanted != "matroska" and (lost or not can_hold(wanted, encoder)):
            reason = names or f"video of {encoder}"
            if container == "mp4":
                raise UserError(
                    f"{info.path}: MP4 cannot hold {reason}; use --container mkv or auto"
                )
            plan = _plan(source, main, target, "matroska", encoder)
            plan.messages.insert(
                0, f"{wanted.upper()} cannot hold {reason}: the result is {plan.path.name}"
            )
        elif container == "auto" and suffix not in FORMAT_OF_SUFFIX:
            plan.messages.insert(
                0, f"videos are written as MKV, MP4 or MOV: the result is {plan.path.name}"
            )
        for index in plan.dropped:
            text = _describe(source.streams[index])
            plan.messages.append(f"{plan.path.name} cannot hold {text}: it is left out")
        for index in plan.as_text:
            text = _describe(source.streams[index])
            plan.messages.append(f"{text} becomes plain text (SubRip) in {plan.path.name}")
    return plan


def _plan(source: Any, main: int, target: Path, wanted: str, encoder: str) -> Plan:
    suffixes = [suffix for suffix, name in FORMAT_OF_SUFFIX.items() if name == wanted]
    fits = target.suffix.lower() in suffixes
    plan = Plan(target if fits else target.with_suffix(suffixes[0]), wanted)
    av = import_av()
    chapter_tracks = bool(source.chapters())
    for stream in source.streams:
        if stream.index == main:
            continue
        is_cover = bool(stream.disposition & av.stream.Disposition.attached_pic)
        context = getattr(stream, "codec_context", None)
        codec = context.name if context is not None else None
        if stream.type == "attachment" or (is_cover and wanted == "matroska"):
            holds = wanted == "matroska" and (not is_cover or codec in _MIME_OF_COVER)
            (plan.attached if holds else plan.dropped).append(stream.index)
        elif stream.type == "data":
            # MP4 stores the titles of chapters in such a stream; they are kept as chapters.
            if not (chapter_tracks and getattr(stream, "name", None) == "bin_data"):
                plan.dropped.append(stream.index)
        elif codec is not None and can_hold(wanted, codec):
            plan.copied.append(stream.index)
        elif codec == "mov_text" and wanted == "matroska":
            plan.as_text.append(stream.index)
        else:
            plan.dropped.append(stream.index)
    return plan


def can_hold(format_name: str, codec: str) -> bool:
    av = import_av()
    with av.open("unwritten", "w", format=format_name) as scratch:  # no file before a packet
        return codec in scratch.supported_codecs


def _describe(stream: Any) -> str:
    context = getattr(stream, "codec_context", None)
    name = context.name if context is not None else getattr(stream, "name", None)
    return f"{stream.type} {stream.index} ({name or 'unknown'})"


def join(
    info: VideoInfo,
    plan: Plan,
    output: Path,
    segments: Sequence[tuple[Path, Segment]],
    time_base: Fraction,
    start: Fraction,
    end: Fraction | None,
) -> None:
    """Writes the result.

    Args:
        info: The source.
        plan: From ``plan_streams``.
        output: The file to write.
        segments: Files and records of the encoded video.
        time_base: Seconds of one unit of the segments' time stamps, which begin at ``start``.
        start: Seconds from the source's origin that become the result's zero.
        end: Seconds at which the other streams end, or None.

    Raises:
        RunError: if segments do not fit together, or FFmpeg cannot write the file.
    """
    av = import_av()
    # Without it Matroska has random numbers of file and tracks, and no two results are equal.
    options = {"fflags": "+bitexact"} if plan.format == "matroska" else {}
    with (
        open_video(info.path) as source,
        open_video(segments[0][0]) as first,
        av.open(str(output.absolute()), "w", format=plan.format, options=options) as result,
    ):
        old_video = main_stream(source, info.path)
        video = result.add_stream_from_template(first.streams.video[0], opaque=True)
        video.time_base = time_base
        video.disposition = old_video.disposition
        _copy_tags(old_video.metadata, video.metadata, _VIDEO_TAGS)
        outputs = {}
        for index in sorted(plan.copied + plan.as_text):
            stream = source.streams[index]
            outputs[index] = _add_copy(result, stream, index in plan.as_text)
        covers = []
        for index in plan.attached:
            stream = source.streams[index]
            if stream.type == "attachment":
                _add_attachment(result, stream)
            else:
                covers.append(index)
        if covers:
            _add_covers(result, info.path, covers)
        _copy_tags(source.metadata, result.metadata, _FILE_TAGS)
        result.set_chapters(_chapters(source.chapters(), info.origin + start, end, start))
        copied = _copied(source, info, plan, outputs, start, end)
        encoded = timed_packets(segments, video, time_base)
        try:
            for _, packet in heapq.merge(encoded, copied, key=lambda pair: pair[0]):
                result.mux(packet)
        except (ValueError, OSError) as error:
            raise RunError(f"{plan.path}: cannot be written as {plan.format} ({error})") from error


def _add_copy(result: Any, stream: Any, as_text: bool) -> Any:
    if as_text:
        output = result.add_mux_stream("subrip")
        output.time_base = as_fraction(stream.time_base)
    else:
        output = result.add_stream_from_template(stream, opaque=True)
    output.disposition = stream.disposition
    _copy_tags(stream.metadata, output.metadata, ("encoder", "duration", "vendor_id"))
    return output


def _add_attachment(result: Any, stream: Any) -> None:
    tags = stream.metadata
    output = result.add_attachment(
        stream.name or f"attachment {stream.index}",
        stream.mimetype or "application/octet-stream",
        stream.data,
    )
    output.metadata.update({"filename": stream.name or f"attachment {stream.index}", **tags})


def _add_covers(result: Any, path: Path, indices: list[int]) -> None:
    with open_video(path) as source:
        for index in indices:
            stream = source.streams[index]
            codec = stream.codec_context.name
            packet = next((one for one in source.demux(stream) if one.size), None)
            if packet is not None:
                name = stream.metadata.get("filename", f"cover.{_SUFFIX_OF_COVER[codec]}")
                mime = stream.metadata.get("mimetype", _MIME_OF_COVER[codec])
                result.add_attachment(name, mime, bytes(packet))
            source.seek(0)


def _copy_tags(old: dict[str, str], new: dict[str, str], without: tuple[str, ...]) -> None:
    new.update({name: text for name, text in old.items() if not name.lower().startswith(without)})


def _chapters(
    chapters: Sequence[Any], shift: Fraction, end: Fraction | None, start: Fraction
) -> list[dict[str, Any]]:
    """Returns the chapters between start and end, from the result's zero."""
    kept = []
    for chapter in chapters:
        unit = as_fraction(chapter["time_base"]) or Fraction(1, 1000)
        moved = [chapter[side] - round(shift / unit) for side in ("start", "end")]
        limit = moved[1] if end is None else min(moved[1], round((end - start) / unit))
        first = max(0, moved[0])
        if limit > first:
            times = {"start": first, "end": limit, "time_base": unit}
            kept.append({**chapter, **times})
    return kept


def timed_packets(
    segments: Sequence[tuple[Path, Segment]], video: Any, time_base: Fraction
) -> Iterator[tuple[float, Any]]:
    """Yields the packets of all segments with their time stamps.

    The time of decoding of packet i is the time of showing of frame i - d, where d is the smallest
    number with which no frame is shown before it is decoded.
    """
    pts = np.concatenate([np.array(one.pts, np.int64) for _, one in segments])
    starts = np.cumsum([0, *(len(one.pts) for _, one in segments)])
    order = np.concatenate(
        [np.array(one.order, np.int64) + at for (_, one), at in zip(segments, starts, strict=False)]
    )
    delay = int((np.arange(len(order)) - order).max())
    step = int(pts[1] - pts[0]) if len(pts) > 1 else segments[-1][1].duration
    before = pts[0] - step * np.arange(delay, 0, -1)
    dts = np.concatenate((before, pts))[: len(pts)]
    lengths = np.append(np.diff(pts), segments[-1][1].duration)
    extradata = None
    number = 0
    for path, segment in segments:
        with open_video(path) as container:
            stream = container.streams.video[0]
            own = stream.codec_context.extradata
            if number and own != extradata:
                raise RunError(
                    f"{path}: the encoder made a segment that does not fit the first one; "
                    "use another codec, or one segment for the whole video"
                )
            extradata = own
            count = 0
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                if count == len(segment.order):
                    raise RunError(f"{path}: has more packets than its record")
                frame = order[number]
                packet.time_base = time_base
                packet.pts, packet.dts = int(pts[frame]), int(dts[number])
                packet.duration = int(lengths[frame])
                packet.stream = video
                number += 1
                count += 1
                yield float(packet.dts * time_base), packet
        if count != len(segment.order):
            raise RunError(f"{path}: has {count} packets instead of {len(segment.order)}")


def _copied(
    source: Any,
    info: VideoInfo,
    plan: Plan,
    outputs: dict[int, Any],
    start: Fraction,
    end: Fraction | None,
) -> Iterator[tuple[float, Any]]:
    """Yields the packets of all other streams, from the result's zero."""
    if not outputs:
        return
    shift = info.origin + start
    times: dict[int, IncreasingTimes] = {}
    warned = False
    reached = 0.0
    for packet in source.demux([source.streams[index] for index in outputs]):
        if not packet.size:
            continue
        index = packet.stream_index
        unit = as_fraction(packet.time_base) or as_fraction(source.streams[index].time_base)
        if unit is None:
            raise RunError(f"{info.path}: stream {index} has no unit of time")
        if index not in times:
            least = 0 if plan.format == "matroska" else 1
            times[index] = IncreasingTimes(round(1 / unit), least)
        stored = packet.dts if packet.dts is not None else packet.pts
        dts = times[index].next(stored, packet.duration or 1)
        pts = dts if packet.pts is None or stored is None else packet.pts + dts - stored
        if times[index].repaired and not warned:
            warned = True
            _log.warning("%s: time stamps of stream %d are repaired", info.path, index)
        if end is not None and float(dts * unit) > float(info.origin + end) + _TAIL:
            break
        if end is not None and pts >= ceil((info.origin + end) / unit):
            continue
        offset = round(shift / unit)
        if start > 0 and pts < ceil(shift / unit):
            # A subtitle that began earlier may still be shown.
            is_text = source.streams[index].type == "subtitle"
            left = pts + (packet.duration or 0) - offset
            if not is_text or left <= 0:
                continue
            packet.duration, pts, dts = left, offset, offset
        pts, dts = pts - offset, dts - offset
        if _is_mov_text(source.streams[index]) and not _text_of(bytes(packet)):
            continue  # the end of a text: MP4 writes it by itself, Matroska needs none
        if index in plan.as_text:
            packet = _packet_like(packet, _text_of(bytes(packet)))
        packet.pts, packet.dts, packet.time_base = pts, dts, unit
        packet.stream = outputs[index]
        reached = max(reached, float(dts * unit))
        yield reached, packet


def _is_mov_text(stream: Any) -> bool:
    """Returns whether a stream has subtitles of MP4."""
    context = stream.codec_context
    return context is not None and context.name == "mov_text"


def _text_of(payload: bytes) -> bytes:
    """Returns the text of a packet of MP4 subtitles: two bytes of length, text, styles."""
    return payload[2 : 2 + int.from_bytes(payload[:2], "big")]


def _packet_like(packet: Any, payload: bytes) -> Any:
    av = import_av()
    made = av.Packet(payload)
    made.duration = packet.duration
    made.is_keyframe = True
    return made

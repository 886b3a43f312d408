"""Small videos made by PyAV, and how tests look at their packets and frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

MOVIE = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov", ".avi": "avi", ".ts": "mpegts"}
MOVIE[".h264"] = "h264"  # no container: no time stamps


@dataclass
class Clip:
    """A video to make.

    Attributes:
        frames: Number of frames.
        size: Width and height.
        pts: Time stamps in units of ``time_base``; by default one unit per frame.
        audio: Codec of a tone, or None.
        subtitles: Codec of two subtitle streams, or None.
        chapters, attachment: Whether the file has two chapters, and a text file.
        rotation: Degrees, counter-clockwise.
        tags: Colour tags (matrix, range, primaries, transfer).
    """

    frames: int = 12
    size: tuple[int, int] = (64, 48)
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "12", "bf": "0"})
    time_base: Fraction = Fraction(1, 25)
    pts: Sequence[int] | None = None
    audio: str | None = None
    subtitles: str | None = None
    chapters: bool = False
    attachment: bool = False
    rotation: int | None = None
    mirrored: bool = False
    ratio: Fraction | None = None
    tags: tuple[int, int, int, int] | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def make(self, path: Path) -> Path:
        """Writes the file."""
        import av

        with av.open(str(path), "w", format=MOVIE[path.suffix.lower()]) as file:
            rate = 1 / self.time_base if self.pts is None else Fraction(25)
            video = file.add_stream(self.codec, rate=rate, options=self.options)
            video.width, video.height = self.size
            video.pix_fmt = self.pix_fmt
            video.codec_context.time_base = self.time_base
            video.time_base = self.time_base
            if self.ratio is not None:
                video.codec_context.sample_aspect_ratio = self.ratio
            if self.tags is not None:
                context = video.codec_context
                context.colorspace, context.color_range = self.tags[:2]
                context.color_primaries, context.color_trc = self.tags[2:]
            if self.rotation is not None or self.mirrored:
                video.set_display_rotation(self.rotation or 0, hflip=self.mirrored)
            sound = self._add_audio(file)
            texts = [self._add_subtitle(file, language) for language in ("deu", "zho")]
            if self.attachment:
                file.add_attachment("notes é.txt", "text/plain", b"kept as it is\n")
            if self.chapters:
                file.set_chapters(_chapters())
            file.metadata.update(self.metadata)
            for packet in sorted(self._packets(video, sound, texts), key=_time):
                file.mux(packet)
        return path

    def _packets(self, video: Any, sound: Any, texts: list[Any]) -> Iterator[Any]:
        for number, image in enumerate(pictures(self.frames, self.size)):
            frame = self._frame(image)
            frame.pts = number if self.pts is None else self.pts[number]
            frame.time_base = self.time_base
            yield from video.encode(frame)
        yield from video.encode(None)
        if sound is not None:
            yield from _tone(sound, self.seconds)
        for stream in texts:
            if stream is not None:
                yield from _subtitles(stream, self.subtitles == "mov_text")

    @property
    def seconds(self) -> float:
        last = self.frames if self.pts is None else self.pts[-1] + 1
        return float(last * self.time_base)

    def _frame(self, image: np.ndarray) -> Any:
        import av

        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        matrix, full = (self.tags or (6, 1))[:2]
        swscale = {1: 1, 5: 5, 6: 5, 9: 9}[matrix]
        made = frame.reformat(
            format=self.pix_fmt, dst_colorspace=swscale, src_color_range=2, dst_color_range=full
        )
        if self.tags is not None:
            made.colorspace, made.color_range = self.tags[:2]
            made.color_primaries, made.color_trc = self.tags[2:]
        return made

    def _add_audio(self, file: Any) -> Any:
        if self.audio is None:
            return None
        stream = file.add_stream(self.audio, rate=48000, layout="stereo")
        stream.metadata["language"] = "fra"
        return stream

    def _add_subtitle(self, file: Any, language: str) -> Any:
        if self.subtitles is None:
            return None
        stream = file.add_mux_stream(self.subtitles)
        stream.time_base = Fraction(1, 1000)
        stream.metadata["language"] = language
        return stream


def pictures(number: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yields smooth pictures (H, W, 3) that move, with a bright corner at the top left."""
    width, height = size
    rows, columns = np.mgrid[:height, :width] / max(size)
    for index in range(number):
        red = 0.5 + 0.3 * np.sin(3 * columns + 0.3 * index)
        green = 0.5 + 0.3 * np.cos(4 * rows + 0.2 * index)
        blue = 0.5 + 0.2 * np.sin(3 * (rows + columns) - 0.25 * index)
        image = np.stack((red, green, blue), -1)
        image[: height // 4, : width // 4] = (0.85, 0.75, 0.4)
        yield np.rint(image * 255).astype(np.uint8)


def _tone(stream: Any, length: float) -> Iterator[Any]:
    import av

    layout = stream.codec_context.format.name
    size = 1024
    for number in range(int(length * 48000) // size):
        at = np.arange(number * size, (number + 1) * size)
        wave = 0.3 * np.sin(at / 20)
        both = np.stack((wave, wave))
        if layout == "s16":
            values = np.rint(both.T.reshape(1, -1) * 32767).astype(np.int16)
        else:
            values = both.astype(np.float32)
        frame = av.AudioFrame.from_ndarray(values, format=layout, layout="stereo")
        frame.sample_rate, frame.pts = 48000, number * size
        frame.time_base = Fraction(1, 48000)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _subtitles(stream: Any, framed: bool) -> Iterator[Any]:
    import av

    for number, text in enumerate(("Ein Text ü", "第二", "the end")):
        payload = text.encode()
        packet = av.Packet(len(payload).to_bytes(2, "big") + payload if framed else payload)
        packet.stream = stream
        packet.time_base = Fraction(1, 1000)
        packet.pts = packet.dts = number * 150
        packet.duration = 120
        packet.is_keyframe = True
        yield packet


def _chapters() -> list[dict[str, Any]]:
    unit = Fraction(1, 1000)
    spans = ((1, "Anfang", 0, 200), (2, "结束", 200, 480))
    return [
        {"id": number, "start": start, "end": end, "time_base": unit, "metadata": {"title": title}}
        for number, title, start, end in spans
    ]


def _time(packet: Any) -> float:
    unit = packet.time_base
    return (packet.dts or 0) * unit.numerator / unit.denominator


def packets(path: Path, kind: str, number: int = 0) -> list[tuple[Fraction, bytes]]:
    """Returns time stamp in seconds and bytes of the packets of a stream, in order."""
    import av

    with av.open(str(path)) as file:
        stream = [one for one in file.streams if one.type == kind][number]
        unit = Fraction(stream.time_base.numerator, stream.time_base.denominator)
        return [((one.pts or 0) * unit, bytes(one)) for one in file.demux(stream) if one.size]


def times(path: Path) -> list[Fraction]:
    """Returns the sorted time stamps of the video in seconds."""
    return sorted(time for time, _ in packets(path, "video"))


def decoded(path: Path) -> list[np.ndarray]:
    """Returns the frames (H, W, 3) as swscale shows them."""
    import av

    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def with_times(source: Path, path: Path, pts: Sequence[int | None]) -> Path:
    """Copies the video packets of a file without B-frames, with other time stamps, in ms."""
    import av

    with av.open(str(source)) as old, av.open(str(path), "w", format="matroska") as file:
        stream = file.add_stream_from_template(old.streams.video[0], opaque=True)
        stream.time_base = Fraction(1, 1000)
        video = [packet for packet in old.demux(video=0) if packet.size]
        for packet, time in zip(video, pts, strict=True):
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = time
            file.mux(packet)
    return path

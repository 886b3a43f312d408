"""Encodes frames to one file that holds only video: a segment of a longer result.

The encoder gets the number of each frame as its time stamp. So every encoder accepts them,
whatever the source's units are; the exact time stamps are set when segments are joined.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srtoolbox.errors import RunError, UserError
from srtoolbox.media.video import as_fraction, import_av
from srtoolbox.media.video_colour import Colour, ToFrame, colour_for, depth

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.format import VideoFormat

_log = logging.getLogger("srtoolbox")

_ALIASES = {"h264": "libx264", "hevc": "libx265", "h265": "libx265", "vp9": "libvpx-vp9"}
_ALIASES["av1"] = "libsvtav1"
_CRF = {"libx264": 17, "libx264rgb": 17, "libx265": 19, "libvpx-vp9": 20, "libsvtav1": 22}
# x264's approximations in assembly give other results from run to run, even on one machine.
_REPEATABLE = {"x264-params": "cpu-independent=1"}
_FIXED = {
    "libx264": _REPEATABLE,
    "libx264rgb": _REPEATABLE,
    "libx265": {"x265-params": "log-level=error"},
}
_THREADS = 8  # on every machine: encoders make other packets with another number
# Encoders that take odd widths and heights with chroma of half the size; others refuse them.
_TAKES_ODD_SIZES = ("ffv1", "ffvhuff", "rawvideo", "libvpx", "libvpx-vp9", "mpeg4", "mjpeg")
_PLAIN_FORMATS = {  # the same pixels, in the layout that encoders use
    **{f"yuvj{chroma}p": f"yuv{chroma}p" for chroma in (411, 420, 422, 440, 444)},
    **{"nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p"},
    **{"p010le": "yuv420p10le", "p012le": "yuv420p12le", "p016le": "yuv420p16le"},
    **{"p210le": "yuv422p10le", "yuyv422": "yuv422p", "uyvy422": "yuv422p"},
    **{"gray8": "gray", "ya8": "gray", "ya16le": "gray16le", "pal8": "gbrp"},
}
_MAX_RATE_TERM = 65535  # MPEG-4 stores the rate in 16 bits


@dataclass(frozen=True)
class EncoderOptions:
    """Encoder and form of the result.

    Attributes:
        codec: Name of an encoder, or "h264", "hevc", "vp9", "av1".
        crf: Constant quality, lower is better; None: nearly without visible loss.
        preset: The encoder's trade of time for size; None: its default.
        pix_fmt: Name of a pixel format, or "same": the source's, or the encoder's next to it.
    """

    codec: str = "libx264"
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str = "same"

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return _ALIASES.get(self.codec, self.codec)


def pixel_format(options: EncoderOptions, source: str) -> str:
    """Returns the name of the pixel format of the result.

    Args:
        options: Of the encoder.
        source: The source's pixel format.

    Raises:
        UserError: if PyAV lacks the encoder, or the encoder cannot take ``options.pix_fmt``.
    """
    av = import_av()
    try:
        codec = av.Codec(options.encoder, "w")
    except (ValueError, av.error.FFmpegError):
        raise UserError(f"codec: PyAV has no encoder {options.encoder!r}; try libx264") from None
    if codec.type != "video":
        raise UserError(f"codec: {options.encoder!r} encodes {codec.type}, not video")
    known = [layout.name for layout in codec.video_formats or []]
    if options.pix_fmt != "same":
        if known and options.pix_fmt not in known:
            raise UserError(
                f"pix_fmt: {options.encoder} cannot encode {options.pix_fmt!r}, "
                f"only {', '.join(known)}"
            )
        try:
            av.VideoFormat(options.pix_fmt)
        except ValueError:
            raise UserError(f"pix_fmt: there is no {options.pix_fmt!r}; try yuv420p") from None
        return options.pix_fmt
    wanted = av.VideoFormat(_PLAIN_FORMATS.get(source, source))
    if wanted.name in known and not has_alpha(wanted):
        return wanted.name
    usable = [av.VideoFormat(name) for name in known if _is_usable(name)]
    if not usable:
        raise UserError(f"pix_fmt: {options.encoder} takes none that can be chosen; name one")
    best = min(usable, key=lambda layout: _distance(wanted, layout))
    if depth(best) < depth(wanted):
        _log.warning(
            "%s has no pixel format of %d bits: the result has %d",
            *(options.encoder, depth(wanted), depth(best)),
        )
    return best.name


def _is_usable(name: str) -> bool:
    """Returns whether this module can make frames of a pixel format."""
    if has_alpha(import_av().VideoFormat(name)):
        return False
    known = name in ("bgr0", "bgr24", "rgb24") or name.startswith(("yuv4", "gbrp", "gray"))
    return known and not name.endswith(("be", "f16le", "f32le"))


def has_alpha(layout: VideoFormat) -> bool:
    """Returns whether a pixel format has alpha."""
    return any(part.is_alpha for part in layout.components)


def _distance(wanted: VideoFormat, layout: VideoFormat) -> tuple[bool, int, bool, int, bool]:
    """Returns how much a pixel format loses, then how much it wastes."""
    chroma = [
        (one.chroma_width(8) * one.chroma_height(8)) if len(one.components) > 1 else 0
        for one in (wanted, layout)
    ]
    bits = depth(layout) - depth(wanted)
    return (
        chroma[1] < chroma[0],
        max(0, -bits),
        layout.is_rgb != wanted.is_rgb,
        abs(chroma[1] - chroma[0]) + max(0, bits),
        layout.name.startswith("yuvj"),
    )


class SegmentEncoder:
    """Encodes frames to a Matroska file.

    Args:
        path: The file.
        colour: Colours of the source.
        ratio: Width of a pixel divided by its height.
        options: Of the encoder.
        layout: Name of the pixel format.
        width, height: Size of the pixels of a frame.
        rate: Average frames per second of the result.

    Raises:
        UserError: if the encoder refuses the options.
    """

    def __init__(
        self,
        path: Path,
        colour: Colour,
        ratio: Fraction,
        options: EncoderOptions,
        layout: str,
        width: int,
        height: int,
        rate: Fraction,
    ) -> None:
        av = import_av()
        name = options.encoder
        self._name = name
        self._path = path
        self._order: list[int] = []
        self._number = 0
        pixel_layout = av.VideoFormat(layout)
        width, height = encoded_size(name, pixel_layout, width, height)
        colour = colour_for(colour, pixel_layout.is_rgb, height)
        self._convert = ToFrame(colour, pixel_layout, width, height)
        self._time_base = 1 / _short(rate)
        self._container: Any = av.open(str(path.absolute()), "w", format="matroska")
        settings = dict(_FIXED.get(name, {}))
        crf = _CRF.get(name) if options.crf is None else options.crf
        if crf is not None:
            settings["crf"] = f"{crf:g}"
        if options.preset is not None:
            settings["preset"] = options.preset
        try:
            stream = self._container.add_stream(
                name, rate=_short(rate), options=settings, width=width, height=height
            )
            self._stream: Any = stream
            context = stream.codec_context
            context.pix_fmt = layout
            context.time_base = self._time_base
            context.sample_aspect_ratio = ratio
            context.colorspace = colour.tag
            context.color_range = 2 if colour.full_range else 1
            context.color_primaries = colour.primaries
            context.color_trc = colour.transfer
            context.thread_type = "AUTO"
            # Several threads of VP8 hang on one core after SVT-AV1 has run in the process.
            context.thread_count = 1 if name == "libvpx" else _THREADS
            self._container.start_encoding()
        except (ValueError, OSError) as error:
            self._container.close()
            raise UserError(
                f"{name} refuses {width}×{height} {layout} with {settings} ({error}); "
                "check codec, crf, preset and pix_fmt"
            ) from None

    def add(self, pixels: np.ndarray) -> None:
        """Encodes one frame (3, H, W): uint8, uint16 or float32 in [0, 1]."""
        frame = self._convert(pixels)
        frame.pts = self._number
        frame.time_base = self._time_base
        self._number += 1
        self._write(frame)

    def finish(self) -> list[int]:
        """Ends the file; returns the number of the frame in each of its packets.

        Raises:
            RunError: if the encoder did not give one packet for each frame.
        """
        self._write(None)
        try:
            self._container.close()
        except (ValueError, OSError) as error:
            raise self._failure(error) from error
        if sorted(self._order) != list(range(self._number)):
            raise RunError(
                f"{self._name} made {len(self._order)} packets of {self._number} frames; "
                "use another codec"
            )
        return self._order

    def _write(self, frame: VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                # Before it is written: writing changes its unit to that of the file.
                unit = as_fraction(packet.time_base) or self._time_base
                self._order.append(round(packet.pts * unit / self._time_base))
                self._container.mux(packet)
        except (ValueError, OSError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> RunError:
        reason = getattr(error, "strerror", None) or error
        return RunError(
            f"{self._path}: cannot be written by {self._name} ({reason}); "
            "the same command continues after the segments that are finished"
        )

    def abort(self) -> None:
        """Closes the file, which is not whole."""
        self._container.close()


def encoded_size(encoder: str, layout: VideoFormat, width: int, height: int) -> tuple[int, int]:
    """Returns the size that an encoder can take: even where chroma has half the size."""
    if encoder in _TAKES_ODD_SIZES or len(layout.components) < 3:
        return width, height
    across = 2 if layout.chroma_width(8) < 8 else 1
    down = 2 if layout.chroma_height(8) < 8 else 1
    return -(-width // across) * across, -(-height // down) * down


def _short(rate: Fraction) -> Fraction:
    """Returns a frame rate with terms that every encoder can store."""
    limit = _MAX_RATE_TERM
    while True:
        short = rate.limit_denominator(limit)
        if short.numerator <= _MAX_RATE_TERM and short > 0:
            return short
        if limit == 1:
            return Fraction(max(1, min(round(rate), _MAX_RATE_TERM)))
        limit = max(1, limit // 2)

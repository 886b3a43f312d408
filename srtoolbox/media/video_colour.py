"""Pixels of a decoded video frame as upright RGB arrays, and back, by the stream's own colours.

YUV video states a matrix (BT.601, BT.709, BT.2020, …) and a range (limited or full). A conversion
by another matrix shifts all colours, so both directions here use the stream's matrix and range.
Frames of 8 bits are converted by swscale, with flags that round instead of truncating. Frames of
more bits are converted here: swscale takes 65280 of 65535 for white in 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from srtoolbox.errors import UserError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.format import VideoFormat
    from av.video.reformatter import VideoReformatter

# Weights of red and blue in luma (ITU-R BT.601, BT.709, BT.2020; SMPTE 240M; FCC 1953).
_LUMA = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
# Matrix coefficients of ISO/IEC 23091-2: tags in the stream, and the numbers of swscale.
_MATRIX_OF_TAG = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
_SWSCALE = {"bt709": 1, "fcc": 4, "bt601": 5, "smpte240m": 7, "bt2020": 9}
_NOT_STATED = (0, 2, 3)  # identity (which only RGB can have), unspecified, reserved
_LIMITED, _FULL = 1, 2
_HD_HEIGHT = 720  # players take BT.709 for untagged video of this height or more


@dataclass(frozen=True)
class Colour:
    """The colours of a video stream.

    Attributes:
        matrix: "bt601", "bt709", "bt2020", "smpte240m", "fcc", or "rgb" for a stream without YUV.
        full_range: Whether black and white are 0 and 255 instead of 16 and 235 (in 8 bits).
        tag, primaries, transfer: Numbers of ISO/IEC 23091-2; 2 means unspecified.
        stated: Whether the stream states its matrix; otherwise it is taken by the height.
    """

    matrix: str
    full_range: bool
    tag: int
    primaries: int
    transfer: int
    stated: bool


@dataclass(frozen=True)
class Orientation:
    """How a stored frame becomes upright: transpose first, then mirror columns and rows."""

    transpose: bool = False
    mirror_columns: bool = False
    mirror_rows: bool = False

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Returns pixels (3, H, W) upright, contiguous in memory."""
        if self.transpose:
            pixels = pixels.swapaxes(-1, -2)
        if self.mirror_columns:
            pixels = pixels[..., ::-1]
        if self.mirror_rows:
            pixels = pixels[..., ::-1, :]
        return np.ascontiguousarray(pixels)

    @property
    def changes(self) -> bool:
        """Whether the stored frame is not upright already."""
        return self.transpose or self.mirror_columns or self.mirror_rows


def colour_of(frame: VideoFrame, name: str) -> Colour:
    """Returns the colours of a stream, taken from its first frame.

    Args:
        frame: A decoded frame.
        name: File name, for the message.

    Raises:
        UserError: if the stream uses a matrix that is no linear one (YCgCo, ICtCp, …).
    """
    tags = (int(frame.color_primaries), int(frame.color_trc))
    if frame.format.is_rgb or frame.format.has_palette:
        return Colour("rgb", True, 0, *tags, stated=True)
    full = int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj")
    tag = int(frame.colorspace)
    if tag in _NOT_STATED:
        matrix = "bt709" if frame.height >= _HD_HEIGHT else "bt601"
        return Colour(matrix, full, 1 if matrix == "bt709" else 6, *tags, stated=False)
    if tag not in _MATRIX_OF_TAG:
        raise UserError(
            f"{name}: the colour matrix number {tag} is not supported; convert the video to BT.709"
        )
    return Colour(_MATRIX_OF_TAG[tag], full, tag, *tags, stated=True)


def colour_for(source: Colour, to_rgb: bool, height: int) -> Colour:
    """Returns the colours of the result: the source's, where the pixel formats allow it."""
    tags = (source.primaries, source.transfer)
    if to_rgb:
        return Colour("rgb", True, 0, *tags, stated=True)
    if source.matrix != "rgb":
        return source
    matrix = "bt709" if height >= _HD_HEIGHT else "bt601"
    return Colour(matrix, False, 1 if matrix == "bt709" else 6, *tags, stated=True)


def orientation_of(frame: VideoFrame) -> Orientation | None:
    """Returns the orientation in a frame's display matrix; None if its angle is no right one."""
    data = next((item for item in frame.side_data if item.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return Orientation()
    numbers = np.frombuffer(bytes(data), np.int32)
    # A pixel at (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = (round(number / 65536, 3) for number in numbers[:5].tolist())
    if abs(a) == abs(d) == 1 and b == c == 0:
        return Orientation(False, a < 0, d < 0)
    if abs(b) == abs(c) == 1 and a == d == 0:
        return Orientation(True, c < 0, b < 0)
    return None


def depth(layout: VideoFormat) -> int:
    """Returns the number of bits of a pixel format's first channel."""
    return 8 if layout.has_palette else max(part.bits for part in layout.components)


class FromFrame:
    """Converts decoded frames to pixels: a callable with a buffer of its own.

    Args:
        colour: The stream's colours.
        orientation: How frames become upright.
    """

    def __init__(self, colour: Colour, orientation: Orientation) -> None:
        from av.video.reformatter import VideoReformatter

        self.colour = colour
        self.orientation = orientation
        self._scaler: VideoReformatter = VideoReformatter()
        self._second: VideoReformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame, size: tuple[int, int]) -> np.ndarray:
        """Returns pixels (3, H, W), RGB and upright: uint8, or uint16 above 8 bits.

        Args:
            frame: A decoded frame.
            size: Stored width and height of the stream's first frame. Another size is resized.
        """
        if (frame.width, frame.height) != size:
            frame = self._second.reformat(frame, *size, interpolation=_interpolation())
        bits = depth(frame.format)
        if bits <= 8:
            pixels = self._by_swscale(frame)
        elif self.colour.matrix == "rgb":
            pixels = self._rgb(frame, bits)
        else:
            pixels = self._by_matrix(frame, bits)
        return self.orientation.apply(pixels)

    def _by_swscale(self, frame: VideoFrame) -> np.ndarray:
        kwargs: dict[str, Any] = {}
        if self.colour.matrix != "rgb":
            kwargs = {
                "src_colorspace": _SWSCALE[self.colour.matrix],
                "src_color_range": _FULL if self.colour.full_range else _LIMITED,
            }
        image = self._scaler.reformat(
            frame, format="rgb24", dst_color_range=_FULL, interpolation=_interpolation(), **kwargs
        )
        return image.to_ndarray().transpose(2, 0, 1)

    def _rgb(self, frame: VideoFrame, bits: int) -> np.ndarray:
        layout = f"gbrp{bits}le" if bits in (9, 10, 12, 14, 16) else "gbrp16le"
        image = self._scaler.reformat(frame, format=layout, interpolation=_interpolation())
        green, blue, red = _planes(image)
        top = 2 ** depth(image.format) - 1
        return np.rint(np.stack((red, green, blue)) * (65535 / top)).astype(np.uint16)

    def _by_matrix(self, frame: VideoFrame, bits: int) -> np.ndarray:
        same_range = _FULL if self.colour.full_range else _LIMITED
        image = self._scaler.reformat(
            frame,
            format=f"yuv444p{bits}le",
            src_colorspace=_SWSCALE[self.colour.matrix],
            dst_colorspace=_SWSCALE[self.colour.matrix],
            src_color_range=same_range,
            dst_color_range=same_range,
            interpolation=_interpolation(),
        )
        luma, blue_difference, red_difference = _planes(image)
        offset, luma_span, chroma_span = _spans(self.colour.full_range, bits)
        red_weight, blue_weight = _LUMA[self.colour.matrix]
        y = (luma.astype(np.float32) - offset) / luma_span
        cb = (blue_difference.astype(np.float32) - 2 ** (bits - 1)) / chroma_span
        cr = (red_difference.astype(np.float32) - 2 ** (bits - 1)) / chroma_span
        red = y + 2 * (1 - red_weight) * cr
        blue = y + 2 * (1 - blue_weight) * cb
        green = (y - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
        rgb = np.stack((red, green, blue))
        return np.rint(np.clip(rgb, 0, 1) * 65535).astype(np.uint16)


class ToFrame:
    """Converts pixels to frames for an encoder.

    Args:
        colour: The colours of the result.
        layout: The pixel format of the encoder.
        width, height: Size of the frames; pixels that lack a row or column repeat their edge.
    """

    def __init__(self, colour: Colour, layout: VideoFormat, width: int, height: int) -> None:
        from av.video.reformatter import VideoReformatter

        self.colour = colour
        self.layout = layout
        self.size = (width, height)
        self._scaler: VideoReformatter = VideoReformatter()

    def __call__(self, pixels: np.ndarray) -> VideoFrame:
        """Returns a frame of pixels (3, H, W): uint8, uint16 or float32 in [0, 1], RGB."""
        height, width = pixels.shape[1:]
        missing = (self.size[1] - height, self.size[0] - width)
        if any(missing):
            pixels = np.pad(pixels, ((0, 0), (0, missing[0]), (0, missing[1])), "edge")
        bits = depth(self.layout)
        if bits <= 8:
            frame = self._by_swscale(_to_8_bits(pixels))
        elif self.colour.matrix == "rgb":
            frame = self._rgb(pixels, bits)
        else:
            frame = self._by_matrix(pixels, bits)
        frame.colorspace = self.colour.tag
        frame.color_range = _FULL if self.colour.full_range else _LIMITED
        frame.color_primaries = self.colour.primaries
        frame.color_trc = self.colour.transfer
        return frame

    def _by_swscale(self, pixels: np.ndarray) -> VideoFrame:
        import av

        image = np.ascontiguousarray(pixels.transpose(1, 2, 0))
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        kwargs: dict[str, Any] = {}
        if self.colour.matrix != "rgb":
            kwargs = {
                "dst_colorspace": _SWSCALE[self.colour.matrix],
                "dst_color_range": _FULL if self.colour.full_range else _LIMITED,
            }
        return self._scaler.reformat(
            frame,
            format=self.layout.name,
            src_color_range=_FULL,
            interpolation=_interpolation(),
            **kwargs,
        )

    def _rgb(self, pixels: np.ndarray, bits: int) -> VideoFrame:
        red, green, blue = np.rint(_to_float(pixels) * (2**bits - 1)).astype(np.uint16)
        frame = _frame_of((green, blue, red), f"gbrp{bits}le")
        return self._scaler.reformat(
            frame, format=self.layout.name, interpolation=_interpolation()
        )

    def _by_matrix(self, pixels: np.ndarray, bits: int) -> VideoFrame:
        red, green, blue = _to_float(pixels)
        offset, luma_span, chroma_span = _spans(self.colour.full_range, bits)
        red_weight, blue_weight = _LUMA[self.colour.matrix]
        y = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
        cb = (blue - y) / (2 * (1 - blue_weight))
        cr = (red - y) / (2 * (1 - red_weight))
        middle, top = 2 ** (bits - 1), 2**bits - 1
        planes = (y * luma_span + offset, cb * chroma_span + middle, cr * chroma_span + middle)
        whole = tuple(np.clip(np.rint(plane), 0, top).astype(np.uint16) for plane in planes)
        same = _SWSCALE[self.colour.matrix]
        same_range = _FULL if self.colour.full_range else _LIMITED
        return self._scaler.reformat(
            _frame_of(whole, f"yuv444p{bits}le"),
            format=self.layout.name,
            src_colorspace=same,
            dst_colorspace=same,
            src_color_range=same_range,
            dst_color_range=same_range,
            interpolation=_interpolation(),
        )


@cache
def _interpolation() -> Any:
    """Returns flags of swscale that round, and interpolate chroma, exactly.

    Bilinear instead of bicubic interpolation with these flags gives wrong colours in 10 bits.
    """
    from av.video.reformatter import Interpolation as Flag

    exact = Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT | Flag.FULL_CHR_H_INP | Flag.BITEXACT
    return Flag.BICUBIC | exact


def _spans(full_range: bool, bits: int) -> tuple[float, float, float]:
    """Returns luma of black, luma of white minus black, and twice the largest chroma."""
    if full_range:
        return 0, 2**bits - 1, 2**bits - 1
    step = 2 ** (bits - 8)
    return 16 * step, 219 * step, 224 * step


def _planes(frame: VideoFrame) -> list[np.ndarray]:
    """Returns the planes (H, W), uint16, of a planar 4:4:4 frame."""
    rows = [np.frombuffer(plane, "<u2").reshape(plane.height, -1) for plane in frame.planes]
    return [row[:, : frame.width] for row in rows]


def _frame_of(planes: tuple[np.ndarray, ...], layout: str) -> VideoFrame:
    """Returns a planar 4:4:4 frame with these planes (H, W), uint16."""
    import av

    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, layout)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((height, plane.line_size // 2), "<u2")
        rows[:, :width] = values
        plane.update(rows)
    return frame


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(_to_float(pixels) * 255).astype(np.uint8)


def _to_float(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels as float32 in [0, 1]."""
    if pixels.dtype == np.float32:
        return np.clip(pixels, 0, 1)
    return pixels.astype(np.float32) / np.iinfo(pixels.dtype).max

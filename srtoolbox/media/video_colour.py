"""Pixels of a decoded video frame as upright RGB arrays, and back, by the stream's own colours.

YUV video states a matrix (BT.601, BT.709, BT.2020, …) and a range (limited or full). A conversion
by another matrix shifts all colours, so both directions here use the stream's matrix and range.
swscale resizes chroma; the matrix is applied here, and rounds once. (swscale's own conversion is
darker by up to 0.4 of 255 on average, and takes 65280 of 65535 for white in 16 bits.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
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
_DEPTHS = (9, 10, 12, 14, 16)  # bits of planar RGB
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
    """Turns a stored frame upright: transpose first, then mirror columns and rows."""

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
    name_of_layout, stated_range = frame.format.name, int(frame.color_range)
    is_grey = name_of_layout.startswith(("gray", "ya")) and stated_range != _LIMITED
    full = stated_range == _FULL or name_of_layout.startswith("yuvj") or is_grey
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
    stored: Any = frame.side_data
    data = next((item for item in stored if item.type.name == "DISPLAYMATRIX"), None)
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


def side_data_names(frame: VideoFrame) -> tuple[str, ...]:
    """Returns FFmpeg's names of a frame's side data."""
    stored: Any = frame.side_data
    return tuple(item.type.name for item in stored)


def depth(layout: VideoFormat) -> int:
    """Returns the number of bits of a pixel format's first channel."""
    return 8 if layout.has_palette else max(part.bits for part in layout.components)


class FromFrame:
    """Converts decoded frames to pixels.

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
        if self.colour.matrix == "rgb":
            pixels = self._rgb(frame, bits)
        else:
            pixels = self._from_yuv(frame, bits)
        return self.orientation.apply(pixels)

    def _rgb(self, frame: VideoFrame, bits: int) -> np.ndarray:
        name = frame.format.name
        # Planes with alpha are used as they are: swscale damages colours when it drops alpha here.
        if not name.startswith(("gbrp", "gbrap")) or name.endswith("be"):
            bits = bits if bits == 8 or bits in _DEPTHS else 16
            layout = _planar("gbrp", bits)
            frame = self._scaler.reformat(frame, format=layout, interpolation=_interpolation())
        green, blue, red = _planes(frame)[:3]
        pixels = np.stack((red, green, blue))
        if bits == 8:
            return pixels
        return np.rint(pixels * (65535 / (2**bits - 1))).astype(np.uint16)

    def _from_yuv(self, frame: VideoFrame, bits: int) -> np.ndarray:
        image = _reformat(self._scaler, frame, _planar("yuv444p", bits), self.colour)
        yuv = cv2.merge([plane.astype(np.uint16) for plane in _planes(image)])
        white = 255 if bits == 8 else 65535
        to_rgb = _to_rgb(self.colour, bits) * white
        # In 16 bits, as in ToFrame.
        rgb = cv2.transform(yuv, to_rgb)
        if bits == 8:
            rgb = np.minimum(rgb, white).astype(np.uint8)
        return rgb.transpose(2, 0, 1)


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
        bits = max(8, depth(self.layout))
        frame = self._rgb(pixels, bits) if self.colour.matrix == "rgb" else self._yuv(pixels, bits)
        frame.colorspace = self.colour.tag
        frame.color_range = _FULL if self.colour.full_range else _LIMITED
        frame.color_primaries = self.colour.primaries
        frame.color_trc = self.colour.transfer
        return frame

    def _rgb(self, pixels: np.ndarray, bits: int) -> VideoFrame:
        if pixels.dtype != np.uint8 or bits > 8:
            pixels = np.rint(_to_float(pixels) * (2**bits - 1))
        red, green, blue = pixels
        frame = _frame_of((green, blue, red), _planar("gbrp", bits))
        return self._scaler.reformat(frame, format=self.layout.name, interpolation=_interpolation())

    def _yuv(self, pixels: np.ndarray, bits: int) -> VideoFrame:
        matrix, top = _from_rgb(self.colour, bits), 2**bits - 1
        if pixels.dtype == np.float32:
            channels = [np.clip(channel, 0, 1) for channel in pixels]
            yuv = cv2.transform(cv2.merge(channels), matrix)
            yuv = np.clip(np.rint(yuv, out=yuv), 0, top, out=yuv)
        else:
            matrix[:, :3] /= np.iinfo(pixels.dtype).max
            # In 16 bits OpenCV calculates in float32 and rounds; in 8 bits by coarse integers.
            yuv = cv2.transform(cv2.merge([one.astype(np.uint16) for one in pixels]), matrix)
            yuv = np.minimum(yuv, top, out=yuv)
        yuv = yuv.astype(np.uint8 if bits == 8 else np.uint16, copy=False)
        planes = [yuv[..., number] for number in range(3)]
        frame = _frame_of(planes, _planar("yuv444p", bits))
        return _reformat(self._scaler, frame, self.layout.name, self.colour)


def _planar(name: str, bits: int) -> str:
    """Returns the name of a planar pixel format, such as yuv444p10le."""
    return name if bits == 8 else f"{name}{bits}le"


def _reformat(
    scaler: VideoReformatter, frame: VideoFrame, layout: str, colour: Colour
) -> VideoFrame:
    """Returns a YUV frame with chroma of another size, by the same matrix and range."""
    matrix = _SWSCALE[colour.matrix]
    colour_range = _FULL if colour.full_range else _LIMITED
    return scaler.reformat(
        frame,
        format=layout,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=colour_range,
        dst_color_range=colour_range,
        interpolation=_interpolation(),
    )


def _to_rgb(colour: Colour, bits: int) -> np.ndarray:
    """Returns a matrix (3, 4) from stored (Y, Cb, Cr, 1) to RGB in [0, 1]."""
    square = np.eye(4)
    square[:3] = _from_rgb(colour, bits)
    return np.linalg.inv(square)[:3]


def _from_rgb(colour: Colour, bits: int) -> np.ndarray:
    """Returns a matrix (3, 4) from (R, G, B, 1) in [0, 1] to Y, Cb and Cr as they are stored."""
    red, blue = _LUMA[colour.matrix]
    luma = np.array((red, 1 - red - blue, blue))
    cb = (np.array((0, 0, 1)) - luma) / (2 * (1 - blue))
    cr = (np.array((1, 0, 0)) - luma) / (2 * (1 - red))
    black, luma_span, chroma_span = _spans(colour.full_range, bits)
    middle = 2 ** (bits - 1)
    rows = np.stack((luma * luma_span, cb * chroma_span, cr * chroma_span))
    return np.column_stack((rows, (black, middle, middle)))


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
    """Returns the planes (H, W), uint8 or uint16, of a planar 4:4:4 frame."""
    dtype = np.dtype("u1" if depth(frame.format) == 8 else "<u2")
    planes: list[Any] = list(frame.planes)
    rows = [np.frombuffer(plane, dtype).reshape(plane.height, -1) for plane in planes]
    return [row[:, : frame.width] for row in rows]


def _frame_of(planes: Sequence[np.ndarray], layout: str) -> VideoFrame:
    """Returns a planar 4:4:4 frame with these planes (H, W) of whole numbers."""
    import av

    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, layout)
    dtype = np.dtype("u1" if depth(frame.format) == 8 else "<u2")
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((height, plane.line_size // dtype.itemsize), dtype)
        rows[:, :width] = values
        plane.update(rows.tobytes())
    return frame


def _to_float(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels as float32 in [0, 1]."""
    if pixels.dtype == np.float32:
        return np.clip(pixels, 0, 1)
    return pixels.astype(np.float32) / np.iinfo(pixels.dtype).max

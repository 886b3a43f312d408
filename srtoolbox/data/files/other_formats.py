"""Reads PNM (PGM, PPM) and JPEG 2000 files, whose 16-bit colours Pillow would reduce to 8 bits.

JPEG 2000 with other bands than grey and RGB, or with signed values, is read by rasterio.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from srtoolbox.data.files.image_info import (
    Decode,
    ImageFault,
    ImageInfo,
    ReadOptions,
    bands_text,
    check_form,
)
from srtoolbox.data.files.raster import check_rasterio, has_rasterio, raster_decoder
from srtoolbox.data.files.tiff import decode_opencv, decode_pillow

PNM = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
JPEG_2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")

_HEAD = 65536  # bytes that are searched for the header
_MAX_COMPRESSION = 2000  # pixel values per byte of the file
_PNM_HEAD = re.compile(
    rb"P[2356](?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)"
    rb"(?:\s|#[^\n]*\n)+(\d+)(?:#[^\n]*\n)?\s"
)
_MIN_WINDOWED = 2**24  # values; smaller JPEG 2000 files are decoded whole
_BLOCK = 1024  # rows that GDAL decodes together at most
_GREY = b"colr\1\0\0\0\0\0\x11"  # other decoders fail or repeat the first band
_SYCC = b"colr\1\0\0\0\0\0\x12"  # YCbCr, which rasterio does not convert
_SIZE_MARKER = b"\xff\x4f\xff\x51"  # start of the code stream, and of its sizes


def open_pnm(path: Path, raw: bool) -> tuple[ImageInfo, Decode]:
    """Reads the header of a PGM or PPM file; returns the form, and the function that decodes it."""
    head = _read(path, _HEAD)
    if head[:2] in (b"P1", b"P4"):
        raise ImageFault(
            f"{path}: a 1-bit image; expected grey or RGB, convert it first", "wrong channels"
        )
    match = _PNM_HEAD.match(head)
    if match is None or any(len(number) > 9 for number in match.groups()):
        raise ValueError("its header has no width, height and maximum")
    width, height, white = map(int, match.groups())
    if white not in (255, 65535):
        raise ImageFault(
            f"{path}: its largest value is {white}; expected 255 or 65535, convert it first",
            "wrong depth",
        )
    channels = 3 if head[:2] in (b"P3", b"P6") else 1
    dtype = np.dtype("uint8" if white == 255 else "uint16")
    count, size = width * height * channels, path.stat().st_size - match.end()
    binary = head[:2] in (b"P5", b"P6")
    if size < (count * dtype.itemsize if binary else 2 * count - 1):  # a digit and a space each
        raise ImageFault(f"{path}: truncated; replace or remove it", "truncated")
    info = ImageInfo(channels, height, width, dtype.name)

    def decode() -> np.ndarray:
        content = path.read_bytes()
        if binary:
            values = np.frombuffer(content, dtype.newbyteorder(">"), count, match.end())
        else:
            values = np.array(content[match.end() :].split()[:count], dtype=np.int64)
            if len(values) < count or values.min() < 0 or values.max() > white:
                raise ValueError("its numbers are missing or beyond the maximum")
        pixels = values.astype(dtype.name).reshape(height, width, channels).transpose(2, 0, 1)
        return pixels[:: -1 if raw else 1]

    return info, decode


def open_jpeg_2000(path: Path, options: ReadOptions) -> tuple[ImageInfo, Decode]:
    """Reads the header of a JPEG 2000 file; returns the form, and the function that decodes it."""
    raw = options.raw
    head = _read(path, _HEAD)
    start = head.find(_SIZE_MARKER)
    sizes = head[start + 4 :]
    if start < 0 or len(sizes) < 39:
        raise ValueError("its header has no sizes")
    right, bottom, left, top = (int.from_bytes(sizes[i : i + 4], "big") for i in (4, 8, 12, 16))
    channels = int.from_bytes(sizes[36:38], "big")
    depths = {sizes[place] for place in range(38, min(len(sizes), 38 + 3 * channels), 3)}
    width, height = max(0, right - left), max(0, bottom - top)
    tile_rows = int.from_bytes(sizes[24:28], "big")
    # A depth is stored as one less; signed values have 128 more.
    names = {7: "uint8"} | {bits - 1: "uint16" for bits in range(9, 17)}
    names |= {128 + bits - 1: "int16" for bits in range(9, 17)}
    depth = depths.pop() if len(depths) == 1 else -1
    info = ImageInfo(channels, height, width, names.get(depth, f"{(depth & 127) + 1}-bit"))
    if depth in names:
        if width * height * channels > _MAX_COMPRESSION * path.stat().st_size:
            raise ValueError(f"{width}×{height} pixels cannot be in such a small file")
        if b"pclr" in head[:start]:
            raise ImageFault(
                f"{path}: a palette image; expected grey or RGB, convert it first", "wrong channels"
            )
    check_form(path, info, options)
    order = [2, 1, 0, 3][:channels] if raw and channels > 1 else range(channels)
    rows = max(1, min(tile_rows, _BLOCK))
    is_grey = channels > 1 and _GREY in head
    if info.dtype == "int16" or is_grey or channels not in (1, 3, 4 if raw else 3):
        text = f"JPEG 2000 with {bands_text(channels)} of {info.dtype}"
        check_rasterio(path, text)
        return info, raster_decoder(path, "JP2OpenJPEG", info, order, rows)
    is_large = width * height * channels >= _MIN_WINDOWED
    if is_large and _SYCC not in head and has_rasterio():
        return info, raster_decoder(path, "JP2OpenJPEG", info, order, rows)
    if depth == 7:
        return info, lambda: decode_pillow(path, ("JPEG2000",), info.dtype, raw)
    return info, lambda: decode_opencv(path.read_bytes(), raw)


def _read(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)

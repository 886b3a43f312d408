"""Reads TIFF files, which have more variants than any single decoder reads correctly.

tifffile reads the header, and the pixels unless they are compressed with LZW or a similar method.
Pillow (8 bits) and OpenCV (more bits) decode grey and RGB of those; neither is used for other bands
or planes that are stored separately, because OpenCV silently mixes them up: rasterio reads them.
"""

from __future__ import annotations

import io
import logging
import math
import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile

from srtoolbox.data.files.image_info import (
    ADVICE,
    PLAIN,
    Decode,
    ImageFault,
    ImageInfo,
    ReadOptions,
    WindowDecoder,
    bands_text,
    check_form,
)
from srtoolbox.data.files.raster import check_rasterio, has_rasterio, raster_decoder

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_UNSUPPORTED_COLOURS = {0: "grey with white as 0", 3: "a palette image", 5: "a CMYK image"}
_GREY, _RGB, _YCBCR = 1, 2, 6
_PLAIN_COMPRESSIONS = (1, 8, 32946)  # none, and the two numbers of deflate
_PLAIN_PREDICTORS = (1, 2)  # none, and horizontal differences
_MAX_COMPRESSION = 2000  # pixel values per byte of the file that any of the methods can reach
_SEPARATE = 2  # one plane after the other
_ORIENTATION, _GDAL_NODATA = 274, 42113
_LOSSLESS = (5, 8, 32773, 32946, 34925, 50000)  # LZW, deflate, PackBits, deflate, LZMA, Zstandard
_MAX_SEGMENT = 2**26  # bytes; windows of files with larger strips are not decoded alone
_MIN_WINDOWED = 2**24  # values; smaller files are decoded whole
_MAX_DIRECTORIES, _MAX_TAGS = 1000, 4096  # ordinary files have less than 20 and 100
_TYPE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def open_tiff(path: Path, options: ReadOptions = PLAIN) -> tuple[ImageInfo, Decode]:
    """Reads the header; returns the form, and the function that decodes the pixels to (C, H, W).

    Args:
        path: The file.
        options: How the file is read.

    Raises:
        ImageFault: if the file is truncated or has several images or unsupported colours.
        Exception: others that tifffile raises for damaged files.
    """
    raw, convert = options.raw, options.convert
    _check_directories(path)
    with _open(path) as file:
        # Geographic files may contain overviews and masks of the image; they are ignored.
        pages = [page for page in file.pages if not (page.is_reduced or page.is_mask)]
        if not pages:
            raise ImageFault(f"{path}: truncated or broken; replace or remove it", "truncated")
        if len(pages) > 1:
            raise ImageFault(
                f"{path}: {len(pages)} images; expected one, save them separately",
                "several images",
            )
        page = pages[0]
        if not (page.imagelength and page.imagewidth):
            raise ImageFault(f"{path}: broken, it has no size; replace or remove it", "truncated")
        place = _orientation_place(page)
        if convert and page.photometric in _UNSUPPORTED_COLOURS and page.bitspersample <= 8:
            return (
                ImageInfo(3, page.imagelength, page.imagewidth, "uint8", _orientation(page)),
                lambda: decode_as_rgb(io.BytesIO(_upright(path, place)), ("TIFF",)),
            )
        _check_colours(path, page)
        ends = (a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends, default=0) > file.filehandle.size:
            raise ImageFault(f"{path}: truncated; replace or remove it", "truncated")
        info = ImageInfo(
            page.samplesperpixel,
            page.imagelength,
            page.imagewidth,
            f"{page.bitspersample}-bit" if page.dtype is None else page.dtype.name,
            _orientation(page),
            _nodata(page),
        )
        if math.prod(info[:3]) > _MAX_COMPRESSION * file.filehandle.size:
            raise ValueError(f"{info.width}×{info.height} pixels cannot be in such a small file")
        colours = 1 if page.photometric == _GREY else 3
        extra = info.channels > colours and len(page.extrasamples) > 0
        convert = convert and not options.keeps_alpha
        separate = info.channels > 1 and page.planarconfig == _SEPARATE
        plain = page.compression in _PLAIN_COMPRESSIONS and page.predictor in _PLAIN_PREDICTORS
        order = range(info.channels)
        if raw and info.channels > 1:
            order = [2, 1, 0, 3][: info.channels]
        rows = _rows_together(page, info)
        is_lossless = page.compression in _LOSSLESS and page.photometric != _YCBCR
        if plain:
            decode = partial(_decode_plain, path, page.index, info, separate, raw)
            if convert and extra:
                less = info._replace(channels=colours)
                return less, lambda: decode()[:colours]
            if rows is None:
                return info, decode
            window = partial(_decode_window, path, page.index, info.dtype, order)
            return info, WindowDecoder(decode, window, rows)
        only_rasterio = (
            separate
            or (info.channels == 3 and page.photometric == _GREY)
            or info.channels not in (1, 3, 4 if raw else 3)
            or info.dtype in ("int16", "float64")
        )
        if only_rasterio and not (convert and extra and colours == 3 and not separate):
            less = info._replace(channels=colours) if convert and extra else info
            check_form(path, less, options)
            text = (
                f"bands compressed by {_compression_name(page)}, stored separately or without a "
                f"colour space, or other than grey and RGB ({bands_text(info.channels)})"
            )
            check_rasterio(path, text)
            order = order[: less.channels]
            decoder = raster_decoder(path, "GTiff", info, order, rows or 1)
            return less, decoder if rows else decoder.whole
    if convert and extra and colours == 3:
        less = info._replace(channels=3)
        if info.dtype == "uint8":
            return less, lambda: decode_as_rgb(io.BytesIO(_upright(path, place)), ("TIFF",))
        return less, lambda: decode_opencv(_upright(path, place), raw=True)[2::-1]

    def whole() -> np.ndarray:
        if info.dtype == "uint8" and info.channels < 4:
            source = io.BytesIO(_upright(path, place))
            return decode_pillow(source, ("TIFF",), info.dtype, raw)
        return decode_opencv(_upright(path, place), raw)

    large = math.prod(info[:3]) >= _MIN_WINDOWED
    if large and is_lossless and rows is not None and has_rasterio():
        window = raster_decoder(path, "GTiff", info, order, rows).window
        return info, WindowDecoder(whole, window, rows)
    return info, whole


def _nodata(page: TiffPage) -> float | None:
    """Returns the value of missing pixels that GDAL wrote; None: there is none."""
    tag = page.tags.get(_GDAL_NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip("\0 "))
    except ValueError:
        return None


def _rows_together(page: TiffPage, info: ImageInfo) -> int | None:
    """Returns how many rows are decoded together; None if windows cannot be decoded alone."""
    if page.dtype is None or page.imagedepth != 1:
        return None
    if page.is_memmappable:
        return 1
    height, width = (
        (page.tilelength, page.tilewidth)
        if page.is_tiled
        else (min(page.rowsperstrip, info.height), info.width)
    )
    samples = 1 if page.planarconfig == _SEPARATE else info.channels
    size = height * width * samples * page.dtype.itemsize
    return height if 0 < size <= _MAX_SEGMENT else None


def _check_directories(path: Path) -> None:
    """Checks that the directories of a file end, and that their values fit in the file.

    tifffile would follow a directory whose next is itself without end.

    Raises:
        ImageFault: if they form a loop, are too many, or have impossible counts.
    """
    size = path.stat().st_size
    with path.open("rb") as file:

        def number(form: str, place: int) -> int:
            file.seek(place)
            return struct.unpack(order + form, file.read(struct.calcsize(order + form)))[0]

        head = file.read(4)
        order = "<" if head[:2] == b"II" else ">"
        big = 43 in head[2:]
        wide, count_form, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
        first = 8 if big else 4
        seen: set[int] = set()
        place = number(wide, first)
        while place:
            if place in seen:
                raise ImageFault(
                    f"{path}: broken, its directories form a loop; replace or remove it",
                    "truncated",
                )
            if len(seen) == _MAX_DIRECTORIES:
                raise ImageFault(
                    f"{path}: more than {_MAX_DIRECTORIES} images; expected one, save them "
                    "separately",
                    "several images",
                )
            seen.add(place)
            if place >= size:
                raise ImageFault(f"{path}: truncated; replace or remove it", "truncated")
            count = number(count_form, place)
            if count > _MAX_TAGS:
                raise ImageFault(
                    f"{path}: broken, a directory states {count} entries; replace or remove it",
                    "truncated",
                )
            start = place + struct.calcsize(order + count_form)
            file.seek(start)
            tags = file.read(count * entry)
            total = 0
            for at in range(0, len(tags) - entry + 1, entry):
                kind, values = struct.unpack_from(f"{order}2xH{wide}", tags, at)
                total += values * _TYPE_BYTES.get(kind, 1)
            if total > 2 * size + 4 * entry * count:
                raise ImageFault(
                    f"{path}: broken, a directory states {total} bytes of values, more than the "
                    "file has; replace or remove it",
                    "truncated",
                )
            place = number(wide, start + count * entry)


def _orientation_place(page: TiffPage) -> tuple[int, str] | None:
    """Returns the place of the orientation in the file and its byte order; None: it has none."""
    tag = page.tags.get(_ORIENTATION)
    return None if tag is None else (tag.valueoffset, page.parent.byteorder)


def _orientation(page: TiffPage) -> int:
    tag = page.tags.get(_ORIENTATION)
    value = 1 if tag is None else tag.value
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(path: Path, place: tuple[int, str] | None) -> bytes:
    """Returns the content of a file with orientation 1; the decoders turn some of the others."""
    content = path.read_bytes()
    if place is None:
        return content
    offset, order = place
    one = struct.pack(f"{order}H", 1)
    return content[:offset] + one + content[offset + 2 :]


def _open(path: Path) -> TiffFile:
    import tifffile  # slow to import, and rarely needed

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it also raises what it logs
    return tifffile.TiffFile(path)


def _compression_name(page: TiffPage) -> str:
    return getattr(page.compression, "name", str(page.compression))


def _check_colours(path: Path, page: TiffPage) -> None:
    wanted = f"expected grey or RGB without alpha, {ADVICE}"
    if page.photometric not in (_GREY, _RGB, _YCBCR):
        found = _UNSUPPORTED_COLOURS.get(page.photometric, f"colours of kind {page.photometric!r}")
        raise ImageFault(f"{path}: {found}; {wanted}", "wrong channels")
    if page.bitspersample == 1:
        raise ImageFault(f"{path}: a 1-bit image; {wanted}", "wrong channels")


def _decode_plain(path: Path, index: int, info: ImageInfo, separate: bool, raw: bool) -> np.ndarray:
    with _open(path) as file:
        pixels = file.pages[index].asarray().astype(info.dtype, copy=False)
    if separate:
        pixels = pixels.reshape(info[:3])
    else:
        pixels = pixels.reshape(info.height, info.width, info.channels).transpose(2, 0, 1)
    if raw and info.channels > 1:  # the channel order of OpenCV
        return pixels[[2, 1, 0, 3][: info.channels]]
    return pixels


def _decode_window(
    path: Path,
    index: int,
    dtype: str,
    order: Sequence[int],
    channels: Sequence[int],
    top: int,
    bottom: int,
    left: int,
    right: int,
) -> np.ndarray:
    """Decodes the strips or tiles that a window touches; see ``WindowDecoder``."""
    bands = [order[channel] for channel in channels]
    with _open(path) as file:
        page = file.pages[index]
        if page.is_memmappable:
            planes = _mapped(path, page)
            return planes[bands, top:bottom, left:right].astype(dtype, copy=False)
        across, height, width = 1, page.rowsperstrip, page.imagewidth
        if page.is_tiled:
            height, width = page.tilelength, page.tilewidth
            across = -(-page.imagewidth // width)
        down = -(-page.imagelength // height)
        separate = page.samplesperpixel > 1 and page.planarconfig == _SEPARATE
        out = np.empty((len(bands), bottom - top, right - left), dtype)
        jobs = [(band, [place]) for place, band in enumerate(bands)] if separate else [(0, None)]
        for plane, places in jobs:
            for row in range(top // height, -(-bottom // height)):
                for column in range(left // width, -(-right // width)):
                    y, x = row * height, column * width
                    target = np.s_[
                        max(y, top) - top : min(y + height, bottom) - top,
                        max(x, left) - left : min(x + width, right) - left,
                    ]
                    source = np.s_[
                        max(y, top) - y : min(y + height, bottom) - y,
                        max(x, left) - x : min(x + width, right) - x,
                    ]
                    block = _segment(file, page, (plane * down + row) * across + column)
                    if block is None:  # GDAL leaves out what is empty
                        out[(slice(None), *target)] = page.nodata
                    elif places is not None:
                        out[(places[0], *target)] = block[source][..., 0]
                    else:
                        out[(slice(None), *target)] = block[source][..., bands].transpose(2, 0, 1)
    return out


def _segment(file: TiffFile, page: TiffPage, number: int) -> np.ndarray | None:
    """Returns a decoded strip or tile (h, w, C); None if the file does not contain it."""
    if not page.databytecounts[number]:
        return None
    file.filehandle.seek(page.dataoffsets[number])
    content = file.filehandle.read(page.databytecounts[number])
    decoded = page.decode(content, number)[0]
    return None if decoded is None else decoded[0]


def _mapped(path: Path, page: TiffPage) -> np.ndarray:
    """Returns the pixels (C, H, W) of a file that stores them in one piece."""
    dtype = page.dtype.newbyteorder(page.parent.byteorder)  # type: ignore[union-attr]
    count, height, width = page.samplesperpixel, page.imagelength, page.imagewidth
    shape = (count, height, width) if page.planarconfig == _SEPARATE else (height, width, count)
    pixels = np.memmap(path, dtype, "r", page.dataoffsets[0], shape)
    return pixels if page.planarconfig == _SEPARATE else pixels.transpose(2, 0, 1)


def decode_as_rgb(source: Path | BinaryIO, formats: tuple[str, ...]) -> np.ndarray:
    """Decodes an image of 8 bits or less to RGB (3, H, W); alpha is dropped without blending."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with Image.open(source, formats=formats) as image:
        if image.mode in ("LA", "PA"):
            image = image.convert("RGBA")
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def decode_pillow(
    path: Path | BinaryIO, formats: tuple[str, ...], dtype: str, raw: bool
) -> np.ndarray:
    """Decodes an image of 8 bits, or grey of 16 bits, to (C, H, W)."""
    # Other libraries enable this for the whole process; truncated files then read as half black.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with Image.open(path, formats=formats) as image:
        pixels = np.asarray(image).astype(dtype, copy=False)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[:: -1 if raw else 1]


def decode_opencv(content: bytes, raw: bool) -> np.ndarray:
    """Decodes the content of a file with any number of bits to (C, H, W)."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("OpenCV cannot decode its pixels")
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[:: 1 if raw else -1]

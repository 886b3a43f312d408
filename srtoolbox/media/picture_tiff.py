"""Reads and writes pictures as TIFF files, with transparency and metadata."""

from __future__ import annotations

import io
import mmap
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from srtoolbox.data.files.image_info import ReadOptions, check_form
from srtoolbox.data.files.tiff import open_tiff
from srtoolbox.media.metadata import (
    DESCRIPTIVE_TAGS,
    EXIF_DIRECTORY,
    GPS_DIRECTORY,
    Entry,
    Metadata,
    directory_start,
    exif_block,
    read_directory,
    write_directory,
)
from srtoolbox.media.picture import Picture, as_type

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 258, 259, 262, 274, 277
_XRES, _YRES, _UNIT, _PREDICTOR, _EXTRA, _XMP, _ICC = 282, 283, 296, 317, 338, 700, 34675
_GREY, _RGB, _PALETTE, _CMYK = 1, 2, 3, 5
_PLAIN = (1, 8, 32946)  # compressions that tifffile decodes by itself
_ASSOCIATED = 1  # colours are multiplied by alpha
_INCHES = {2: 1.0, 3: 2.54}  # by the unit of the resolution

FromPillow = Callable[[Path, Image.Image, "bytes | None"], Picture]


def read(path: Path, from_pillow: FromPillow) -> Picture:
    """Reads a TIFF file with one picture; its orientation is in its EXIF.

    Args:
        path: The file.
        from_pillow: Makes a picture of an image that Pillow opened.

    Raises:
        UserError: as ``open_tiff`` and ``check_form``.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        order, start, big = directory_start(data[:16])
        entries = read_directory(data, order, start, big)  # type: ignore[arg-type]
        tags = {entry.tag: _numbers(entry, order) for entry in entries}
        metadata = _metadata(entries, tags, order)
        grey_or_rgb = tags.get(_PHOTOMETRIC, [0])[0] in (_GREY, _RGB)
        bits, samples = max(tags.get(_BITS, [1])), tags.get(_SAMPLES, [1])[0]
        plain = tags.get(_COMPRESSION, [1])[0] in _PLAIN and tags.get(_PREDICTOR, [1])[0] in (1, 2)
        # Pillow reads what has a palette or other colours; tifffile and OpenCV, which libtiff makes
        # multiply colours of 8 bits by alpha, read the others.
        simple = bits <= 8 and not (grey_or_rgb and bits == 8 and (plain or samples in (1, 3)))
        content = _stored_upright(data, entries, order) if simple else b""
    if simple:
        with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
            if getattr(image, "n_frames", 1) > 1:
                open_tiff(path, ReadOptions(convert=True))  # raises if several are pictures
                image.seek(0)
            found = from_pillow(path, image, metadata.icc)
        metadata = replace(metadata, icc=found.metadata.icc or metadata.icc)
        return replace(found, metadata=metadata, format="tif")
    options = ReadOptions(raw=samples == 4, channels=2 if samples == 2 else None)
    info, decode = open_tiff(path, options)
    colours = 1 if tags[_PHOTOMETRIC][0] == _GREY else 3
    check_form(path, info._replace(channels=info.channels - (samples == colours + 1)))
    planes = decode()
    if samples == 4:
        planes = planes[[2, 1, 0, 3]]
    pixels, alpha = planes[:colours], planes[colours:]
    if not len(alpha):
        return Picture(pixels, None, metadata, "tif")
    if tags.get(_EXTRA, [0])[0] == _ASSOCIATED:
        pixels = _divided(pixels, alpha)
    return Picture(pixels, alpha, metadata, "tif")


def _divided(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Returns colours that are not multiplied by alpha."""
    opacity = as_type(alpha, np.float32)
    colours = as_type(pixels, np.float32) / np.where(opacity > 0, opacity, 1)
    return as_type(colours.clip(0, 1), pixels.dtype)


def _numbers(entry: Entry, order: str) -> list[int]:
    """Returns the values of an entry of unsigned integers; otherwise an empty list."""
    form = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(entry.kind)
    if form is None or isinstance(entry.content, list) or not entry.count:
        return [0]
    return list(struct.unpack(f"{order}{entry.count}{form}", entry.content))


def _metadata(entries: list[Entry], tags: dict[int, list[int]], order: str) -> Metadata:
    found = {entry.tag: entry.content for entry in entries}
    dpi = []
    for tag in (_XRES, _YRES):
        content = found.get(tag)
        if isinstance(content, bytes) and len(content) == 8:
            above, below = struct.unpack(f"{order}II", content)
            dpi.append(above / below * _INCHES.get(tags.get(_UNIT, [2])[0], 0) if below else 0)
    # EXIF is where the orientation of other formats is.
    others = (_ORIENTATION,) if 1 <= tags.get(_ORIENTATION, [0])[0] <= 8 else ()
    exif = exif_block(entries, order, others)
    icc, xmp = found.get(_ICC), found.get(_XMP)
    return Metadata(
        icc=icc if isinstance(icc, bytes) and icc else None,
        exif=exif,
        xmp=xmp if isinstance(xmp, bytes) and xmp else None,
        dpi=(dpi[0], dpi[1]) if len(dpi) == 2 and min(dpi) > 0 else None,
    )


def _stored_upright(data: mmap.mmap, entries: list[Entry], order: str) -> bytes:
    """Returns the content of a file with orientation 1, so that Pillow does not turn it."""
    content = bytearray(data[:])
    for entry in entries:
        if entry.tag == _ORIENTATION and entry.kind == 3:
            value = entry.place + (12 if data[2:4] in (b"+\0", b"\0+") else 8)
            content[value : value + 2] = struct.pack(f"{order}H", 1)
    return bytes(content)


def write(path: Path, picture: Picture) -> list[str]:
    """Writes a picture with deflate compression; returns notes on what the file does not hold.

    The tags of EXIF that describe the picture become those of the file; the directories of EXIF and
    GPS are written behind the pixels.
    """
    import tifffile  # slow to import, and rarely needed

    metadata, pixels, alpha = picture.metadata, picture.pixels, picture.alpha
    order, entries = "<", []
    if metadata.exif:
        try:
            order, start, _ = directory_start(metadata.exif)
            entries = read_directory(metadata.exif, order, start)
        except ValueError:  # a damaged block
            entries = []
    planes = pixels if alpha is None else np.concatenate([pixels, alpha])
    options = {}
    if metadata.dpi:
        options = {"resolution": metadata.dpi, "resolutionunit": 2}
    values = planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0)
    tifffile.imwrite(
        path,
        np.ascontiguousarray(values),
        byteorder=order,  # type: ignore[arg-type]
        photometric="minisblack" if len(pixels) == 1 else "rgb",
        planarconfig=None if len(planes) == 1 else "contig",
        extrasamples=None if alpha is None else ["unassalpha"],
        compression="zlib",
        predictor=values.dtype != np.float32,
        software=False,
        metadata=None,
        iccprofile=metadata.icc,
        **options,  # type: ignore[arg-type]
    )
    kept = (*DESCRIPTIVE_TAGS, _ORIENTATION, EXIF_DIRECTORY, GPS_DIRECTORY)
    extra = [entry for entry in entries if entry.tag in kept and entry.content]
    if metadata.xmp:
        extra.append(Entry(_XMP, 1, len(metadata.xmp), metadata.xmp))
    if extra:
        _add_entries(path, extra)
    return []


def _add_entries(path: Path, extra: list[Entry]) -> None:
    """Adds entries to a file with one directory, which is written again at its end.

    (tifffile writes no directory of EXIF.)
    """
    with path.open("r+b") as file:
        order, start, big = directory_start(file.read(16))
        wide, count_form, size = ("Q", "Q", 20) if big else ("I", "H", 12)
        file.seek(start)
        (number,) = struct.unpack(order + count_form, file.read(struct.calcsize(count_form)))
        entries = {}
        for _ in range(number):
            line = file.read(size)
            tag, kind, count = struct.unpack_from(f"{order}HH{wide}", line)
            content = line[struct.calcsize(f"{order}HH{wide}") :]
            entries[tag] = Entry(tag, kind, count, content)
        entries |= {entry.tag: entry for entry in extra}
        end = file.seek(0, io.SEEK_END)
        end += end % 2
        file.seek(end)
        file.write(write_directory(list(entries.values()), order, end, big))
        file.seek(8 if big else 4)
        file.write(struct.pack(order + wide, end))

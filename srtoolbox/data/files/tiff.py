"""Reads TIFF files, which have more variants than any single decoder reads correctly.

tifffile reads the header, and the pixels unless they are compressed with LZW or a similar method.
Pillow (8 bits) and OpenCV (more bits) decode those; neither is used for planes that are stored
separately, because OpenCV silently mixes them up.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageFile

from srtoolbox.data.files.image_info import Decode, ImageFault, ImageInfo

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_UNSUPPORTED_COLOURS = {0: "grey with white as 0", 3: "a palette image", 5: "a CMYK image"}
_GREY, _RGB, _YCBCR = 1, 2, 6
_PLAIN_COMPRESSIONS = (1, 8, 32946)  # none, and the two numbers of deflate
_PLAIN_PREDICTORS = (1, 2)  # none, and horizontal differences
_MAX_COMPRESSION = 2000  # pixel values per byte of the file that any of the methods can reach
_SEPARATE = 2  # one plane after the other


def open_tiff(path: Path, raw: bool) -> tuple[ImageInfo, Decode]:
    """Reads the header; returns the form, and the function that decodes the pixels to (C, H, W).

    Args:
        path: The file.
        raw: As of ``read_image``.

    Raises:
        ImageFault: if the file is truncated or has several images or unsupported colours.
        Exception: others that tifffile raises for damaged files.
    """
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
        _check_colours(path, page)
        ends = (a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends, default=0) > file.filehandle.size:
            raise ImageFault(f"{path}: truncated; replace or remove it", "truncated")
        info = ImageInfo(
            page.samplesperpixel,
            page.imagelength,
            page.imagewidth,
            f"{page.bitspersample}-bit" if page.dtype is None else page.dtype.name,
        )
        if math.prod(info[:3]) > _MAX_COMPRESSION * file.filehandle.size:
            raise ValueError(f"{info.width}×{info.height} pixels cannot be in such a small file")
        separate = info.channels > 1 and page.planarconfig == _SEPARATE
        if page.compression in _PLAIN_COMPRESSIONS and page.predictor in _PLAIN_PREDICTORS:
            return info, lambda: _decode_plain(path, page.index, info, separate, raw)
        if separate or (info.channels == 3 and page.photometric == _GREY):
            raise ImageFault(
                f"{path}: bands compressed by {_compression_name(page)}, stored separately or "
                "without a colour space; save it interleaved as RGB, or uncompressed",
                "not an image",
            )
    if info.dtype == "uint8" and info.channels < 4:
        return info, lambda: decode_pillow(path, ("TIFF",), info.dtype, raw)
    return info, lambda: decode_opencv(path.read_bytes(), raw)


def _open(path: Path) -> TiffFile:
    import tifffile  # slow to import, and rarely needed

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it also raises what it logs
    return tifffile.TiffFile(path)


def _compression_name(page: TiffPage) -> str:
    return getattr(page.compression, "name", str(page.compression))


def _check_colours(path: Path, page: TiffPage) -> None:
    wanted = "expected grey or RGB without alpha, convert it first"
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


def decode_pillow(path: Path, formats: tuple[str, ...], dtype: str, raw: bool) -> np.ndarray:
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

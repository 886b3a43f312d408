"""TIFF files, which come in more forms than one decoder reads correctly.

tifffile reads the header, and the pixels too unless they are packed with LZW or the like. Those
are left to Pillow (8 bits) and OpenCV (deeper), neither of which is trusted with planes that are
stored apart: OpenCV mixes them up in silence.
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

_REFUSED = {0: "grey with white as 0", 3: "a palette image", 5: "a CMYK image"}
_GREY, _RGB, _YCBCR = 1, 2, 6
_PLAIN_COMPRESSIONS = (1, 8, 32946)  # none, and the two numbers of deflate
_PLAIN_PREDICTORS = (1, 2)  # none, and horizontal differences
_MOST_PACKED = 2000  # times smaller than its pixels a file can be, by any of the compressions
_SEPARATE = 2  # planes one after the other


def open_tiff(path: Path, raw: bool) -> tuple[ImageInfo, Decode]:
    """What the header says, and the function that decodes the pixels to (C, H, W)."""
    with _open(path) as file:
        # Overviews and masks, which geographic files carry along, are not pictures of their own.
        pages = [page for page in file.pages if not (page.is_reduced or page.is_mask)]
        if not pages:
            raise ImageFault(f"{path}: truncated or broken; replace or remove it", "truncated")
        if len(pages) > 1:
            raise ImageFault(
                f"{path}: {len(pages)} pictures; expected one, save them singly",
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
        if math.prod(info[:3]) > _MOST_PACKED * file.filehandle.size:
            raise ValueError(f"{info.width}×{info.height} pixels cannot be in so small a file")
        separate = info.channels > 1 and page.planarconfig == _SEPARATE
        if page.compression in _PLAIN_COMPRESSIONS and page.predictor in _PLAIN_PREDICTORS:
            return info, lambda: _decode_plain(path, page.index, info, separate, raw)
        if separate or (info.channels == 3 and page.photometric == _GREY):
            raise ImageFault(
                f"{path}: bands packed by {page.compression.name}, each on its own or without a "
                "colour space; save it interleaved as RGB, or uncompressed",
                "not an image",
            )
    if info.dtype == "uint8" and info.channels < 4:
        return info, lambda: _decode_pillow(path, raw)
    return info, lambda: _decode_opencv(path, raw)


def _open(path: Path) -> TiffFile:
    import tifffile  # heavy, and few need it

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it reports, it also raises
    return tifffile.TiffFile(path)


def _check_colours(path: Path, page: TiffPage) -> None:
    wanted = "expected grey or RGB without alpha, convert it first"
    if page.photometric not in (_GREY, _RGB, _YCBCR):
        what = _REFUSED.get(page.photometric, f"colours of kind {page.photometric!r}")
        raise ImageFault(f"{path}: {what}; {wanted}", "wrong channels")
    if page.bitspersample == 1:
        raise ImageFault(f"{path}: a 1-bit image; {wanted}", "wrong channels")


def _decode_plain(path: Path, index: int, info: ImageInfo, separate: bool, raw: bool) -> np.ndarray:
    with _open(path) as file:
        pixels = file.pages[index].asarray().astype(info.dtype, copy=False)
    if separate:
        pixels = pixels.reshape(info[:3])
    else:
        pixels = pixels.reshape(info.height, info.width, info.channels).transpose(2, 0, 1)
    if raw and info.channels > 1:  # the order in which OpenCV gives them
        return pixels[[2, 1, 0, 3][: info.channels]]
    return pixels


def _decode_pillow(path: Path, raw: bool) -> np.ndarray:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # as in reader.py
    with Image.open(path, formats=("TIFF",)) as image:
        pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[:: -1 if raw else 1]


def _decode_opencv(path: Path, raw: bool) -> np.ndarray:
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its pixels cannot be decoded")
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[:: 1 if raw else -1]

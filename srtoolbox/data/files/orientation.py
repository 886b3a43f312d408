"""Reads the orientation tag of an image and turns its pixels as ``cv2.imread`` does.

A camera that was held upright stores its image lying and says so in a tag of EXIF or TIFF.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from srtoolbox.data.files.archives import open_encoded

_TAG = 0x0112
_SHORT = 3
_PNG_START = 8  # bytes of the signature
_MAX_CHUNKS = 1_000_000
_MAX_EXIF = 2**20  # bytes; the tag is at the begin


def exif_orientation(exif: bytes) -> int:
    """Returns the orientation 1 to 8 in an EXIF block; 1 if it has none or is damaged.

    Args:
        exif: The block, with or without the six bytes ``Exif\\0\\0`` before it.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, place)
            if tag == _TAG:
                return value if kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def png_exif(path: Path) -> bytes:
    """Returns the EXIF block of a PNG, which may be before or behind its pixels; empty: none."""
    with open_encoded(path) as file:
        size = file.seek(0, 2)
        start = _PNG_START
        for _ in range(_MAX_CHUNKS):
            if start + 12 > size:
                break
            file.seek(start)
            head = file.read(8)
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind == b"eXIf":
                return file.read(min(length, _MAX_EXIF))
            if kind == b"IEND":
                break
            start += 12 + length
    return b""


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Returns the view of stored pixels (C, H, W) that is upright for an orientation 1 to 8."""
    if orientation >= 5:
        pixels = pixels.transpose(0, 2, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, :, ::-1]
    return pixels

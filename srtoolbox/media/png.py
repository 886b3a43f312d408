"""Encodes PNG files of 8 and 16 bits."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

from srtoolbox.media.metadata import PNG_START, png_chunk

_COMPRESSION = 6
_UP = 2  # the filter that stores each line as the difference to the line above


def encode_png(pixels: np.ndarray, alpha: np.ndarray | None) -> bytes:
    """Returns a PNG without metadata.

    Args:
        pixels: (1 or 3, H, W), uint8 or uint16.
        alpha: (1, H, W) of the same type; None: opaque.
    """
    planes = pixels if alpha is None else np.concatenate([pixels, alpha])
    values = np.ascontiguousarray(planes.transpose(1, 2, 0))
    if len(planes) == 2:  # OpenCV has no grey with alpha, and Pillow none of 16 bits
        return _grey_alpha(values)
    if planes.dtype == np.uint8:
        buffer = io.BytesIO()
        image = Image.fromarray(values[..., 0] if len(planes) == 1 else values)
        image.save(buffer, "PNG", compress_level=_COMPRESSION)
        return buffer.getvalue()
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[len(planes)]
    options = [cv2.IMWRITE_PNG_COMPRESSION, _COMPRESSION]
    done, content = cv2.imencode(".png", np.ascontiguousarray(values[..., order]), options)
    if not done:
        raise MemoryError("OpenCV could not encode the PNG")
    return content.tobytes()


def _grey_alpha(values: np.ndarray) -> bytes:
    height, width = values.shape[:2]
    bits = 8 * values.itemsize
    lines = values.astype(values.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, 1 + lines.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, bits, 4, 0, 0, 0)
    data = zlib.compress(filtered.tobytes(), _COMPRESSION)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return PNG_START + b"".join(png_chunk(*chunk) for chunk in chunks)

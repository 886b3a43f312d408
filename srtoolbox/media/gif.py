"""Reads GIF animations as browsers show them.

Pillow decodes the parts; they are put together here, because Pillow clears to the background colour
where the standard's users expect transparency, and forgets pictures that should come back.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

MAX_PIXELS = 2**26
"""Largest number of pixels of a frame; damaged headers often state more."""

_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL, _APPLICATION = 0xF9, 0xFF
_LOOPING = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_TO_NOTHING, _TO_PREVIOUS = 2, 3


class GifPart(NamedTuple):
    """A stored part of a frame.

    ``transparent`` is the index of transparent pixels; ``duration`` is in milliseconds; ``data``
    is the compressed image, from its first byte to the end of its blocks.
    """

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    palette: bytes
    transparent: int | None
    disposal: int
    duration: int
    data: bytes


class Gif(NamedTuple):
    """A GIF file: its size, its parts, and its count of repetitions (None: no count)."""

    width: int
    height: int
    parts: list[GifPart]
    repetitions: int | None


def parse_gif(content: bytes) -> Gif:
    """Returns what a GIF contains; a missing end marker is no error.

    Raises:
        ValueError: if the file is cut off, or has unknown blocks.
    """
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"{width}×{height} pixels are none or too many")
    shared, place = _palette(content, 13, flags)
    parts, repetitions = [], None
    disposal, duration, transparent = 0, 0, None
    while place < len(content) and content[place] != _END:
        if content[place] == _EXTENSION:
            kind = _byte(content, place + 1)
            blocks, place = _blocks(content, place + 2)
            if kind == _CONTROL and blocks and len(blocks[0]) >= 4:
                flags, delay, index = struct.unpack_from("<BHB", blocks[0])
                disposal, duration = flags >> 2 & 7, 10 * delay
                transparent = index if flags & 1 else None
            elif kind == _APPLICATION and blocks and blocks[0] in _LOOPING:
                found = [block for block in blocks[1:] if len(block) == 3 and block[0] == 1]
                repetitions = struct.unpack("<H", found[0][1:])[0] if found else repetitions
        elif content[place] == _IMAGE:
            try:
                left, top, across, down, flags = struct.unpack_from("<HHHHB", content, place + 1)
            except struct.error as error:
                raise ValueError("the file is cut off") from error
            own, place = _palette(content, place + 10, flags)
            start = place
            _, place = _blocks(content, place + 1)
            form = left, top, across, down, bool(flags & 0x40), own or shared
            data = content[start:place]
            parts.append(GifPart(*form, transparent, disposal, duration, data))
            disposal, duration, transparent = 0, 0, None
        else:
            raise ValueError(f"byte {place} begins no block")
    return Gif(width, height, parts, repetitions)


def gif_frames(gif: Gif) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the whole frames as RGBA (4, H, W) uint8, and their durations in milliseconds.

    Raises:
        OSError, ValueError: if a part cannot be decoded.
    """
    canvas = np.zeros((4, gif.height, gif.width), np.uint8)
    for part in gif.parts:
        before = canvas.copy() if part.disposal == _TO_PREVIOUS else canvas
        index = _decoded(part)[: max(0, gif.height - part.top), : max(0, gif.width - part.left)]
        colours = np.zeros((256, 4), np.uint8)
        known = np.frombuffer(part.palette, np.uint8).reshape(-1, 3)
        colours[: len(known), :3] = known
        colours[:, 3] = 255
        rows = slice(part.top, part.top + index.shape[0])
        columns = slice(part.left, part.left + index.shape[1])
        seen = np.ones(index.shape, bool) if part.transparent is None else index != part.transparent
        window = canvas[:, rows, columns]
        window[:, seen] = colours[index[seen]].T
        yield canvas.copy(), part.duration
        if part.disposal == _TO_NOTHING:
            window[:] = 0
        canvas = before


def _decoded(part: GifPart) -> np.ndarray:
    """Returns the indices (H, W) of a part."""
    if not (part.width and part.height):
        return np.zeros((0, 0), np.uint8)
    size = struct.pack("<HH", part.width, part.height)
    greys = bytes(value for level in range(256) for value in (level,) * 3)
    alone = b"GIF89a" + size + b"\xf7\0\0" + greys
    alone += b"\x2c\0\0\0\0" + size + bytes([0x40 * part.interlaced]) + part.data + b"\x3b"
    with Image.open(io.BytesIO(alone), formats=("GIF",)) as image:
        return np.asarray(image)


def _palette(content: bytes, place: int, flags: int) -> tuple[bytes, int]:
    """Returns a palette, if the flags announce one, and the place behind it."""
    if not flags & 0x80:
        return b"", place
    end = place + (3 << (flags & 7) + 1)
    if end > len(content):
        raise ValueError("the file is cut off")
    return content[place:end], end


def _blocks(content: bytes, place: int) -> tuple[list[bytes], int]:
    """Returns the blocks that begin at a place, and the place behind them."""
    blocks = []
    while length := _byte(content, place):
        blocks.append(content[place + 1 : place + 1 + length])
        place += 1 + length
    return blocks, place + 1


def _byte(content: bytes, place: int) -> int:
    if place >= len(content):
        raise ValueError("the file is cut off")
    return content[place]

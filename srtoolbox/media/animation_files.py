"""Writes the containers of GIF, APNG and WebP animations frame by frame."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from srtoolbox.media.metadata import PNG_START, Metadata, png_chunk, png_chunks, png_with_metadata
from srtoolbox.media.png import encode_png

_ICC_FLAG, _ALPHA_FLAG, _ANIMATION_FLAG = 0x20, 0x10, 0x02
_MAX_DURATION = 2**16 - 1  # of GIF in hundredths of a second, of APNG in milliseconds


class _Window(NamedTuple):
    top: int
    left: int
    bottom: int
    right: int


def _changed(frame: np.ndarray, before: np.ndarray | None, step: int = 1) -> _Window:
    """Returns the smallest window of changed pixels; at least 1 × 1, from multiples of ``step``."""
    height, width = frame.shape[1:]
    if before is None:
        return _Window(0, 0, height, width)
    differs = (frame != before).any(0)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not len(rows):
        return _Window(0, 0, 1, 1)
    top, left = rows[0] // step * step, columns[0] // step * step
    return _Window(int(top), int(left), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _cut(frame: np.ndarray, window: _Window) -> np.ndarray:
    return frame[:, window.top : window.bottom, window.left : window.right]


class _Clock:
    """Rounds durations so that their sum is right.

    Args:
        unit: Milliseconds of one unit.
        largest: Largest duration in units.
    """

    def __init__(self, unit: float, largest: int) -> None:
        self.unit, self.largest, self.exact, self.rest = unit, largest, True, 0.0

    def units(self, duration: float) -> int:
        wanted = max(0.0, duration) / self.unit + self.rest
        rounded = min(self.largest, int(wanted + 0.5))
        self.rest = wanted - rounded
        self.exact &= abs(self.rest) < 1e-9
        return rounded


class GifFile:
    """Writes an animated GIF.

    A frame stays, and the next one replaces only the window that changes. A frame before one with
    transparent pixels is stored whole and cleared, because GIF cannot make a pixel transparent
    again otherwise.

    Args:
        file: A new file.
        width: Width in pixels.
        height: Height in pixels.
        plays: How often it is shown; 0: without end.
    """

    def __init__(self, file: BinaryIO, width: int, height: int, plays: int) -> None:
        self.file, self.notes = file, []
        self._clock = _Clock(10, _MAX_DURATION)
        self._waiting: tuple[np.ndarray, int] | None = None
        self._canvas: np.ndarray | None = None  # None: cleared
        file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0x70, 0, 0))
        if plays != 1:  # the count is that of repetitions
            count = struct.pack("<H", plays and plays - 1)
            file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + count + b"\0")

    def add(self, frame: np.ndarray, duration: float) -> None:
        """Adds RGBA (4, H, W) that is shown for ``duration`` milliseconds."""
        alpha = frame[3]
        if ((alpha > 0) & (alpha < 255)).any():
            self._note("GIF holds no partial transparency: alpha is 0 below 128, otherwise 255")
        seen = alpha >= 128
        frame = np.concatenate([frame[:3] * seen, seen[None].astype(np.uint8)])
        if self._waiting is not None:
            self._write(*self._waiting, clear=not seen.all())
        self._waiting = frame, self._clock.units(duration)

    def close(self) -> None:
        """Ends the file."""
        if self._waiting is not None:
            self._write(*self._waiting, clear=False)
        self.file.write(b"\x3b")
        if not self._clock.exact:
            self._note("GIF durations are multiples of 10 ms: they are rounded, their sum is kept")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _write(self, frame: np.ndarray, duration: int, clear: bool) -> None:
        window = _changed(frame, None if clear else self._canvas)
        part = _cut(frame, window)
        seen = part[3] > 0
        index, palette = self._indexed(part[:3], seen)
        transparent = not seen.all()
        bits = max(1, (len(palette) - 1).bit_length())
        packed = (2 if clear else 1) << 2 | transparent
        number = len(palette) - 1 if transparent else 0
        self.file.write(b"\x21\xf9\x04" + struct.pack("<BHBB", packed, duration, number, 0))
        height, width = index.shape
        place = struct.pack("<HHHHB", window.left, window.top, width, height, 0x80 | (bits - 1))
        self.file.write(b"\x2c" + place + palette.tobytes().ljust(3 << bits, b"\0"))
        self.file.write(_lzw(index))
        self._canvas = None if clear else frame

    def _indexed(self, part: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns indices (H, W) and palette (N, 3); transparent pixels have the last index."""
        room = 256 if seen.all() else 255
        codes = part[0].astype(np.int32) << 16 | part[1].astype(np.int32) << 8 | part[2]
        found, inverse = np.unique(codes[seen], return_inverse=True)
        index = np.full(seen.shape, min(len(found), room), np.uint8 if room < 256 else np.int32)
        if len(found) <= room:
            index[seen] = inverse.ravel()
            palette = np.stack([found >> 16, found >> 8 & 255, found & 255], -1).astype(np.uint8)
        else:
            self._note(
                "GIF holds at most 256 colours in a frame: frames with more are reduced by median "
                "cut, without dithering"
            )
            # Transparent pixels must not use up colours: only those that are seen are counted.
            line = Image.fromarray(part.transpose(1, 2, 0)[seen][None])
            method, dither = Image.Quantize.MEDIANCUT, Image.Dither.NONE
            reduced = line.quantize(room, method, dither=dither)
            index[seen] = np.asarray(reduced).ravel()
            colours = reduced.getpalette() or []
            palette = np.array(colours[: 3 * room], np.uint8).reshape(-1, 3)
            index[~seen] = len(palette)
        if not seen.all():
            palette = np.concatenate([palette, np.zeros((1, 3), np.uint8)])
        return index.astype(np.uint8), palette


def _lzw(index: np.ndarray) -> bytes:
    """Returns the compressed data of an image of indices, as blocks of a GIF."""
    buffer = io.BytesIO()
    image = Image.fromarray(index)  # grey of 8 bits has a palette of 256, so that codes have 8 bits
    image.save(buffer, "GIF", optimize=False, interlace=0)
    content = buffer.getvalue()
    flags = content[10]
    place = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while content[place] == 0x21:  # extensions
        place += 2
        while content[place]:
            place += 1 + content[place]
        place += 1
    flags = content[place + 9]
    place += 10 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    return content[place:-1]


class ApngFile:
    """Writes an animated PNG with 8 bits; every frame replaces a window of the one before.

    Args:
        file: A new file.
        width: Width in pixels.
        height: Height in pixels.
        plays: How often it is shown; 0: without end.
        icc: Colour profile.
    """

    def __init__(
        self, file: BinaryIO, width: int, height: int, plays: int, icc: bytes | None
    ) -> None:
        self.file, self.notes, self.plays, self.icc = file, [], plays, icc
        self._before: np.ndarray | None = None
        self._count, self._sequence, self._control = 0, 0, 0

    def add(self, frame: np.ndarray, duration: float) -> None:
        """Adds RGBA (4, H, W) that is shown for ``duration`` milliseconds."""
        window = _changed(frame, self._before)
        part = _cut(frame, window)
        chunks = list(png_chunks(encode_png(part[:3], part[3:])))
        if self._before is None:
            self._begin(chunks)
        place = window.right - window.left, window.bottom - window.top, window.left, window.top
        time = _milliseconds(duration)
        control = struct.pack(">IIIIIHHBB", self._next(), *place, *time, 0, 0)
        self.file.write(png_chunk(b"fcTL", control))
        for kind, content in chunks:
            if kind != b"IDAT":
                continue
            if self._before is None:
                self.file.write(png_chunk(b"IDAT", content))
            else:
                numbered = struct.pack(">I", self._next()) + content
                self.file.write(png_chunk(b"fdAT", numbered))
        self._before, self._count = frame, self._count + 1

    def close(self) -> None:
        """Ends the file."""
        self.file.write(png_chunk(b"IEND", b""))
        self.file.seek(self._control)
        self.file.write(png_chunk(b"acTL", struct.pack(">II", self._count, self.plays)))

    def _begin(self, chunks: list[tuple[bytes, bytes]]) -> None:
        header = PNG_START + png_chunk(*chunks[0])
        self.file.write(png_with_metadata(header, Metadata(icc=self.icc)))
        self._control = self.file.tell()
        self.file.write(png_chunk(b"acTL", struct.pack(">II", 0, 0)))  # the count comes at the end

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1


def _milliseconds(duration: float) -> tuple[int, int]:
    """Returns a duration as a fraction of a second, of two numbers of 16 bits."""
    if duration * 10 <= _MAX_DURATION:
        number = int(duration * 10 + 0.5)
        return (number // 10, 1000) if number % 10 == 0 else (number, 10000)
    if duration <= _MAX_DURATION:
        return int(duration + 0.5), 1000
    return min(_MAX_DURATION, int(duration / 100 + 0.5)), 10


class WebpFile:
    """Writes an animated WebP; every frame replaces a window of the one before.

    Args:
        file: A new file.
        width: Width in pixels.
        height: Height in pixels.
        plays: How often it is shown; 0: without end.
        quality: 1 to 100; 100 is lossless.
        icc: Colour profile.
    """

    def __init__(
        self,
        file: BinaryIO,
        width: int,
        height: int,
        plays: int,
        quality: int,
        icc: bytes | None,
    ) -> None:
        self.file, self.quality, self.notes = file, quality, []
        self._before: np.ndarray | None = None
        self._clock = _Clock(1, 2**24 - 1)
        self._flags = _ANIMATION_FLAG | (_ICC_FLAG if icc else 0)
        self._size = _three(width - 1) + _three(height - 1)
        file.write(b"RIFF\0\0\0\0WEBP" + self._header())
        if icc:
            file.write(_riff(b"ICCP", icc))
        file.write(_riff(b"ANIM", struct.pack("<IH", 0, plays)))

    def add(self, frame: np.ndarray, duration: float) -> None:
        """Adds RGBA (4, H, W) that is shown for ``duration`` milliseconds."""
        window = _changed(frame, self._before, step=2)  # places are stored divided by 2
        part = _cut(frame, window)
        if part[3].min() == 255:
            part = part[:3]
        else:
            self._flags |= _ALPHA_FLAG
        buffer = io.BytesIO()
        image = Image.fromarray(np.ascontiguousarray(part.transpose(1, 2, 0)))
        lossless = self.quality == 100
        image.save(
            buffer, "WEBP", quality=self.quality, lossless=lossless, exact=lossless, method=4
        )
        place = (window.left // 2, window.top // 2, image.width - 1, image.height - 1)
        head = b"".join(_three(value) for value in (*place, self._clock.units(duration)))
        no_blending = b"\x02"
        data = b"".join(
            _riff(kind, content)
            for kind, content in _riff_chunks(buffer.getvalue())
            if kind in (b"ALPH", b"VP8 ", b"VP8L")
        )
        self.file.write(_riff(b"ANMF", head + no_blending + data))
        self._before = frame

    def close(self) -> None:
        """Ends the file."""
        size = self.file.tell()
        self.file.seek(4)
        self.file.write(struct.pack("<I", size - 8))
        self.file.seek(12)
        self.file.write(self._header())

    def _header(self) -> bytes:
        return _riff(b"VP8X", bytes([self._flags, 0, 0, 0]) + self._size)


def _three(value: int) -> bytes:
    return value.to_bytes(3, "little")


def _riff(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _riff_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Returns kind and content of the chunks of a RIFF file."""
    chunks, place = [], 12
    while place + 8 <= len(content):
        kind = content[place : place + 4]
        (length,) = struct.unpack_from("<I", content, place + 4)
        chunks.append((kind, content[place + 8 : place + 8 + length]))
        place += 8 + length + length % 2
    return chunks

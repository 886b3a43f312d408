"""What a picture's file contains besides pixels, and how EXIF, XMP and PNG chunks store it."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

PNG_START = b"\x89PNG\r\n\x1a\n"
EXIF_START = b"Exif\0\0"
XMP_KEYWORD = b"XML:com.adobe.xmp"
EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY = 0x8769, 0x8825, 0xA005
# Title, maker, model, program, date, artist, computer, rating, copyright, and Windows' texts.
DESCRIPTIVE_TAGS = frozenset(
    {0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298}
    | {0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F}
)

_ORIENTATION = 0x0112
_WIDTHS, _HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
_SHORT, _LONG, _LONG8 = 3, 4, 16
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_VALUE_BYTES |= {13: 4, 16: 8, 17: 8, 18: 8}
_SUBDIRECTORIES = (EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY)
_MAX_ENTRIES = 4096
_MAX_TEXT = 2**24  # bytes of a profile or text; larger ones are left out
_COLOUR_CHUNKS = (b"sRGB", b"gAMA", b"cHRM", b"cICP", b"mDCV", b"cLLI")
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_INCH = 0.0254  # metres


@dataclass(frozen=True)
class Metadata:
    """Profile, EXIF, XMP and resolution of a picture.

    Args:
        icc: Colour profile.
        exif: EXIF block, which begins with the byte order (without ``Exif\\0\\0``).
        xmp: XMP packet.
        dpi: Pixels per inch, horizontally and vertically.
        png_colour: Chunks of a PNG (kind, content) that describe its colours otherwise.
        png_text: Chunks of a PNG that contain texts.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_colour: tuple[tuple[bytes, bytes], ...] = ()
    png_text: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def profile_channels(self) -> int | None:
        """Channels of the colours that the profile is for; None: no profile, or other colours."""
        return {b"RGB ": 3, b"GRAY": 1}.get((self.icc or b"")[16:20])


class Entry(NamedTuple):
    """A tag of a TIFF directory: its number, type, count of values, and their bytes.

    ``content`` is a list of entries if the tag refers to another directory. ``place`` is where the
    entry begins in the file.
    """

    tag: int
    kind: int
    count: int
    content: bytes | list[Entry]
    place: int = 0


def directory_start(data: bytes) -> tuple[str, int, bool]:
    """Returns byte order (of ``struct``), place of the first directory, and whether it is BigTIFF.

    Raises:
        ValueError: if the data do not begin like a TIFF file.
    """
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    try:
        if order and struct.unpack_from(f"{order}H", data, 2)[0] == 43:
            return order, struct.unpack_from(f"{order}Q", data, 8)[0], True
        if order and struct.unpack_from(f"{order}H", data, 2)[0] == 42:
            return order, struct.unpack_from(f"{order}I", data, 4)[0], False
    except struct.error:
        pass
    raise ValueError("has no TIFF header")


def read_directory(
    data: bytes, order: str, start: int, big: bool = False, depth: int = 0
) -> list[Entry]:
    """Reads a directory of a TIFF file or an EXIF block, with the directories of EXIF and GPS.

    Entries whose values lie outside of the data are left out.

    Args:
        data: The file or block.
        order: Byte order, ``<`` or ``>``.
        start: Place of the directory.
        big: Whether the file is BigTIFF.
        depth: Number of directories that led here; at most 2 are followed.
    """
    wide, count_form, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    inline = 8 if big else 4
    entries = []
    try:
        (number,) = struct.unpack_from(order + count_form, data, start)
        first = start + struct.calcsize(order + count_form)
        for place in range(first, first + size * min(number, _MAX_ENTRIES), size):
            tag, kind, count = struct.unpack_from(f"{order}HH{wide}", data, place)
            value = place + size - inline
            length = count * _VALUE_BYTES.get(kind, 1)
            if tag in _SUBDIRECTORIES and count == 1:
                form = wide if kind in (16, 18) else "I"
                (value,) = struct.unpack_from(order + form, data, value)
                if depth < 2:
                    inner = read_directory(data, order, value, big, depth + 1)
                    entries.append(Entry(tag, kind, count, inner, place))
                continue
            if length > inline:
                (value,) = struct.unpack_from(order + wide, data, value)
            if length <= _MAX_TEXT and value + length <= len(data):
                content = bytes(data[value : value + length])
                entries.append(Entry(tag, kind, count, content, place))
    except (struct.error, OverflowError):  # the directory is cut off, or its place impossible
        pass
    return entries


def write_directory(entries: list[Entry], order: str, start: int, big: bool = False) -> bytes:
    """Returns the bytes of a directory, and what it refers to, for the place ``start``.

    The values must have the byte order ``order``. Contents of at most 4 bytes (BigTIFF: 8) are
    stored in the entry, whatever their count states.
    """
    wide, count_form, inline = ("Q", "Q", 8) if big else ("I", "H", 4)
    pointer_kind = _LONG8 if big else _LONG
    entries = sorted(entries, key=lambda entry: entry.tag)
    table, rest = struct.pack(order + count_form, len(entries)), b""
    end = start + len(table) + (4 + 2 * inline) * len(entries) + inline
    for entry in entries:
        head = struct.pack(f"{order}HH{wide}", entry.tag, entry.kind, entry.count)
        place = end + len(rest)
        if isinstance(entry.content, list):
            head = struct.pack(f"{order}HH{wide}", entry.tag, pointer_kind, 1)
            table += head + struct.pack(order + wide, place)
            rest += write_directory(entry.content, order, place, big)
        elif len(entry.content) <= inline:
            table += head + entry.content.ljust(inline, b"\0")
        else:
            table += head + struct.pack(order + wide, place)
            rest += entry.content
        rest += b"\0" * (len(rest) % 2)
    return table + struct.pack(order + wide, 0) + rest


def exif_block(entries: list[Entry], order: str, others: tuple[int, ...] = ()) -> bytes | None:
    """Returns the EXIF block of descriptive and other tags, and of the directories EXIF and GPS.

    None: there are none.
    """
    kept = [
        entry
        for entry in {entry.tag: entry for entry in entries}.values()
        if entry.tag in (*DESCRIPTIVE_TAGS, *others)
        or (entry.tag in (EXIF_DIRECTORY, GPS_DIRECTORY) and entry.content)
    ]
    if not kept:
        return None
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(f"{order}I", 8) + write_directory(kept, order, 8)


def upright_exif(exif: bytes) -> bytes:
    """Returns an EXIF block with orientation 1; all other bytes stay where they are.

    The small preview, which is not turned, is no longer referred to if the orientation was another.
    """
    return _patched(exif, {_ORIENTATION: 1})


def sized_exif(exif: bytes, width: int, height: int) -> bytes:
    """Returns an EXIF block whose tags of the picture's size, if any, have these values."""
    return _patched(exif, dict.fromkeys(_WIDTHS, width) | dict.fromkeys(_HEIGHTS, height))


def _patched(exif: bytes, values: dict[int, int]) -> bytes:
    """Returns a block in which tags that exist with one value SHORT or LONG have new values."""
    try:
        order, start, big = directory_start(exif)
    except ValueError:
        return exif
    block = bytearray(exif)
    entries = [] if big else read_directory(exif, order, start)
    inner = [entry.content for entry in entries if isinstance(entry.content, list)]
    for entry in [*entries, *(entry for content in inner for entry in content)]:
        value = values.get(entry.tag)
        if value is None or entry.count != 1 or entry.kind not in (_SHORT, _LONG):
            continue
        assert isinstance(entry.content, bytes)  # these tags do not refer to directories
        old = struct.unpack(order + "HI"[entry.kind == _LONG], entry.content)[0]
        kind = _SHORT if entry.kind == _SHORT and value <= 0xFFFF else _LONG
        packed = struct.pack(order + "HI"[kind == _LONG], value)
        struct.pack_into(f"{order}H", block, entry.place + 2, kind)
        block[entry.place + 8 : entry.place + 12] = packed.ljust(4, b"\0")
        if entry.tag == _ORIENTATION and old != value:
            (number,) = struct.unpack_from(f"{order}H", exif, start)
            struct.pack_into(f"{order}I", block, start + 2 + 12 * number, 0)
    return bytes(block)


def upright_xmp(xmp: bytes) -> bytes:
    """Returns an XMP packet with orientation 1, as attribute or as element."""
    xmp = re.sub(rb"(tiff:Orientation\s*=\s*[\"'])[2-8]([\"'])", rb"\g<1>1\2", xmp)
    return re.sub(rb"(<tiff:Orientation>\s*)[2-8](\s*<)", rb"\g<1>1\2", xmp)


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields kind and content of the chunks of a complete PNG."""
    view, start = memoryview(content), len(PNG_START)
    while start + 12 <= len(view):
        length = int.from_bytes(view[start : start + 4], "big")
        yield bytes(view[start + 4 : start + 8]), bytes(view[start + 8 : start + 8 + length])
        start += 12 + length


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Returns a chunk with its length and checksum."""
    check = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png_metadata(content: bytes) -> Metadata:
    """Returns what the chunks of a complete PNG contain."""
    icc = exif = xmp = dpi = None
    colour, text = [], []
    for kind, chunk in png_chunks(content):
        if kind == b"iCCP":
            icc = _inflate(chunk[chunk.find(b"\0") + 2 :])
        elif kind == b"eXIf":
            exif = chunk.removeprefix(EXIF_START)
        elif kind == b"iTXt" and chunk.startswith(XMP_KEYWORD + b"\0"):
            xmp = _international_text(chunk)
        elif kind == b"pHYs" and len(chunk) == 9 and chunk[8] == 1:
            across, down = struct.unpack(">II", chunk[:8])
            dpi = (across * _INCH, down * _INCH) if across and down else None
        elif kind in _COLOUR_CHUNKS:
            colour.append((kind, chunk))
        elif kind in _TEXT_CHUNKS and not chunk.startswith(b"Raw profile type"):
            text.append((kind, chunk))
    return Metadata(icc, exif or None, xmp, dpi, tuple(colour), tuple(text))


def png_with_metadata(content: bytes, metadata: Metadata, without: tuple[bytes, ...] = ()) -> bytes:
    """Returns a PNG whose only metadata, apart from those of its pixels, are ``metadata``.

    Args:
        content: A complete PNG.
        metadata: What to write.
        without: Further kinds of chunks that are left out.
    """
    head: list[tuple[bytes, bytes]] = []
    if metadata.icc:
        head.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
        head += [chunk for chunk in metadata.png_colour if chunk[0] != b"sRGB"]
    else:
        head += metadata.png_colour
    if metadata.dpi:
        across, down = (round(value / _INCH) for value in metadata.dpi)
        head.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if metadata.exif:
        head.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        head.append((b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp))
    head += metadata.png_text
    parts = [PNG_START]
    for kind, chunk in png_chunks(content):
        if kind in _PIXEL_CHUNKS and kind not in without:
            parts.append(png_chunk(kind, chunk))
        if kind == b"IHDR":
            parts += [png_chunk(*chunk) for chunk in head]
    return b"".join(parts)


def _international_text(chunk: bytes) -> bytes | None:
    """Returns the text of an iTXt chunk: keyword, 0, compressed, method, language, 0, title, 0."""
    rest = chunk[chunk.index(b"\0") + 1 :]
    text = rest[2:].split(b"\0", 2)[-1]
    return _inflate(text) if rest[:1] == b"\1" else text


def _inflate(data: bytes) -> bytes | None:
    decompress = zlib.decompressobj()
    try:
        content = decompress.decompress(data, _MAX_TEXT)
    except zlib.error:
        return None
    return content if decompress.eof and content else None

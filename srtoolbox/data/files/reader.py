"""Reads images of 8 and 16 bits and float, with clear errors for files that cannot be read.

Images that would lose bits or transparency, and incomplete files, are errors, unless a conversion
is asked for. An image that is stored turned is turned as its orientation tag states. Pillow decodes
8-bit images, OpenCV those with more bits; ``tiff`` decodes TIFF files, ``other_formats`` PNM and
JPEG 2000, ``raster`` those of them that other decoders cannot read.
"""

from __future__ import annotations

import os
import stat
import struct
import tokenize
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from srtoolbox.data.files import archives, other_formats, tiff
from srtoolbox.data.files.image_info import (
    ADVICE,
    PLAIN,
    Decode,
    ImageFault,
    ImageInfo,
    ReadOptions,
    WindowDecoder,
    check_form,
)
from srtoolbox.data.files.orientation import exif_orientation, png_exif, turn
from srtoolbox.data.transforms.missing import fill_missing, known_pixels
from srtoolbox.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".npy"}
    | {".pgm", ".ppm", ".pnm", ".jp2"}
)

MASK_OPTIONS = ReadOptions(convert=True, any_range=True)
"""How masks are read; a pixel counts where any channel is not 0."""

_PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_MODE_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_UNSUPPORTED_MODES = {
    "1": "a 1-bit image",
    "P": "a palette image",
    "PA": "a palette image",
    "CMYK": "a CMYK image",
    "LA": "grey with an alpha channel",
    "RGBA": "RGB with an alpha channel",
}
_PNG, _JPEG, _RIFF, _BMP, _NPY = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF", b"BM", b"\x93NUMPY"
_PNM_SPACE = (b" ", b"\n", b"\t", b"\r", b"#")
_IN_LMDB = (_PNG, _JPEG, _RIFF, _BMP)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# The errors that the decoders raise for damaged files.
DECODER_ERRORS = (
    OSError,
    OverflowError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    MemoryError,  # by an impossible size
    TypeError,  # by tifffile, on tags that are numbers where they should be lists
    struct.error,
    tokenize.TokenError,  # by the header of an NPY file
    zlib.error,
    cv2.error,
)


def image_info(path: Path, options: ReadOptions = PLAIN) -> ImageInfo:
    """Returns channels, size and type of an image, from the file's header alone.

    The size is that of the turned image; the arguments are those of ``read_image``.

    Raises:
        UserError: as ``read_image``, but damage after the header is not found.
    """
    return open_file(path, options).info


def read_image(path: Path, options: ReadOptions = PLAIN) -> np.ndarray:
    """Reads the pixels of a PNG, JPEG, BMP, TIFF, WebP, PNM, JPEG 2000 or NPY file.

    Values are as stored. An image with an orientation tag is turned as by ``cv2.imread``.

    Args:
        path: The file. An NPY file contains (H, W) or (H, W, C).
        options: How the file is read.

    Returns:
        (C, H, W), possibly a view that is not contiguous; uint8, uint16 (full range 65535) or
        float32 in [0, 1]; with ``any_range`` also int16 and other finite float32. C is 1 for grey,
        3 for RGB, 4 for packed RAW, otherwise the number of bands; with ``nodata`` one more.

    Raises:
        UserError: if the file cannot be read, is damaged or truncated, or has transparency, a
            palette, another bit depth, or several images; the message names the file and the cause.
    """
    return read_opened(path, options, open_file(path, options))


def read_opened(path: Path, options: ReadOptions, file: OpenedFile) -> np.ndarray:
    """Reads the pixels of a file that ``open_file`` opened, as ``read_image``."""
    info, decode = file.stored, file.decode
    if isinstance(decode, WindowDecoder) and options.bands is not None:
        select = [number - 1 for number in options.bands]
        decode = partial(decode.window, select, 0, info.height, 0, info.width)
        info = info._replace(channels=len(select))
    with decoding(path):
        pixels = decode()
    if pixels.shape != info[:3] or pixels.dtype != info.dtype:
        raise ImageFault(
            f"{path}: its pixels are {pixels.dtype} {pixels.shape}, but its header states "
            f"{info.dtype} {info[:3]}; save it again with another program",
            "not an image",
        )
    if options.bands is not None and decode is file.decode:
        pixels = pixels[[number - 1 for number in options.bands]]
    return turn(finished(path, pixels, options, info.nodata), info.orientation)


def as_mask(pixels: np.ndarray) -> np.ndarray:
    """Returns which pixels of a mask (C, H, W) count: bool (1, H, W)."""
    return (pixels != 0).any(0, keepdims=True)


def finished(
    path: Path, pixels: np.ndarray, options: ReadOptions, stated: float | None
) -> np.ndarray:
    """Fills missing pixels and adds the channel of known ones; checks the values of floats.

    Args:
        path: The file, for messages.
        pixels: The bands (C, H, W), as stored.
        options: How the file is read.
        stated: The value of missing pixels that the file states.

    Returns:
        (C, H, W), or (C + 1, H, W) with ``nodata``; float32 if they were float64.

    Raises:
        ImageFault: as ``check_values``.
    """
    if pixels.dtype == np.float64:
        with np.errstate(over="ignore"):
            pixels = pixels.astype(np.float32)
    if options.nodata is None:
        check_values(path, pixels, options.any_range)
        return pixels
    known = known_pixels(pixels, stated if options.nodata == "file" else options.nodata)
    pixels = fill_missing(pixels, known)
    check_values(path, pixels, options.any_range)
    return np.concatenate([pixels, known.all(0, keepdims=True).astype(pixels.dtype)])


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turns the errors of decoders into those for files of users."""
    try:
        yield
    except UserError:
        raise
    except DECODER_ERRORS as error:
        raise broken_file(path, error) from error


def check_values(path: Path, pixels: np.ndarray, any_range: bool = False) -> None:
    """Checks that the values of float pixels are numbers in [0, 1]; integers always pass.

    Args:
        path: The file, for messages.
        pixels: Any array.
        any_range: Allow all finite numbers.

    Raises:
        ImageFault: if they are not.
    """
    if pixels.dtype != np.float32 or not pixels.size:
        return
    if lost := int(np.isnan(pixels).sum()):
        raise ImageFault(
            f"{path}: {lost} of {pixels.size} values are NaN (not a number); replace them, for "
            "example by the values of neighbouring pixels, or remove the file; if they mark "
            "missing pixels, set nodata to any number, such as -9999",
            "NaN pixels",
        )
    low, high = float(pixels.min()), float(pixels.max())
    if any_range and np.isfinite([low, high]).all():
        return
    if low < 0 or high > 1:
        expected = "0 to 1; scale them first, or set white_level and scale_floats: true"
        raise ImageFault(
            f"{path}: float pixels from {low:g} to {high:g}; expected "
            + ("finite numbers" if any_range else expected),
            "wrong range",
        )


def ends_whole(path: Path) -> bool:
    """Returns whether a file has the end marker or length of its format.

    This finds most truncated files without decoding. A file without its end marker may still be
    valid, with bytes appended. TIFF and NPY always pass: ``image_info`` checks their length.
    """
    if archives.open_array(path) is not None:
        return True
    with archives.open_encoded(path) as file:
        head = file.read(12)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 12))
        tail = file.read()
    if head.startswith(_PNG):
        return tail.endswith(b"IEND\xaeB`\x82")
    if head.startswith(_JPEG):
        return tail.endswith(b"\xff\xd9")
    if head.startswith(_RIFF):
        return size >= 8 + int.from_bytes(head[4:8], "little")
    if head.startswith(_BMP):
        return size >= int.from_bytes(head[2:6], "little")
    return True


class OpenedFile(NamedTuple):
    """An image file whose header was read.

    Args:
        info: The form of the image as it is read: turned, with the chosen bands, and with the
            channel of known pixels.
        stored: The form as stored, with all bands.
        decode: Decodes the pixels as stored.
    """

    info: ImageInfo
    stored: ImageInfo
    decode: Decode | WindowDecoder


def open_file(path: Path, options: ReadOptions) -> OpenedFile:
    """Reads the header of an image file.

    Raises:
        UserError: as ``image_info``.
    """
    try:
        array = archives.open_array(path)
        head = read_head(path) if array is None else b""
        if array is not None:
            info, decode = _array_form(path, *array)
        elif archives.in_lmdb(path) and not head.startswith(_IN_LMDB):
            raise ImageFault(
                f"{path}: neither a PNG, JPEG, BMP nor WebP image; store one of these in the LMDB "
                "folder",
                "not an image",
            )
        elif head.startswith(_NPY):
            info, decode = _open_npy(path)
        elif head.startswith(_TIFF):
            info, decode = tiff.open_tiff(path, options)
        elif head.startswith(other_formats.PNM) and head[2:3] in _PNM_SPACE:
            info, decode = other_formats.open_pnm(path, options.raw)
        elif head.startswith(other_formats.JPEG_2000):
            info, decode = other_formats.open_jpeg_2000(path, options)
        else:
            info, decode = _open_pillow(path, options)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        known = head.startswith((_PNG, _JPEG, _RIFF, _BMP))
        raise ImageFault(
            f"{path}: {'truncated or broken' if known else 'not an image'}; replace or remove it",
            "truncated" if known else "not an image",
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageFault(f"{path}: too large ({error}); cut it into tiles", "too large") from error
    except DECODER_ERRORS as error:
        raise broken_file(path, error) from error
    check_form(path, info, options)
    _check_stated(path, info, options)
    if options.raw:
        info = info._replace(orientation=1)
    channels = info.channels if options.bands is None else len(options.bands)
    read = info._replace(channels=channels + options.num_extra)
    if info.dtype == "float64":
        read = read._replace(dtype="float32")
    if info.orientation >= 5:
        read = read._replace(height=info.width, width=info.height)
    return OpenedFile(read, info, decode)


def read_head(path: Path) -> bytes:
    """Returns the first 8 bytes of a file.

    Raises:
        ImageFault: if the path is no regular file that can be read, or the file is empty.
    """
    try:
        if archives.in_lmdb(path):
            return _begin(path)
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise ImageFault(f"{path}: a folder, not an image file", "not an image")
        if not stat.S_ISREG(kind):  # opening a pipe would block
            raise ImageFault(f"{path}: not a regular file", "not an image")
        head = _begin(path)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise ImageFault(
                f"{path}: a symbolic link to {path.readlink()}, which does not exist; repair "
                "or remove it",
                "broken link",
            ) from error
        raise ImageFault(f"{path}: no such file", "missing") from error
    except OSError as error:
        raise ImageFault(f"{path}: cannot be read ({error.strerror})", "unreadable") from error
    return head


def _begin(path: Path) -> bytes:
    with archives.open_encoded(path) as file:
        head = file.read(8)
    if not head:
        raise ImageFault(f"{path}: an empty file (0 bytes); replace or remove it", "empty file")
    return head


def broken_file(path: Path, error: Exception) -> ImageFault:
    """Returns the error to raise where a decoder raised one of ``DECODER_ERRORS``."""
    if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the file
        return ImageFault(f"{path}: cannot be read ({error.strerror})", "unreadable")
    reason = " ".join(str(error).split())[:120]
    return ImageFault(f"{path}: truncated or broken ({reason}); replace or remove it", "truncated")


def _open_npy(path: Path) -> tuple[ImageInfo, Decode]:
    array = np.lib.format.open_memmap(path, mode="r")  # raises ValueError for pickled objects
    return _array_form(path, array.shape, array.dtype, lambda: array)


def _array_form(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, read: Callable[[], np.ndarray]
) -> tuple[ImageInfo, Decode]:
    """Returns the form of an array (H, W) or (H, W, C), and the function that decodes it."""
    if len(shape) not in (2, 3):
        raise ImageFault(
            f"{path}: an array of shape {shape}; expected (H, W) or (H, W, C)",
            "wrong channels",
        )
    height, width, channels = (*shape, 1)[:3]
    info = ImageInfo(channels, height, width, dtype.name)

    def decode() -> np.ndarray:
        return (
            np.array(read(), dtype=info.dtype).reshape(height, width, channels).transpose(2, 0, 1)
        )

    return info, decode


def _check_stated(path: Path, info: ImageInfo, options: ReadOptions) -> None:
    """Checks that an image in an LMDB folder has the shape that ``meta_info.txt`` states.

    Raises:
        ImageFault: if it has not.
    """
    stated = archives.stated_shape(path)
    found = info.height, info.width, info.channels
    compared = 2 if options.convert else 3  # a conversion changes the channels
    if stated is not None and stated[:compared] != found[:compared]:
        raise ImageFault(
            f"{path}: its shape (H, W, C) is {found}, but meta_info.txt states {stated}; make the "
            "LMDB folder again",
            "wrong shape",
        )


def _open_pillow(path: Path, options: ReadOptions) -> tuple[ImageInfo, Decode]:
    raw, convert, keep = options.raw, options.convert, options.keeps_alpha
    with (
        archives.image_source(path) as source,
        Image.open(source, formats=_PILLOW_FORMATS) as image,
    ):
        # Pillow reduces 16-bit colour to 8 bits; only the decoder's argument shows it: "RGB;16B".
        deep = image.format == "PNG" and ";16" in str(image.tile)
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames > 1:
            raise ImageFault(
                f"{path}: an animation of {frames} images; expected one, save them separately",
                "several images",
            )
        mode = "L" if deep and image.mode.startswith("I") else image.mode
        transparent = "transparency" in image.info and mode in ("L", "RGB")
        packed = raw and mode == "RGBA" and image.format == "PNG"
        keep = keep and mode in ("LA", "RGBA")
        plain = not transparent and (mode in ("L", "RGB") or packed or keep)
        if not (plain or (convert and (transparent or mode in _UNSUPPORTED_MODES))):
            found = "a colour marked as transparent"
            if not transparent:
                found = _UNSUPPORTED_MODES.get(mode, mode)
            raise ImageFault(
                f"{path}: {found}; expected grey or RGB without alpha, {ADVICE}",
                "wrong channels",
            )
        exif = png_exif(path) if image.format == "PNG" else image.info.get("exif", b"")
        depth = "uint16" if deep else "uint8"
        channels = _MODE_CHANNELS[mode] if plain else 3
        info = ImageInfo(channels, image.height, image.width, depth, exif_orientation(exif))
    if not plain:
        if deep:
            return info, lambda: _drop_alpha(tiff.decode_opencv(read_whole_png(path), raw=True))
        return info, partial(_with_source, path, tiff.decode_as_rgb, _PILLOW_FORMATS)
    if keep and deep:
        order = [0, 3] if mode == "LA" else [2, 1, 0, 3]
        return info, lambda: tiff.decode_opencv(read_whole_png(path), raw=True)[order]
    if packed or (deep and mode == "RGB"):
        return info, lambda: tiff.decode_opencv(read_whole_png(path), raw)
    decode = tiff.decode_pillow
    return info, partial(_with_source, path, decode, _PILLOW_FORMATS, info.dtype, raw)


def _with_source(path: Path, decode: Callable[..., np.ndarray], *arguments: Any) -> np.ndarray:
    with archives.image_source(path) as source:
        return decode(source, *arguments)


def _drop_alpha(pixels: np.ndarray) -> np.ndarray:
    """Returns RGB (3, H, W) of grey, BGR or BGRA."""
    return np.repeat(pixels[:1], 3, axis=0) if len(pixels) < 3 else pixels[2::-1]


def read_whole_png(path: Path) -> bytes:
    """Reads a PNG and checks that it is complete and undamaged.

    OpenCV may fill the missing rest of a truncated file with black.

    Raises:
        ValueError: names the byte where the damage begins.
    """
    with archives.open_encoded(path) as file:
        content = file.read()
    view, start = memoryview(content), len(_PNG)
    while start + 12 <= len(view):
        end = start + 8 + int.from_bytes(view[start : start + 4], "big")
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            break
        if view[start + 4 : start + 8] == b"IEND":
            return content
        start = end + 4
    raise ValueError(f"damaged or cut off after byte {start}")

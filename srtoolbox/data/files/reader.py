"""Reading images of 8 and 16 bits and float, with clear words for what cannot be read.

Nothing is converted on the way: what would lose bits, mix in transparency or show half a picture
is refused. Pillow decodes what has 8 bits, OpenCV what is deeper; ``tiff`` looks after TIFF.
"""

from __future__ import annotations

import os
import stat
import struct
import tokenize
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from srtoolbox.data.files import tiff
from srtoolbox.data.files.image_info import Decode, ImageFault, ImageInfo, check_form

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy"})

_PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_MODES = {"L": 1, "RGB": 3, "RGBA": 4}
_REFUSED = {
    "1": "a 1-bit image",
    "P": "a palette image",
    "PA": "a palette image",
    "CMYK": "a CMYK image",
    "LA": "grey with an alpha channel",
    "RGBA": "RGB with an alpha channel",
}
_PNG, _JPEG, _RIFF, _BMP, _NPY = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF", b"BM", b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What the decoders raise when a file makes no sense to them.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    MemoryError,  # by a size that is none
    TypeError,  # by tifffile, on tags that are numbers where they should be lists
    struct.error,
    tokenize.TokenError,  # by the header of an NPY file
    zlib.error,
    cv2.error,
)


def image_info(path: Path, raw: bool = False) -> ImageInfo:
    """Channels, size and type of an image, from the file's header alone.

    Raises:
        UserError: as ``read_image``, except that a file broken after its header passes.
    """
    return _open(path, raw)[0]


def read_image(path: Path, raw: bool = False) -> np.ndarray:
    """The pixels of a PNG, JPEG, BMP, TIFF, WebP or NPY file, as stored.

    Args:
        path: The file. NPY holds (H, W) or (H, W, C).
        raw: Sensor data: 4 channels are allowed, and the order of colours is not touched: it is
            that of ``cv2.imread(…, cv2.IMREAD_UNCHANGED)``, which undoes ``cv2.imwrite``.

    Returns:
        (C, H, W), perhaps a view with other strides; uint8, uint16 (full range 65535) or float32
        in [0, 1]. C is 1 for grey, 3 for RGB, 4 for packed RAW.

    Raises:
        UserError: names the file and says what it is, if it cannot be read, is broken or breaks
            off, or has transparency, a palette, another depth, or several pictures.
    """
    info, decode = _open(path, raw)
    try:
        pixels = decode()
    except ImageFault:
        raise
    except _BROKEN as error:
        raise _broken(path, error) from error
    if pixels.shape != info[:3] or pixels.dtype != info.dtype:
        raise ImageFault(
            f"{path}: its pixels are {pixels.dtype} {pixels.shape}, which its header does not say; "
            "save it again with another program",
            "not an image",
        )
    if pixels.dtype == np.float32:
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # so written, it catches NaN too
            raise ImageFault(
                f"{path}: float pixels from {low:g} to {high:g}; expected 0 to 1, scale them first",
                "wrong range",
            )
    return pixels


def ends_whole(path: Path) -> bool:
    """Whether an image file ends as its format says; a cheap look that finds most cut-off files.

    A file that does not may still be in order, with something appended. TIFF and NPY always pass:
    ``image_info`` knows how long they must be.
    """
    with path.open("rb") as file:
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


def _open(path: Path, raw: bool) -> tuple[ImageInfo, Decode]:
    """What the header says, and the function that decodes the rest to (C, H, W)."""
    head = _read_head(path)
    try:
        if head.startswith(_NPY):
            info, decode = _open_npy(path)
        elif head.startswith(_TIFF):
            info, decode = tiff.open_tiff(path, raw)
        else:
            info, decode = _open_pillow(path, raw)
    except ImageFault:
        raise
    except UnidentifiedImageError as error:
        begun = head.startswith((_PNG, _JPEG, _RIFF, _BMP))
        raise ImageFault(
            f"{path}: {'truncated or broken' if begun else 'not an image'}; replace or remove it",
            "truncated" if begun else "not an image",
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageFault(f"{path}: too large ({error}); cut it into tiles", "too large") from error
    except _BROKEN as error:
        raise _broken(path, error) from error
    check_form(path, info, raw)
    return info, decode


def _read_head(path: Path) -> bytes:
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise ImageFault(f"{path}: a folder, not an image file", "not an image")
        if not stat.S_ISREG(kind):  # opening a pipe would wait for ever
            raise ImageFault(f"{path}: not a regular file", "not an image")
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise ImageFault(
                f"{path}: a symbolic link to {path.readlink()}, which does not exist; mend or "
                "remove it",
                "broken link",
            ) from error
        raise ImageFault(f"{path}: no such file", "missing") from error
    except OSError as error:
        raise ImageFault(f"{path}: cannot be read ({error.strerror})", "unreadable") from error
    if not head:
        raise ImageFault(f"{path}: an empty file (0 bytes); replace or remove it", "empty file")
    return head


def _broken(path: Path, error: Exception) -> ImageFault:
    if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the file's
        return ImageFault(f"{path}: cannot be read ({error.strerror})", "unreadable")
    reason = " ".join(str(error).split())[:120]
    return ImageFault(f"{path}: truncated or broken ({reason}); replace or remove it", "truncated")


def _open_npy(path: Path) -> tuple[ImageInfo, Decode]:
    array = np.lib.format.open_memmap(path, mode="r")  # refuses pickled objects
    if array.ndim not in (2, 3):
        raise ImageFault(
            f"{path}: an array of shape {array.shape}; expected (H, W) or (H, W, C)",
            "wrong channels",
        )
    array = array[..., None] if array.ndim == 2 else array
    height, width, channels = array.shape
    info = ImageInfo(channels, height, width, array.dtype.name)
    return info, lambda: np.array(array, dtype=info.dtype).transpose(2, 0, 1)


def _open_pillow(path: Path, raw: bool) -> tuple[ImageInfo, Decode]:
    with Image.open(path, formats=_PILLOW_FORMATS) as image:
        # Pillow cuts 16-bit colour to 8 bits; only the decoder's argument tells: "RGB;16B".
        deep = image.format == "PNG" and ";16" in str(image.tile)
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames > 1:
            raise ImageFault(
                f"{path}: {frames} pictures, an animation; expected one, save them singly",
                "several images",
            )
        mode = "L" if deep and image.mode.startswith("I") else image.mode
        transparent = "transparency" in image.info and mode in ("L", "RGB")
        packed = raw and mode == "RGBA" and image.format == "PNG"
        if transparent or not (mode in ("L", "RGB") or packed):
            what = "a colour marked as transparent" if transparent else _REFUSED.get(mode, mode)
            raise ImageFault(
                f"{path}: {what}; expected grey or RGB without alpha, convert it first",
                "wrong channels",
            )
        depth = "uint16" if deep else "uint8"
        info = ImageInfo(_MODES[mode], image.height, image.width, depth)
    if packed or (deep and mode == "RGB"):
        return info, lambda: _decode_png(path, raw)
    return info, lambda: _decode_pillow(path, info, raw)


def _decode_pillow(path: Path, info: ImageInfo, raw: bool) -> np.ndarray:
    # Other libraries switch this on for the whole process; then broken files read as half black.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with Image.open(path, formats=_PILLOW_FORMATS) as image:
        pixels = np.asarray(image).astype(info.dtype, copy=False)
    if pixels.ndim == 2:
        return pixels[None]
    return pixels.transpose(2, 0, 1)[:: -1 if raw else 1]


def _decode_png(path: Path, raw: bool) -> np.ndarray:
    content = path.read_bytes()
    _check_chunks(content)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its pixels cannot be decoded")
    return pixels.transpose(2, 0, 1)[:: 1 if raw else -1]


def _check_chunks(content: bytes) -> None:
    """Checks that a PNG is whole: OpenCV may give the rest of one that breaks off as black."""
    view, start = memoryview(content), len(_PNG)
    while start + 12 <= len(view):
        end = start + 8 + int.from_bytes(view[start : start + 4], "big")
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            break
        if view[start + 4 : start + 8] == b"IEND":
            return
        start = end + 4
    raise ValueError(f"damaged or cut off after byte {start}")

"""Reads and writes pictures of users with everything that their files contain.

Depth, grey, transparency, colour profile, EXIF, XMP and resolution are kept where the format of the
output can hold them; where it cannot, a note states the decision. Formats: PNG, JPEG, WebP, TIFF,
BMP, PPM and, for any number of bands, NPY; JPEG 2000 and GIF with one frame can be read.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from srtoolbox.data.files.image_info import ImageFault, ReadOptions
from srtoolbox.data.files.orientation import exif_orientation, turn
from srtoolbox.data.files.other_formats import PNM
from srtoolbox.data.files.reader import (
    DECODER_ERRORS,
    broken_file,
    check_values,
    read_head,
    read_image,
    read_whole_png,
)
from srtoolbox.data.files.tiff import decode_opencv
from srtoolbox.errors import RunError, UserError, check_choice
from srtoolbox.media import picture_tiff
from srtoolbox.media.metadata import (
    EXIF_START,
    PNG_START,
    Metadata,
    png_chunks,
    png_metadata,
    png_with_metadata,
    sized_exif,
    upright_exif,
    upright_xmp,
)
from srtoolbox.media.output import replacing
from srtoolbox.media.picture import Picture, as_type
from srtoolbox.media.png import encode_png

Format = Literal["png", "jpg", "webp", "tif", "bmp", "ppm", "npy"]

WRITE_SUFFIXES = {
    "png": (".png",),
    "jpg": (".jpg", ".jpeg", ".jfif"),
    "webp": (".webp",),
    "tif": (".tif", ".tiff"),
    "bmp": (".bmp",),
    "ppm": (".ppm", ".pgm", ".pnm"),
    "npy": (".npy",),
}
READ_SUFFIXES = frozenset(
    {suffix for suffixes in WRITE_SUFFIXES.values() for suffix in suffixes}
    | {".apng", ".gif", ".jp2"}
)
JPEG_QUALITY, WEBP_QUALITY = 95, 95

_PILLOW = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp", "BMP": "bmp", "GIF": "gif"}
_FORMATS = ("JPEG", "WEBP", "BMP", "GIF", "PPM")  # MPO is opened as JPEG
_DEPTHS = {
    "png": ("uint8", "uint16"),
    "jpg": ("uint8",),
    "webp": ("uint8",),
    "tif": ("uint8", "uint16", "float32"),
    "bmp": ("uint8",),
    "ppm": ("uint8", "uint16"),
    "npy": ("uint8", "uint16", "int16", "float32"),
}
_NAMES = {
    **{"png": "PNG", "jpg": "JPEG", "webp": "WebP", "tif": "TIFF", "bmp": "BMP", "ppm": "PPM"},
    "npy": "NPY",
}
_TYPES = {
    **{"uint8": "8 bits", "uint16": "16 bits", "float32": "32-bit float"},
    "int16": "16 bits with a sign",
}
_HOLDS_ALPHA = ("png", "webp", "tif")
_HOLDS_BANDS = ("tif", "npy")
_MAX_SIDE = {"jpg": 65500, "webp": 16383}
_MAX_SEGMENT = 65533 - 29  # bytes of EXIF or XMP in a JPEG, less the name before them
_XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"


def read_picture(path: Path, *, auto_orient: bool = True, any_range: bool = False) -> Picture:
    """Reads a picture; its format is found by its content, not by its name.

    Palettes become RGB, with alpha where a colour is transparent; 1-bit pictures become grey. CMYK
    is converted to sRGB by the file's profile.

    Args:
        path: The file.
        auto_orient: Turn the picture as its orientation tag states, and set the tag to 1. Otherwise
            pixels and tag stay as they are.
        any_range: Allow floats of any range, and int16 in NPY files.

    Returns:
        The picture, in its own depth.

    Raises:
        UserError: if the file cannot be read, is damaged, is an animation, or has colours that
            cannot be converted; it names the file and the cause.
    """
    head = read_head(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, and of damaged EXIF
            picture = _read(path, head, any_range)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise ImageFault(f"{path}: no picture, or damaged; replace or remove it") from error
    except Image.DecompressionBombError as error:
        raise ImageFault(f"{path}: too large ({error}); cut it into tiles", "too large") from error
    except DECODER_ERRORS as error:
        raise broken_file(path, error) from error
    check_values(path, picture.pixels, any_range)
    return upright(picture) if auto_orient else _contiguous(picture, picture.pixels, picture.alpha)


def upright(picture: Picture) -> Picture:
    """Turns a picture as the orientation in its EXIF states, and sets all such tags to 1."""
    metadata = picture.metadata
    orientation = exif_orientation(metadata.exif or b"")
    pixels = turn(picture.pixels, orientation)
    alpha = None if picture.alpha is None else turn(picture.alpha, orientation)
    if orientation != 1 and metadata.exif:
        metadata = replace(metadata, exif=upright_exif(metadata.exif))
    if orientation >= 5 and metadata.dpi:
        metadata = replace(metadata, dpi=metadata.dpi[::-1])
    if metadata.xmp:
        metadata = replace(metadata, xmp=upright_xmp(metadata.xmp))
    return _contiguous(replace(picture, metadata=metadata), pixels, alpha)


def _contiguous(picture: Picture, pixels: np.ndarray, alpha: np.ndarray | None) -> Picture:
    alpha = None if alpha is None else np.ascontiguousarray(alpha)
    return replace(picture, pixels=np.ascontiguousarray(pixels), alpha=alpha)


def npy_bands(path: Path) -> int:
    """Returns the bands of an NPY file from its header; 0: it cannot be read."""
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except DECODER_ERRORS:
        return 0
    return shape[2] if len(shape) == 3 else int(len(shape) == 2)


def _read(path: Path, head: bytes, any_range: bool) -> Picture:
    if head[:4] in picture_tiff.STARTS:
        return picture_tiff.read(path, _from_pillow)
    if head.startswith(PNG_START):
        content = read_whole_png(path)
        metadata = png_metadata(content)
        kinds = dict(png_chunks(content))
        depth, colours = kinds[b"IHDR"][8], kinds[b"IHDR"][9]
        if b"acTL" in kinds and int.from_bytes(kinds[b"acTL"][:4], "big") > 1:
            raise _animation(path, int.from_bytes(kinds[b"acTL"][:4], "big"))
        if depth == 16:
            pixels, alpha = _decode_deep_png(content, colours, kinds.get(b"tRNS"))
            return Picture(pixels, alpha, metadata, "png")
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            return replace(_from_pillow(path, image), metadata=metadata)
    if head[:2] in PNM and head[:2] not in (b"P1", b"P4"):
        return Picture(read_image(path), format="ppm")
    if head.startswith(b"\x93NUMPY"):
        bands = npy_bands(path)
        channels = None if bands in (0, 1, 3) else bands
        options = ReadOptions(channels=channels, any_range=any_range)
        return Picture(read_image(path, options), format="npy")
    if head.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")):
        return Picture(read_image(path), format="jp2")
    with Image.open(path, formats=_FORMATS) as image:
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames > 1:
            raise _animation(path, frames)
        exif, xmp = image.info.get("exif"), image.info.get("xmp")
        for _, segment in getattr(image, "applist", ()):
            if segment.startswith(_XMP_NAME) and not xmp:  # earlier versions of Pillow
                xmp = segment[len(_XMP_NAME) :]
        dpi = image.info.get("dpi")
        metadata = Metadata(
            icc=image.info.get("icc_profile") or None,
            exif=exif.removeprefix(EXIF_START) or None if exif else None,
            xmp=xmp or None,
            dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
        )
        found = _from_pillow(path, image, metadata.icc)
        # The profile of CMYK describes colours that are gone.
        icc = found.metadata.icc if found.metadata.icc else metadata.icc
        return replace(found, metadata=replace(metadata, icc=icc))


def _animation(path: Path, count: int) -> ImageFault:
    return ImageFault(
        f"{path}: an animation of {count} images, not one picture; give it as an animation, or "
        "save the images separately",
        "several images",
    )


def _from_pillow(path: Path, image: Image.Image, icc: bytes | None = None) -> Picture:
    """Decodes an image of 8 bits or less; its metadata are only the profile, where it is new."""
    # Other libraries enable this for the whole process; truncated files then read as half black.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    name = _PILLOW.get(image.format or "", "ppm")
    metadata, notes = Metadata(), ()
    transparent = "transparency" in image.info
    image.load()
    if image.mode == "CMYK":
        image = _cmyk_to_srgb(path, image, icc or image.info.get("icc_profile"))
        metadata = Metadata(icc=image.info["icc_profile"])
        notes = ("CMYK is converted to sRGB by the profile of the file",)
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if transparent or image.mode == "PA" else "RGB")
    elif image.mode in ("1", "L") and transparent:
        image = image.convert("L").convert("LA") if image.mode == "1" else image.convert("LA")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode == "RGB" and transparent:
        image = image.convert("RGBA")
    elif image.mode in ("RGBa", "RGBX", "La"):
        image = image.convert({"RGBa": "RGBA", "RGBX": "RGB", "La": "LA"}[image.mode])
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise ImageFault(
            f"{path}: colours of kind {image.mode}; expected grey or RGB, convert it first",
            "wrong channels",
        )
    values = np.asarray(image)
    planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    colours = 1 if image.mode in ("L", "LA") else 3
    alpha = planes[colours:] if len(planes) > colours else None
    return Picture(planes[:colours], alpha, metadata, name, notes)


def _cmyk_to_srgb(path: Path, image: Image.Image, icc: bytes | None) -> Image.Image:
    if not icc:
        raise ImageFault(
            f"{path}: CMYK without a colour profile, so its colours are not known; convert it to "
            "RGB first",
            "wrong channels",
        )
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        result = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        raise ImageFault(
            f"{path}: CMYK with a colour profile that does not fit ({error}); convert it to RGB "
            "first",
            "wrong channels",
        ) from error
    assert result is not None  # it converts in place only if asked to
    result.info["icc_profile"] = srgb.tobytes()
    return result


def _decode_deep_png(
    content: bytes, colours: int, key: bytes | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes a PNG of 16 bits; returns colours and alpha.

    Args:
        content: The file.
        colours: Kind of colours in its header: 0 grey, 2 RGB, 4 grey with alpha, 6 RGB with alpha.
        key: Content of the chunk tRNS, the colour that is transparent.
    """
    if key is not None:  # decoders differ in what they do about it
        content = png_with_metadata(content, Metadata(), without=(b"tRNS",))
    planes = decode_opencv(content, raw=True)  # B, G, R, alpha
    if planes.dtype != np.uint16:
        raise ValueError("OpenCV reduced its 16 bits")
    pixels = planes[2::-1] if colours in (2, 6) else planes[:1]
    if colours in (4, 6):
        return pixels, planes[3:4]
    if key is None or len(key) < 2 * len(pixels):
        return pixels, None
    values = struct.unpack(f">{len(pixels)}H", key[: 2 * len(pixels)])
    same = (pixels == np.array(values, np.uint16)[:, None, None]).all(0, keepdims=True)
    return pixels, np.where(same, 0, 65535).astype(np.uint16)


def format_of(path: Path) -> Format:
    """Returns the format of a file to be written, by its suffix in upper or lower case.

    Raises:
        UserError: for another suffix; it lists the known ones.
    """
    for name, suffixes in WRITE_SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return name  # type: ignore[return-value]  # the keys are those of Format
    known = ", ".join(suffix for suffixes in WRITE_SUFFIXES.values() for suffix in suffixes)
    raise UserError(f"{path}: pictures cannot be written as {path.suffix!r}; known are {known}")


def write_picture(
    path: Path,
    picture: Picture,
    *,
    format: Format | None = None,
    quality: int | None = None,
    bit_depth: Literal["same", 8, 16] = "same",
    strip_metadata: bool = False,
) -> tuple[str, ...]:
    """Writes a picture, completely or not at all.

    Args:
        path: The file; its folder is made if it is missing.
        picture: The picture.
        format: Format of the file; None: by its suffix.
        quality: Of JPEG and WebP, 1 to 100; default 95. 100 makes WebP lossless. JPEG stores its
            colours in full resolution (4:4:4).
        bit_depth: Bits of each value. ``same``: those of the picture, or the most that the format
            has. Values are rounded.
        strip_metadata: Leave out EXIF, XMP and texts. Profile and resolution, without which colours
            and size would change, stay.

    Returns:
        What the file does not hold as the picture has it, and what was done; one sentence each.

    Raises:
        UserError: for an unknown format, an impossible option, or a size that the format cannot
            hold.
        RunError: if the file cannot be written.
    """
    kind = format or format_of(path)
    check_choice("format", kind, WRITE_SUFFIXES)
    check_choice("bit_depth", bit_depth, ("same", 8, 16))
    if quality is not None and not 1 <= quality <= 100:
        raise UserError(f"quality is {quality}; expected 1 to 100")
    height, width = picture.pixels.shape[1:]
    if max(height, width) > _MAX_SIDE.get(kind, 2**31 - 1):
        raise UserError(
            f"{path}: {width}×{height} pixels; {_NAMES[kind]} holds at most {_MAX_SIDE[kind]} on a "
            "side, use png or tif"
        )
    picture, notes = _fitted(picture, kind, bit_depth)
    metadata = picture.metadata
    if metadata.exif:
        metadata = replace(metadata, exif=sized_exif(metadata.exif, width, height))
    if strip_metadata:
        metadata = replace(metadata, exif=None, xmp=None, png_text=())
    picture = replace(picture, metadata=metadata)
    write = _WRITERS[kind]
    try:
        with replacing(path) as temporary:
            notes += write(temporary, picture, quality)
    except MemoryError as error:
        raise RunError(f"{path}: not enough memory to encode {width}×{height} pixels") from error
    return tuple(notes)


def _fitted(picture: Picture, kind: str, bit_depth: object) -> tuple[Picture, list[str]]:
    """Returns the picture with a depth, colours and transparency that a format holds; and notes."""
    name, notes = _NAMES[kind], []
    pixels, alpha, metadata = picture.pixels, picture.alpha, picture.metadata
    if len(pixels) not in (1, 3) and kind not in _HOLDS_BANDS:
        raise UserError(
            f"{name} holds grey or RGB, the picture has {len(pixels)} bands; write it as tif or npy"
        )
    wanted = pixels.dtype.name if bit_depth == "same" else f"uint{bit_depth}"
    depth = wanted if wanted in _DEPTHS[kind] else _DEPTHS[kind][-1]
    if depth != wanted:
        notes.append(f"{name} holds no {_TYPES[wanted]}: the values are rounded to {_TYPES[depth]}")
    if alpha is not None and kind not in _HOLDS_ALPHA:
        notes.append(f"{name} holds no transparency: the picture is blended with white")
        pixels, alpha = _on_white(pixels, alpha), None
    pixels = pixels if pixels.dtype == depth else as_type(pixels, depth)
    alpha = None if alpha is None else as_type(alpha, depth)
    if kind == "webp" and len(pixels) == 1:
        notes.append("WebP holds no grey: it is written as RGB with three equal channels")
        pixels = pixels.repeat(3, axis=0)
    found = metadata.profile_channels
    if metadata.icc and kind in ("png", "webp") and found != len(pixels):
        notes.append(
            f"{name} holds no colour profile of other channels than those of the picture: it is "
            "left out"
        )
        metadata = replace(metadata, icc=None)
    return replace(picture, pixels=pixels, alpha=alpha, metadata=metadata), notes


def _on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = as_type(alpha, np.float32)
    return as_type(as_type(pixels, np.float32) * opacity + (1 - opacity), pixels.dtype)


def _write_png(path: Path, picture: Picture, quality: int | None) -> list[str]:
    content = encode_png(picture.pixels, picture.alpha)
    path.write_bytes(png_with_metadata(content, picture.metadata))
    return []


def _write_jpeg(path: Path, picture: Picture, quality: int | None) -> list[str]:
    metadata, notes = picture.metadata, []
    options: dict[str, object] = {"quality": quality or JPEG_QUALITY, "subsampling": 0}
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if metadata.dpi:
        options["dpi"] = tuple(min(65535, max(1, round(value))) for value in metadata.dpi)
    buffer = io.BytesIO()
    _image(picture).save(buffer, "JPEG", **options)
    content = buffer.getvalue()
    place = 2  # behind the start marker; behind the JFIF segment if there is one
    if content[2:4] == b"\xff\xe0":
        place += 2 + int.from_bytes(content[4:6], "big")
    segments = b""
    named = (("EXIF", EXIF_START, metadata.exif), ("XMP", _XMP_NAME, metadata.xmp))
    for name, start, block in named:
        if block and len(block) > _MAX_SEGMENT:
            notes.append(f"JPEG holds at most 64 kB of {name}: it is left out")
        elif block:
            length = (2 + len(start) + len(block)).to_bytes(2, "big")
            segments += b"\xff\xe1" + length + start + block
    path.write_bytes(content[:place] + segments + content[place:])
    return notes


def _write_webp(path: Path, picture: Picture, quality: int | None) -> list[str]:
    metadata = picture.metadata
    options: dict[str, object] = {"quality": quality or WEBP_QUALITY, "method": 4, "exact": True}
    if quality == 100:
        options["lossless"] = True
    named = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    options |= {name: block for name, block in named.items() if block}
    _image(picture).save(path, "WEBP", **options)
    if metadata.dpi and not metadata.exif:
        return ["WebP holds no resolution (dots per inch): it is left out"]
    return []


def _write_tiff(path: Path, picture: Picture, quality: int | None) -> list[str]:
    return picture_tiff.write(path, picture)


def _write_npy(path: Path, picture: Picture, quality: int | None) -> list[str]:
    pixels = picture.pixels
    values = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    with path.open("wb") as file:  # np.save would add a suffix to the name
        np.save(file, np.ascontiguousarray(values), allow_pickle=False)
    return _lost(picture.metadata, "NPY", ("icc", "exif", "xmp", "dpi"))


def _write_bmp(path: Path, picture: Picture, quality: int | None) -> list[str]:
    options = {} if picture.metadata.dpi is None else {"dpi": picture.metadata.dpi}
    _image(picture).save(path, "BMP", **options)
    return _lost(picture.metadata, "BMP", ("icc", "exif", "xmp"))


def _write_ppm(path: Path, picture: Picture, quality: int | None) -> list[str]:
    channels, height, width = picture.pixels.shape
    top = np.iinfo(picture.pixels.dtype).max
    head = f"P{6 if channels == 3 else 5}\n{width} {height}\n{top}\n".encode()
    values = picture.pixels.transpose(1, 2, 0)
    path.write_bytes(head + values.astype(values.dtype.newbyteorder(">")).tobytes())
    return _lost(picture.metadata, "PPM", ("icc", "exif", "xmp", "dpi"))


def _lost(metadata: Metadata, name: str, fields: tuple[str, ...]) -> list[str]:
    words = {"icc": "colour profile", "exif": "EXIF", "xmp": "XMP", "dpi": "resolution"}
    lost = [words[field] for field in fields if getattr(metadata, field)]
    return [f"{name} holds no {', '.join(lost)}: left out"] if lost else []


def _image(picture: Picture) -> Image.Image:
    """Returns 8-bit pixels, with alpha if there is one, as Pillow's image."""
    planes = picture.pixels
    if picture.alpha is not None:
        planes = np.concatenate([planes, picture.alpha])
    values = planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(values))


_WRITERS: dict[str, Callable[[Path, Picture, int | None], list[str]]] = {
    "png": _write_png,
    "jpg": _write_jpeg,
    "webp": _write_webp,
    "tif": _write_tiff,
    "bmp": _write_bmp,
    "ppm": _write_ppm,
    "npy": _write_npy,
}

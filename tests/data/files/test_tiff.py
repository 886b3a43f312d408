"""Reads all supported variants of TIFF bit by bit, and names all others."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from srtoolbox.data.files.image_info import ImageFault, ImageInfo, ReadOptions
from srtoolbox.data.files.reader import image_info, read_image
from srtoolbox.data.files.tiff import open_tiff
from srtoolbox.errors import UserError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (9, 14, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (9, 14, 4), dtype=np.uint16)


def chw(pixels: np.ndarray) -> np.ndarray:
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def check(path: Path, expected: np.ndarray, raw: bool = False) -> None:
    info, decode = open_tiff(path, ReadOptions(raw=raw))
    pixels = decode()
    assert info == ImageInfo(*expected.shape, expected.dtype.name)
    assert pixels.dtype == expected.dtype
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("pixels", [RGB, RGB[..., 0]], ids=["rgb", "grey"])
def test_8_bits_of_pillow(tmp_path: Path, compression: str, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression)
    check(tmp_path / "a.tif", chw(pixels))


@pytest.mark.parametrize("compression", [1, 5, 8, 32946])  # none, LZW, deflate (two numbers)
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_of_opencv(tmp_path: Path, compression: int, channels: int) -> None:
    pixels = DEEP[..., 0] if channels == 1 else DEEP[..., :3]
    written = pixels if channels == 1 else pixels[..., ::-1]
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression]
    assert cv2.imwrite(str(tmp_path / "a.tif"), written, options)
    check(tmp_path / "a.tif", chw(pixels))
    check(tmp_path / "a.tif", chw(written), raw=True)


@pytest.mark.parametrize("compression", [1, 5])
def test_four_channels_of_raw_are_in_the_order_of_opencv(tmp_path: Path, compression: int) -> None:
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression]
    assert cv2.imwrite(str(tmp_path / "a.tif"), DEEP, options)
    check(tmp_path / "a.tif", chw(DEEP), raw=True)


@pytest.mark.parametrize("predictor", [None, 2])
def test_a_large_tiled_file_of_another_byte_order(tmp_path: Path, predictor: int | None) -> None:
    pixels = RNG.integers(0, 65536, (70, 50, 3), dtype=np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        photometric="rgb",
        tile=(16, 16),
        compression="zlib",
        predictor=predictor,
        byteorder=">",
        bigtiff=True,
    )
    check(tmp_path / "a.tif", chw(pixels))


def test_a_mask_is_ignored(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RGB, photometric="rgb")
        file.write(RGB[..., 0] > 99, photometric="mask", subfiletype=4)
    check(tmp_path / "a.tif", chw(RGB))


def test_several_images(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([RGB] * 3), photometric="rgb")
    with pytest.raises(ImageFault, match=r"a\.tif: 3 images; expected one, save them") as info:
        open_tiff(tmp_path / "a.tif")
    assert info.value.kind == "several images"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"photometric": "miniswhite"}, "grey with white as 0"),
        ({"photometric": "cielab"}, "colours of kind"),
        ({"photometric": "separated"}, "a CMYK image"),
    ],
)
def test_other_colours(tmp_path: Path, options: dict[str, str], words: str) -> None:
    pixels = {"miniswhite": RGB[..., 0], "separated": DEEP.astype(np.uint8)}
    tifffile.imwrite(tmp_path / "a.tif", pixels.get(options["photometric"], RGB), **options)
    with pytest.raises(ImageFault, match=rf"a\.tif: {words}.*; expected grey or RGB") as info:
        open_tiff(tmp_path / "a.tif")
    assert info.value.kind == "wrong channels"


def test_compressed_bands_that_only_rasterio_is_trusted_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.ascontiguousarray(chw(RGB)),
        photometric="rgb",
        planarconfig="separate",
    )
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(32773)
    with pytest.raises(ImageFault, match=r"by PACKBITS, stored separately.*srtoolbox\[geo\]"):
        open_tiff(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_truncated_files(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DEEP[..., :3], photometric="rgb", compression=compression)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ImageFault, match=r"a\.tif: truncated; replace or remove it") as info:
        open_tiff(path)
    assert info.value.kind == "truncated"


def test_a_size_that_the_file_cannot_contain(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["ImageWidth"].overwrite(2**31)
    with pytest.raises(ValueError, match="cannot be in such a small file"):
        open_tiff(path)


def directory(entries: list[bytes], following: int) -> bytes:
    return struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", following)


def hostile_files() -> dict[str, tuple[bytes, str]]:
    """Contents that must be refused, and a word of the message."""
    head = b"II*\0" + struct.pack("<I", 8)
    huge = struct.pack("<HHII", 273, 4, 2**32 - 1, 8)
    big = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16)
    two = head + directory([], 14) + directory([], 8)
    many = head + b"".join(directory([], 8 + 6 * (i + 1)) for i in range(5000)) + bytes(6)
    whole = struct.pack("<HHII", 40000, 4, 100, 0)  # many tags that share their values
    return {
        "own next": (head + directory([], 8), "loop"),
        "two in a circle": (two, "loop"),
        "big, own next": (big + struct.pack("<QQ", 0, 16), "loop"),
        "many": (many, "more than 1000 images"),
        "next beyond the end": (head + directory([], 9999), "truncated"),
        "many entries": (head + struct.pack("<H", 65535), "65535 entries"),
        "huge number": (head + directory([huge], 0), "bytes of values"),
        "shared values": (head + directory([whole] * 4000, 0) + bytes(400), "bytes of values"),
        "big, huge": (
            big + struct.pack("<QHHQQQ", 1, 273, 4, 2**62, 8, 0),
            "bytes of values",
        ),
        "empty": (head + directory([], 0), "broken"),
        "head only": (head[:6], "broken"),
    }


@pytest.mark.parametrize("name", hostile_files())
def test_directories_are_bounded(tmp_path: Path, name: str) -> None:
    content, words = hostile_files()[name]
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    for function in (image_info, read_image):
        with pytest.raises(UserError, match=rf"a\.tif: .*{words}"):
            function(path)


@pytest.mark.slow
def test_damaged_directories_end(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(5), tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb")
    content = path.read_bytes()
    start = int.from_bytes(content[4:8], "little")
    length = 2 + 12 * int.from_bytes(content[start : start + 2], "little") + 4
    for _ in range(1000):
        damaged = bytearray(content)
        for place in rng.integers(0, length + 8, rng.integers(1, 5)):
            damaged[place if place < 8 else start + place - 8] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_image(path)
        except UserError as error:
            assert "\n" not in str(error)

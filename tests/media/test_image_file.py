"""Tests ``srtoolbox.media.image_file`` on files that they make themselves."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from srtoolbox.errors import UserError
from srtoolbox.media.image_file import format_of, read_picture, write_picture
from srtoolbox.media.metadata import Metadata, png_chunk, png_chunks, png_metadata
from srtoolbox.media.picture import Picture, as_type, with_alpha

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6" dc:title="\xc3\xa4"/></x:xmpmeta>'
)
ORIENTATION, EXIF_IFD, GPS_IFD = 0x0112, 0x8769, 0x8825


def exif(orientation: int = 1) -> bytes:
    block = Image.Exif()
    block[0x010F] = "Maker of cameras"
    block[0x0132] = "2024:01:02 03:04:05"
    block[ORIENTATION] = orientation
    block[EXIF_IFD] = {0x829A: (1, 250), 0x8827: 400, 0xA002: 7, 0xA003: 5, 0x927C: b"note" * 9}
    block[GPS_IFD] = {1: "N", 2: (30.0, 31.0, 32.5)}
    return block.tobytes().removeprefix(b"Exif\0\0")


def described(block: bytes | None) -> dict:
    """Returns the tags of an EXIF block, without the places of its directories."""
    found = Image.Exif()
    found.load(b"Exif\0\0" + (block or b""))
    tags = {key: value for key, value in found.items() if key not in (EXIF_IFD, GPS_IFD)}
    return (
        tags
        | {("exif", key): value for key, value in found.get_ifd(EXIF_IFD).items()}
        | {("gps", key): value for key, value in found.get_ifd(GPS_IFD).items()}
    )


def values(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if dtype == "float32":
        return generator.random(shape, dtype=np.float32)
    return generator.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def picture(channels: int, dtype: str, alpha: bool, size: tuple[int, int] = (5, 7)) -> Picture:
    metadata = Metadata(ICC if channels == 3 else None, exif(), XMP, (300.0, 150.0))
    matte = values((1, *size), dtype, 1) if alpha else None
    return Picture(values((channels, *size), dtype), matte, metadata)


def same(ours: Picture, theirs: Picture) -> None:
    assert ours.pixels.dtype == theirs.pixels.dtype
    assert np.array_equal(ours.pixels, theirs.pixels)
    assert (ours.alpha is None) == (theirs.alpha is None)
    assert ours.alpha is None or np.array_equal(ours.alpha, theirs.alpha)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [("png", "uint8"), ("png", "uint16"), ("tif", "uint8"), ("tif", "uint16"), ("TIFF", "float32")],
)
def test_everything_is_kept(
    tmp_path: Path, suffix: str, dtype: str, channels: int, alpha: bool
) -> None:
    path = tmp_path / f"ä b%.{suffix}"
    given = picture(channels, dtype, alpha)
    assert write_picture(path, given) == ()
    through = with_alpha(read_picture(path), lambda pixels: pixels)
    same(through, given)
    metadata = through.metadata
    assert metadata.icc == given.metadata.icc
    assert metadata.dpi == pytest.approx((300, 150), rel=1e-4)
    assert described(metadata.exif) == described(given.metadata.exif)
    assert metadata.xmp == XMP.replace(b'"6"', b'"1"')
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_files_are_those_that_others_read(tmp_path: Path) -> None:
    given = picture(3, "uint16", True)
    write_picture(tmp_path / "a.png", given)
    write_picture(tmp_path / "a.tif", given)
    bgra = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(bgra[..., [2, 1, 0]].transpose(2, 0, 1), given.pixels)
    assert np.array_equal(bgra[..., 3], given.alpha[0])
    assert np.array_equal(
        tifffile.imread(tmp_path / "a.tif").transpose(2, 0, 1),
        np.concatenate([given.pixels, given.alpha]),
    )
    for name in ("a.png", "a.tif"):
        write_picture(tmp_path / name, given, bit_depth=8)
        with Image.open(tmp_path / name) as image:
            assert image.mode == "RGBA"
            assert image.info["icc_profile"] == ICC
            tags = image.getexif()
            assert tags[0x010F] == "Maker of cameras"
            assert tags.get_ifd(EXIF_IFD)[0x8827] == 400
            assert tags.get_ifd(GPS_IFD)[2] == (30.0, 31.0, 32.5)


def test_grey_16_with_alpha_is_a_valid_png(tmp_path: Path) -> None:
    given = picture(1, "uint16", True, (40, 33))
    write_picture(tmp_path / "a.png", given)
    decoded = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(decoded[..., 0], given.pixels[0])
    assert np.array_equal(decoded[..., 3], given.alpha[0])


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_formats_keep_the_metadata(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    smooth = np.tile(np.arange(64, dtype=np.uint8), (3, 32, 1))
    given = replace(picture(3, "uint8", False), pixels=smooth)
    assert write_picture(path, given) == ()
    found = read_picture(path)
    assert abs(found.pixels.astype(int) - smooth).max() <= 4
    assert found.metadata.icc == ICC
    assert found.metadata.xmp == XMP.replace(b'"6"', b'"1"')
    assert described(found.metadata.exif) == described(exif()) | {
        ("exif", 0xA002): 64,
        ("exif", 0xA003): 32,
    }
    with Image.open(path) as image:
        assert image.getexif()[0x010F] == "Maker of cameras"
    if suffix == "jpg":
        assert found.metadata.dpi == (300, 150)


def test_lossless_webp_keeps_pixels_and_alpha(tmp_path: Path) -> None:
    given = picture(3, "uint8", True)
    write_picture(tmp_path / "a.webp", given, quality=100)
    same(read_picture(tmp_path / "a.webp"), given)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "png16", "jpg", "webp", "tif", "tif16", "tif-lzw"])
def test_orientation_is_applied_once(tmp_path: Path, kind: str, orientation: int) -> None:
    stored = np.zeros((16, 24, 3), np.uint8)  # blocks that JPEG keeps
    stored[:8, :8], stored[:8, 8:16], stored[8:, 16:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    path = tmp_path / f"a.{kind[:4].strip('16-')}"
    tag = Image.Exif()
    tag[ORIENTATION] = orientation
    if kind == "png16":
        chunk = png_chunk(b"eXIf", tag.tobytes().removeprefix(b"Exif\0\0"))
        content = cv2.imencode(".png", stored[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
        path.write_bytes(content[:33] + chunk + content[33:])
    elif kind == "tif16":
        deep = stored.astype(np.uint16) * 257
        extra = [(ORIENTATION, 3, 1, orientation, True)]
        tifffile.imwrite(path, deep, photometric="rgb", extratags=extra)
    else:
        options = {"lossless": True} if kind == "webp" else {}
        options |= {"quality": 100, "subsampling": 0} if kind == "jpg" else {}
        options |= {"compression": "tiff_lzw"} if kind == "tif-lzw" else {}
        Image.fromarray(stored).save(path, exif=tag, **options)
    upright = cv2.imdecode(
        np.frombuffer(_as_jpeg(stored, orientation), np.uint8), cv2.IMREAD_COLOR
    )[..., ::-1].transpose(2, 0, 1)
    found = read_picture(path)
    wrong = abs(as_type(found.pixels, np.uint8).astype(int) - upright)
    assert found.pixels.shape == upright.shape
    assert wrong.max() < 60
    assert _orientation(found) == 1
    lying = read_picture(path, auto_orient=False)
    assert lying.pixels.shape == (3, 16, 24)
    assert _orientation(lying) == orientation

    for suffix in ("png", "jpg", "tif", "webp"):  # nothing turns it a second time
        write_picture(tmp_path / f"b.{suffix}", found, quality=100)
        again = read_picture(tmp_path / f"b.{suffix}")
        assert abs(as_type(again.pixels, np.uint8).astype(int) - upright).max() < 60
        write_picture(tmp_path / f"c.{suffix}", lying, quality=100)
        again = read_picture(tmp_path / f"c.{suffix}")
        assert abs(as_type(again.pixels, np.uint8).astype(int) - upright).max() < 60


def _as_jpeg(stored: np.ndarray, orientation: int) -> bytes:
    tag, buffer = Image.Exif(), io.BytesIO()
    tag[ORIENTATION] = orientation
    Image.fromarray(stored).save(buffer, "JPEG", exif=tag, quality=100, subsampling=0)
    return buffer.getvalue()


def _orientation(found: Picture) -> int:
    return described(found.metadata.exif).get(ORIENTATION, 1) if found.metadata.exif else 1


def test_a_turned_picture_swaps_its_resolution(tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[ORIENTATION] = 6
    image = Image.fromarray(values((5, 7, 3)))
    image.save(tmp_path / "a.png", exif=tag, dpi=(300, 150))
    assert read_picture(tmp_path / "a.png").metadata.dpi == pytest.approx((150, 300), rel=1e-3)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif"])
def test_palettes_become_rgb(tmp_path: Path, suffix: str) -> None:
    colours = values((4, 3))
    index = values((9, 8)) % 4
    image = Image.new("P", (8, 9))
    image.putpalette(colours.ravel().tolist())
    image.putdata(index.ravel().tolist())
    image.save(tmp_path / f"a.{suffix}")
    found = read_picture(tmp_path / f"a.{suffix}")
    assert np.array_equal(found.pixels, colours[index].transpose(2, 0, 1))
    assert found.alpha is None


def test_palette_with_transparency(tmp_path: Path) -> None:
    colours, alphas = values((4, 3)), np.array([0, 80, 255, 255], np.uint8)
    index = values((9, 8)) % 4
    image = Image.new("P", (8, 9))
    image.putpalette(colours.ravel().tolist())
    image.putdata(index.ravel().tolist())
    image.save(tmp_path / "a.png", transparency=alphas.tobytes())
    found = read_picture(tmp_path / "a.png")
    assert np.array_equal(found.pixels, colours[index].transpose(2, 0, 1))
    assert np.array_equal(found.alpha[0], alphas[index])
    write_picture(tmp_path / "b.png", found)
    with Image.open(tmp_path / "b.png") as written:
        assert written.mode == "RGBA"


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_becomes_alpha(tmp_path: Path, channels: int, deep: bool) -> None:
    pixels = values((6, 5, channels), "uint16" if deep else "uint8")
    key = [int(value) for value in pixels[2, 3]]
    content = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    chunk = png_chunk(b"tRNS", struct.pack(f">{channels}H", *key))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    found = read_picture(tmp_path / "a.png")
    assert np.array_equal(found.pixels, pixels.transpose(2, 0, 1))
    expected = np.where((pixels == key).all(-1), 0, 65535 if deep else 255)
    assert np.array_equal(found.alpha[0], expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_grey_stays_grey(tmp_path: Path, dtype: str) -> None:
    pixels = values((1, 6, 9), dtype)
    for suffix in ("png", "tif", "ppm"):
        write_picture(tmp_path / f"a.{suffix}", Picture(pixels))
        same(read_picture(tmp_path / f"a.{suffix}"), Picture(pixels))
    write_picture(tmp_path / "a.jpg", Picture(pixels))
    assert len(read_picture(tmp_path / "a.jpg").pixels) == 1
    notes = write_picture(tmp_path / "a.webp", Picture(pixels))
    assert "WebP holds no grey" in notes[-1]


def test_one_bit_becomes_grey(tmp_path: Path) -> None:
    image = Image.fromarray(values((6, 9))).convert("1")
    for suffix in ("png", "bmp", "tif", "pbm"):
        image.save(tmp_path / f"a.{suffix}")
        found = read_picture(tmp_path / f"a.{suffix}")
        assert np.array_equal(found.pixels[0], np.asarray(image.convert("L")))


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_needs_a_profile(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(values((6, 9, 4)), "CMYK")
    image.save(tmp_path / f"a.{suffix}")
    with pytest.raises(UserError, match="CMYK without a colour profile"):
        read_picture(tmp_path / f"a.{suffix}")
    image.save(tmp_path / f"b.{suffix}", icc_profile=ICC)
    with pytest.raises(UserError, match="CMYK with a colour profile that does not fit"):
        read_picture(tmp_path / f"b.{suffix}")


def cmyk_profile() -> bytes:
    """Returns a small profile of a printer whose black darkens, and whose inks are neutral."""
    levels = np.stack(np.meshgrid(*[np.arange(2)] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = 255 * (1 - levels[:, 3]) * (3 - levels[:, :3].sum(1)) // 3
    table = np.stack([light, np.full(16, 128), np.full(16, 128)], -1).astype(np.uint8)
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix
    lut += 4 * ramp + table.tobytes() + 3 * ramp
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    tags, data = [(b"A2B0", lut), (b"wtpt", white)], b""
    start = 128 + 4 + 12 * len(tags)
    listing = struct.pack(">I", len(tags))
    for name, content in tags:
        listing += name + struct.pack(">II", start + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    head = bytearray(128)
    head[0:4] = struct.pack(">I", start + len(data))
    head[8:12] = b"\x02\x10\0\0"
    head[12:24], head[36:40] = b"prtrCMYKLab ", b"acsp"
    head[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    return bytes(head) + listing + data


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_is_converted_by_its_profile(tmp_path: Path, suffix: str) -> None:
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:, 3] = 255
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(inks, "CMYK").save(path, icc_profile=cmyk_profile(), quality=100)
    found = read_picture(path)
    assert found.pixels[:, :, :12].min() > 245  # no ink
    assert found.pixels[:, :, 20:].max() < 10
    assert "converted to sRGB" in found.notes[0]
    assert found.metadata.profile_channels == 3
    assert write_picture(tmp_path / "b.png", found) == ()


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiff_alpha_of_other_programs(tmp_path: Path, dtype: str, compression: str | None) -> None:
    rgba = values((6, 9, 4), dtype)
    path = tmp_path / "a.tif"
    if compression is None:
        tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unassalpha"])
    elif dtype == "uint8":
        Image.fromarray(rgba).save(path, compression="tiff_lzw")
    else:
        cv2.imwrite(str(path), rgba[..., [2, 1, 0, 3]], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    found = read_picture(path)
    assert np.array_equal(found.pixels, rgba[..., :3].transpose(2, 0, 1))
    assert np.array_equal(found.alpha[0], rgba[..., 3])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiff_with_colours_multiplied_by_alpha(tmp_path: Path, dtype: str) -> None:
    top = np.iinfo(dtype).max
    alpha = np.full((6, 9, 1), top // 2 + 1, dtype)
    colours = np.full((6, 9, 3), top // 4 + 1, dtype)
    rgba = np.concatenate([colours, alpha], -1)
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["assocalpha"])
    found = read_picture(tmp_path / "a.tif")
    assert abs(found.pixels.astype(int) - top // 2).max() <= 1


def test_jpeg_states_what_it_does_not_hold(tmp_path: Path) -> None:
    grey = np.full((3, 16, 16), 0, np.uint16)
    clear = Picture(grey, np.zeros((1, 16, 16), np.uint16))
    notes = write_picture(tmp_path / "a.jpg", clear)
    assert notes == (
        "JPEG holds no 16 bits: the values are rounded to 8 bits",
        "JPEG holds no transparency: the picture is blended with white",
    )
    assert read_picture(tmp_path / "a.jpg").pixels.min() == 255
    notes = write_picture(tmp_path / "a.ppm", replace(picture(3, "float32", False)))
    assert "rounded to 16 bits" in notes[0]
    assert "holds no colour profile, EXIF, XMP, resolution" in notes[1]


def test_bit_depth_rounds(tmp_path: Path) -> None:
    pixels = np.array([[[0, 128, 129, 257 * 7 + 128, 257 * 7 + 129, 65535]]], np.uint16)
    write_picture(tmp_path / "a.png", Picture(pixels), bit_depth=8)
    assert read_picture(tmp_path / "a.png").pixels.ravel().tolist() == [0, 0, 1, 7, 8, 255]
    write_picture(tmp_path / "b.png", Picture(values((1, 4, 4))), bit_depth=16)
    assert np.array_equal(read_picture(tmp_path / "b.png").pixels, values((1, 4, 4)) * 257.0)


def test_metadata_can_be_left_out(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "webp", "tif"):
        write_picture(tmp_path / f"a.{suffix}", picture(3, "uint8", False), strip_metadata=True)
        metadata = read_picture(tmp_path / f"a.{suffix}").metadata
        assert metadata.icc == ICC
        assert metadata.exif is None
        assert metadata.xmp is None
        assert b"Maker" not in (tmp_path / f"a.{suffix}").read_bytes()


def test_png_chunks_of_colour_and_text_are_kept(tmp_path: Path) -> None:
    chunks = ((b"gAMA", struct.pack(">I", 45455)),), ((b"tEXt", b"Title\0A title"),)
    given = Picture(values((3, 4, 4)), None, Metadata(None, None, None, None, *chunks))
    write_picture(tmp_path / "a.png", given)
    found = read_picture(tmp_path / "a.png").metadata
    assert (found.png_colour, found.png_text) == chunks
    kinds = [kind for kind, _ in png_chunks((tmp_path / "a.png").read_bytes())]
    assert kinds.index(b"gAMA") < kinds.index(b"IDAT")
    assert png_metadata((tmp_path / "a.png").read_bytes()) == found


def test_a_grey_png_holds_no_profile_of_rgb(tmp_path: Path) -> None:
    given = Picture(values((1, 4, 4)), None, Metadata(icc=ICC))
    assert "profile of other channels" in write_picture(tmp_path / "a.png", given)[0]


def test_a_damaged_exif_block_does_no_harm(tmp_path: Path) -> None:
    for block in (b"nonsense", exif()[:40], b"II*\0\xff\xff\xff\xff", exif()[:-30]):
        given = replace(picture(3, "uint8", False), metadata=Metadata(exif=block))
        for suffix in ("png", "jpg", "webp", "tif"):
            write_picture(tmp_path / f"a.{suffix}", given)
            assert read_picture(tmp_path / f"a.{suffix}").pixels.shape == (3, 5, 7)


def test_large_exif_does_not_fit_in_jpeg(tmp_path: Path) -> None:
    block = Image.Exif()
    block[0x010E] = "x" * 70000
    exif_bytes = block.tobytes().removeprefix(b"Exif\0\0")
    given = replace(picture(3, "uint8", False), metadata=Metadata(exif=exif_bytes))
    assert "at most 64 kB of EXIF" in write_picture(tmp_path / "a.jpg", given)[0]
    assert write_picture(tmp_path / "a.png", given) == ()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"", "empty file"),
        ("b.png", b"no picture at all", "no picture, or damaged"),
        ("c.tif", b"II*\0\xff\xff\xff\xff", "c.tif: "),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_picture(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "ppm"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_picture(path, Picture(values((3, 60, 60))))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=path.name):
        read_picture(path)


def test_animations_and_missing_files(tmp_path: Path) -> None:
    frames = [Image.fromarray(values((5, 7, 3), seed=seed)) for seed in range(3)]
    for suffix in ("gif", "png", "webp"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.raises(UserError, match="an animation of 3 images"):
            read_picture(path)
    with pytest.raises(UserError, match="no such file"):
        read_picture(tmp_path / "missing.png")


def test_impossible_outputs(tmp_path: Path) -> None:
    given = Picture(values((1, 1, 1)))
    with pytest.raises(UserError, match=r"cannot be written as '\.xyz'"):
        write_picture(tmp_path / "a.xyz", given)
    with pytest.raises(UserError, match="quality is 0"):
        write_picture(tmp_path / "a.jpg", given, quality=0)
    with pytest.raises(UserError, match="at most 16383"):
        write_picture(tmp_path / "a.webp", Picture(np.zeros((1, 1, 20000), np.uint8)))
    assert format_of(Path("A.JPEG")) == "jpg"
    assert not list(tmp_path.iterdir())

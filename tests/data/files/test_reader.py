"""Reads images of all supported formats, and names those that cannot be read."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.orientation import exif_orientation
from srtoolbox.data.files.reader import ImageInfo, ends_whole, image_info, read_image
from srtoolbox.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (9, 14, 4), dtype=np.uint16)


def planar(pixels: np.ndarray) -> np.ndarray:
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def save_cv2(path: Path, pixels: np.ndarray) -> None:
    assert cv2.imwrite(str(path), pixels)


def whole_files(folder: Path) -> dict[str, Path]:
    """One file of every form that is read."""
    rgb, grey, deep = Image.fromarray(PIXELS), Image.fromarray(PIXELS[..., 0]), DEEP[..., :3]
    rgb.save(folder / "rgb.png")
    rgb.save(folder / "rgb.jpg")
    rgb.save(folder / "rgb.bmp")
    rgb.save(folder / "rgb.webp", lossless=True)
    rgb.save(folder / "lzw.tif", compression="tiff_lzw")
    grey.save(folder / "grey.png")
    save_cv2(folder / "deep.png", deep)
    save_cv2(folder / "deep_lzw.tif", deep)
    tifffile.imwrite(folder / "deep.tif", deep, photometric="rgb", compression="zlib")
    np.save(folder / "float.npy", PIXELS.astype(np.float32) / 255)
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "PNG"])
@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[..., 0]], ids=["rgb", "grey"])
def test_8_bits_come_back_as_they_are(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    if suffix == "webp" and pixels.ndim == 2:
        pytest.skip("WebP has no grey")
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert read_image(path).dtype == np.uint8
    assert np.array_equal(read_image(path), planar(pixels))
    assert image_info(path) == ImageInfo(*planar(pixels).shape, "uint8")


def test_jpeg(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.array_equal(read_image(tmp_path / "a.jpg"), planar(np.asarray(image)))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_not_cut_to_8(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = DEEP[..., 0] if channels == 1 else DEEP[..., :3]
    path = tmp_path / f"deep.{suffix}"
    save_cv2(path, pixels if channels == 1 else pixels[..., ::-1])
    assert read_image(path).dtype == np.uint16
    assert np.array_equal(read_image(path), planar(pixels))
    assert image_info(path) == ImageInfo(channels, 9, 14, "uint16")


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_forms_of_tiff(
    tmp_path: Path, separate: bool, byteorder: str, compression: str | None, dtype: str
) -> None:
    pixels = (DEEP[..., :3] / 65535).astype("f4") if dtype == "float32" else DEEP[..., :3]
    pixels = pixels.astype(dtype) if dtype != "uint8" else PIXELS
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.ascontiguousarray(planar(pixels)) if separate else pixels,
        photometric="rgb",
        planarconfig="separate" if separate else "contig",
        compression=compression,
        byteorder=byteorder,
    )
    read = read_image(tmp_path / "a.tif")
    assert np.array_equal(read, planar(pixels)) and read.dtype == np.dtype(dtype)
    assert image_info(tmp_path / "a.tif") == ImageInfo(3, 9, 14, dtype)


def test_an_overview_is_no_second_picture(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(PIXELS, photometric="rgb")
        file.write(np.ascontiguousarray(PIXELS[::2, ::2]), photometric="rgb", subfiletype=1)
    assert np.array_equal(read_image(tmp_path / "a.tif"), planar(PIXELS))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_raw_is_what_opencv_wrote(tmp_path: Path, suffix: str, dtype: str, channels: int) -> None:
    pixels = DEEP.astype(dtype)[..., :channels]
    path = tmp_path / f"raw.{suffix}"
    save_cv2(path, pixels)
    assert np.array_equal(read_image(path, ReadOptions(raw=True)), planar(pixels))
    assert image_info(path, ReadOptions(raw=True)) == ImageInfo(channels, 9, 14, dtype)
    if channels == 4:
        with pytest.raises(UserError, match=rf"raw\.{suffix}: .*(alpha|channels).*convert"):
            image_info(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float32"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path: Path, dtype: str, order: str) -> None:
    values = (PIXELS / 255 if dtype == "float32" else PIXELS).astype(dtype, order=order)
    np.save(tmp_path / "a.npy", values)
    read = read_image(tmp_path / "a.npy")
    assert np.array_equal(read, planar(values)) and read.dtype == np.dtype(dtype).newbyteorder("=")
    np.save(tmp_path / "grey.npy", values[..., 0])
    assert np.array_equal(read_image(tmp_path / "grey.npy"), values[None, ..., 0])
    assert image_info(tmp_path / "grey.npy")[:3] == (1, 9, 14)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 9, 14), np.uint8), r"14 channels; expected 1 \(grey\) or 3"),
        (np.zeros((9, 14, 2), np.uint8), "2 channels"),
        (np.zeros((1, 9, 14, 3), np.uint8), r"shape \(1, 9, 14, 3\); expected \(H, W\)"),
        (np.zeros((9, 14)), "float64 pixels; expected uint8, uint16, or float32"),
        (np.zeros((9, 14), bool), "bool pixels"),
        (np.full((9, 14), 7, np.float32), "from 7 to 7; expected 0 to 1"),
        (np.full((9, 14), np.nan, np.float32), "126 of 126 values are NaN"),
        (np.array([{}], dtype=object), "truncated or broken"),
    ],
)
def test_faulty_npy(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=rf"a\.npy: .*{words}"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("RGBA", "RGB with an alpha channel"),
        ("LA", "grey with an alpha channel"),
        ("P", "a palette image"),
        ("1", "a 1-bit image"),
        ("CMYK", "a CMYK image"),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_other_modes_are_refused(tmp_path: Path, mode: str, words: str, suffix: str) -> None:
    if mode == "CMYK" and suffix == "png":
        suffix = "jpg"
    if suffix == "tif" and mode in ("RGBA", "LA"):
        words = "channels; expected 1 .* no alpha"
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).convert(mode).save(path)
    for function in (read_image, image_info):
        with pytest.raises(UserError, match=rf"a\.{suffix}: .*{words}.*convert it first") as info:
            function(path)
        assert info.value.kind == "wrong channels"


def test_transparent_colours_and_animations_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    image.save(tmp_path / "colour.png", transparency=(1, 2, 3))
    with pytest.raises(UserError, match=r"colour\.png: a colour marked as transparent"):
        read_image(tmp_path / "colour.png")
    for suffix in ("png", "webp", "tif"):
        path = tmp_path / f"moving.{suffix}"
        image.save(path, save_all=True, append_images=[Image.fromarray(PIXELS[::-1].copy())])
        with pytest.raises(UserError, match=rf"moving\.{suffix}: .*2 images.*save them separately"):
            image_info(path)


def test_truncated_files_are_never_half_decoded(tmp_path: Path) -> None:
    for name, path in whole_files(tmp_path).items():
        read_image(path)
        assert ends_whole(path)
        content = path.read_bytes()
        for length in (1, 9, len(content) // 3, 2 * len(content) // 3, len(content) - 40):
            path.write_bytes(content[:length])
            with pytest.raises(UserError, match=rf"{name}: .*(trunc|broken|not an image)"):
                read_image(path)


def test_a_global_switch_does_not_make_truncated_files_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = whole_files(tmp_path)
    for name in ("rgb.png", "rgb.jpg", "lzw.tif"):
        content = files[name].read_bytes()
        files[name].write_bytes(content[: len(content) * 2 // 3])
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        with pytest.raises(UserError, match=name):
            read_image(files[name])


@pytest.mark.filterwarnings("ignore")  # Pillow's remarks
def test_damage_ends_in_a_clear_line_whatever_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for name, path in whole_files(tmp_path).items():
        content = path.read_bytes()
        for _ in range(40):
            damaged = bytearray(content)
            for place in rng.integers(0, len(content), rng.integers(1, 20)):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                read_image(path)
            except UserError as error:
                assert name in str(error) and "\n" not in str(error)


def test_bits_of_a_deep_png_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    save_cv2(path, DEEP[..., :3])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"deep\.png: truncated or broken \(damaged or cut off"):
        read_image(path)


def test_things_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_bytes(b"these are no pixels")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("nowhere.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    Image.fromarray(PIXELS).save(tmp_path / "gif.png", format="GIF")
    for name, kind, words in [
        ("empty", "empty file", r"an empty file \(0 bytes\)"),
        ("text", "not an image", "not an image"),
        ("gif", "not an image", "not an image"),
        ("folder", "not an image", "a folder"),
        ("link", "broken link", "a symbolic link to nowhere.png, which does not exist"),
        ("loop", "unreadable", "cannot be read"),
        ("pipe", "not an image", "not a regular file"),
        ("none", "missing", "no such file"),
    ]:
        with pytest.raises(UserError, match=rf"{name}\.png: {words}") as info:
            image_info(tmp_path / f"{name}.png")
        assert info.value.kind == kind
        assert str(pickle.loads(pickle.dumps(info.value))) == str(info.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    path.chmod(0)
    with pytest.raises(UserError, match=r"a\.png: cannot be read \(Permission denied\)"):
        read_image(path)


def test_an_error_of_the_disk_is_not_called_a_broken_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UserError, match=r"cannot be read \(Input/output error\)") as info:
        read_image(tmp_path / "a.png")
    assert info.value.kind == "unreadable"


def test_the_header_is_enough_for_the_form(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    large = np.random.default_rng(3).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(large).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    assert image_info(path) == ImageInfo(3, 200, 300, "uint8")
    assert not ends_whole(path)


# A picture whose eight orientations differ; in blocks, so that JPEG keeps it nearly.
BLOCKS = np.kron(
    np.random.default_rng(3).integers(0, 256, (3, 5, 3), dtype=np.uint8), np.ones((8, 8, 1), "u1")
)


def save_turned(path: Path, orientation: int, **options: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(BLOCKS).save(path, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_turned_images_are_read_as_opencv_reads_them(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    path = tmp_path / f"a.{suffix}"
    save_turned(path, orientation, **({"lossless": True} if suffix == "webp" else {}))
    wanted = planar(cv2.imread(str(path))[..., ::-1])
    assert np.abs(read_image(path).astype(int) - wanted).mean() < (2 if suffix == "jpg" else 1e-9)
    assert image_info(path) == ImageInfo(*wanted.shape, "uint8", orientation)
    if suffix != "webp":
        assert np.array_equal(read_image(path, ReadOptions(raw=True)).shape, planar(BLOCKS).shape)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["plain", "lzw", "deep", "deep_lzw"])
def test_turned_tiff(tmp_path: Path, form: str, orientation: int) -> None:
    pixels = BLOCKS.astype(np.uint16) * 257 if "deep" in form else BLOCKS
    path = tmp_path / "a.tif"
    if form == "lzw":
        save_turned(path, orientation, compression="tiff_lzw")
    elif form == "deep_lzw":
        save_cv2(path, pixels[..., ::-1])
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].compression == 5
        set_orientation(path, orientation)
    else:
        tags = [(274, 3, 1, orientation, True)]
        tifffile.imwrite(path, pixels, photometric="rgb", extratags=tags, metadata=None)
    save_turned(tmp_path / "same.png", orientation)
    wanted = read_image(tmp_path / "same.png").astype(pixels.dtype) * (257 if "deep" in form else 1)
    assert np.array_equal(read_image(path), wanted)
    assert image_info(path)[:3] == wanted.shape


def set_orientation(path: Path, orientation: int) -> None:
    """Adds the tag to a TIFF of OpenCV, in place of the tag SampleFormat, which is its default."""
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags[339]
    content = bytearray(path.read_bytes())
    content[tag.offset : tag.offset + 12] = struct.pack("<HHIHH", 274, 3, 1, orientation, 0)
    path.write_bytes(content)


def test_the_tag_of_a_png_may_be_behind_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save_turned(path, 6)
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    chunk, rest = content[start:end], content[:start] + content[end:]
    path.write_bytes(rest[:-12] + chunk + rest[-12:])
    assert np.array_equal(read_image(path), planar(cv2.imread(str(path))[..., ::-1]))
    assert image_info(path)[:3] == (3, 40, 24)


@pytest.mark.parametrize(
    "damage", [b"", b"Exif\0\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff"]
)
def test_damaged_tags_are_ignored(damage: bytes) -> None:
    assert exif_orientation(damage) == 1


def test_orientations_beyond_8_are_ignored(tmp_path: Path) -> None:
    save_turned(tmp_path / "a.png", 9)
    assert image_info(tmp_path / "a.png").orientation == 1


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *(("RGBA", "png"), ("LA", "png"), ("P", "png"), ("1", "png"), ("CMYK", "jpg")),
        *(("CMYK", "tif"), ("RGBA", "tif"), ("P", "tif"), ("RGBA", "lzw.tif"), ("RGBA", "webp")),
    ],
)
def test_other_modes_are_converted_if_asked_for(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    image = Image.fromarray(BLOCKS).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(7)
    options = {"webp": {"lossless": True, "exact": True}, "lzw.tif": {"compression": "tiff_lzw"}}
    image.save(path, **options.get(suffix, {}))
    with pytest.raises(UserError, match="convert: rgb"):
        read_image(path)
    with Image.open(path) as stored:
        whole = stored.convert("RGBA") if mode in ("RGBA", "LA") else stored.convert("RGB")
        wanted = planar(np.asarray(whole)[..., :3])
    read = read_image(path, ReadOptions(convert=True))
    assert np.array_equal(read, wanted)
    assert image_info(path, ReadOptions(convert=True)) == ImageInfo(*wanted.shape, "uint8")


def test_alpha_of_16_bits_is_dropped_if_asked_for(tmp_path: Path) -> None:
    save_cv2(tmp_path / "a.png", DEEP)
    save_cv2(tmp_path / "a.tif", DEEP)
    tifffile.imwrite(
        tmp_path / "b.tif", DEEP[..., [2, 1, 0, 3]], photometric="rgb", extrasamples=[2]
    )
    for name in ("a.png", "b.tif"):
        read = read_image(tmp_path / name, ReadOptions(convert=True))
        assert read.dtype == np.uint16
        assert np.array_equal(read, planar(DEEP[..., 2::-1]))


@pytest.mark.parametrize("convert", [False, True])
def test_grey_stays_grey(tmp_path: Path, convert: bool) -> None:
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", ReadOptions(convert=convert)).shape == (1, 9, 14)


@pytest.mark.parametrize("suffix", ["ppm", "pgm", "pnm", "jp2", "jfif"])
@pytest.mark.parametrize("deep", [False, True])
def test_less_common_formats(tmp_path: Path, suffix: str, deep: bool) -> None:
    pixels = DEEP[..., :3] if deep else PIXELS
    pixels = pixels[..., 0] if suffix == "pgm" else pixels
    path = tmp_path / f"a.{suffix}"
    if suffix == "jfif":
        if deep:
            pytest.skip("JPEG has 8 bits")
        Image.fromarray(pixels).save(path, format="JPEG")
        pixels = np.asarray(Image.open(path))
    elif suffix == "jp2" and not deep:
        Image.fromarray(pixels).save(path, irreversible=False)
    elif suffix == "jp2":
        save_cv2(path, np.tile(pixels, (9, 9, 1))[..., ::-1])
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1]
        assert pixels.dtype == np.uint16
    else:
        save_cv2(path, pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    assert np.array_equal(read_image(path), planar(pixels))
    assert image_info(path) == ImageInfo(*planar(pixels).shape, "uint16" if deep else "uint8")
    content = path.read_bytes()
    for length in (3, 20, len(content) // 2):
        path.write_bytes(content[:length])
        if suffix != "jp2" or length < 100:  # a part of a JPEG 2000 file is a whole image, blurred
            with pytest.raises(UserError, match=r"truncated|broken|not an image"):
                read_image(path)


def test_text_and_odd_pnm(tmp_path: Path) -> None:
    path = tmp_path / "a.ppm"
    path.write_text("P3\n# a remark\n2 1\n255\n1 2 3\n4 5 6\n")
    assert read_image(path).tolist() == [[[1, 4]], [[2, 5]], [[3, 6]]]
    path.write_bytes(b"P6 2 1 65535\n" + bytes(range(12)))
    assert read_image(path)[0].tolist() == [[0x0001, 0x0607]]
    for content, words in (
        (b"P6 2 1 1023\n" + bytes(12), "largest value is 1023"),
        (b"P6 999999999 999999999 255\n0", "truncated"),
        (b"P6 9999999999999 1 255\n0", "no width"),
        (b"P4 8 1\n0", "1-bit"),
        (b"P3 1 1 255\n1 2 999999", "beyond the maximum"),
        (b"P3 1 1 255\n1 2 x", "truncated or broken"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"a\.ppm: .*{words}"):
            read_image(path)


def test_nan_has_its_own_message(tmp_path: Path) -> None:
    pixels = np.zeros((4, 5, 3), np.float32)
    pixels[1, 2, 0] = pixels[3, 3, 2] = np.nan
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(UserError, match="2 of 60 values are NaN"):
        read_image(tmp_path / "a.npy")
    pixels[np.isnan(pixels)] = np.inf
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(UserError, match="from 0 to inf"):
        read_image(tmp_path / "a.npy")

"""Reading images, and what is said about those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from srtoolbox.data.reader import image_size, list_images, read_image
from srtoolbox.errors import UserError


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "PNG"])
def test_rgb_comes_back_as_it_is(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture).save(path)
    assert np.array_equal(read_image(path), picture)
    assert read_image(path).dtype == np.uint8
    assert image_size(path) == (9, 14)


def test_grey_becomes_three_channels(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture[..., 0]).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), picture[..., :1].repeat(3, 2))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "I;16", "1"])
def test_other_modes_are_refused(tmp_path: Path, picture: np.ndarray, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        Image.fromarray(picture[..., 0].astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(picture).convert(mode).save(path)
    for function in (read_image, image_size):
        with pytest.raises(UserError, match=f"{path.name}: image mode .*8-bit RGB or grey"):
            function(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_colour_is_not_cut_to_8_bits(
    tmp_path: Path, picture: np.ndarray, suffix: str
) -> None:
    path = tmp_path / f"deep.{suffix}"
    assert cv2.imwrite(str(path), picture.astype(np.uint16) * 257)
    with pytest.raises(UserError, match=rf"deep.{suffix}.*(16 bits|not an image)"):
        read_image(path)


def test_broken_files_are_named(tmp_path: Path, picture: np.ndarray) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(picture).save(whole)
    content = whole.read_bytes()
    for name, damaged in {
        "truncated.png": content[: len(content) // 2],
        "empty.png": b"",
        "text.png": b"these are no pixels",
        "flipped.png": content[:60] + bytes(40) + content[100:],
    }.items():
        path = tmp_path / name
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{name}: .*broken.*replace or remove"):
            read_image(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")


def test_listing_is_sorted_and_holds_images_only(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt", "c.tiff"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path).values()] == ["a.JPG", "b.png", "c.tiff"]


def test_faulty_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no such folder"):
        list_images(tmp_path / "none")
    with pytest.raises(UserError, match=r"no images here \(looked for .*\.png"):
        list_images(tmp_path)
    (tmp_path / "a.png").touch()
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UserError, match=r"a\.jpg and a\.png share a stem"):
        list_images(tmp_path)

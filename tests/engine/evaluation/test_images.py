"""SR images as files."""

from __future__ import annotations

import os
import random
import warnings
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from support.faults import Disk, in_process

from srtoolbox.engine.evaluation.images import image_writer, save_image
from srtoolbox.errors import UserError


def test_save_image(tmp_path: Path) -> None:
    image = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 0.1]).view(1, 2, 3).expand(3, -1, -1)
    save_image(tmp_path / "clip" / "000.png", image)
    saved = np.asarray(Image.open(tmp_path / "clip" / "000.png"))
    assert saved[..., 0].tolist() == [[0, 0, 128], [255, 255, 26]]


def test_grey_images_are_written_as_rgb_under_their_key(tmp_path: Path) -> None:
    image_writer(tmp_path)("clip/000", torch.tensor([[[0.0, 0.2]]]))
    saved = np.asarray(Image.open(tmp_path / "clip" / "000.png"))
    assert saved.tolist() == [[[0, 0, 0], [51, 51, 51]]]
    assert not (tmp_path / "clip" / "000.tif").exists()


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_other_numbers_of_bands_are_tiff_files_with_a_picture(tmp_path, channels):
    image = torch.linspace(-0.1, 1.1, channels * 5 * 7).view(channels, 5, 7)
    image_writer(tmp_path)("clip/000", image)
    expected = (image.clamp(0, 1).double() * 65535).round().to(torch.int64).numpy()
    file = tmp_path / "clip" / "000.tif"
    assert np.array_equal(tifffile.imread(file).transpose(2, 0, 1), expected)
    picture = np.asarray(Image.open(tmp_path / "clip" / "000.png")).transpose(2, 0, 1)
    shown = image[:3] if channels > 2 else image[:1].expand(3, -1, -1)
    assert np.array_equal(picture, (shown.clamp(0, 1) * 255).round().byte().numpy())
    rasterio = pytest.importorskip("rasterio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        source = rasterio.open(file)
    with source:
        assert (source.count, source.dtypes[0]) == (channels, "uint16")
        assert np.array_equal(source.read(), expected)


def test_the_bands_of_pictures_can_be_chosen(tmp_path: Path) -> None:
    image = torch.rand(5, 4, 6)
    levels = (image * 255).round().byte().numpy()
    for bands, shown in (([4, 2, 1], [3, 1, 0]), ([5], [4, 4, 4])):
        save_image(tmp_path / "a.png", image, bands)
        picture = np.asarray(Image.open(tmp_path / "a.png")).transpose(2, 0, 1)
        assert np.array_equal(picture, levels[shown])
    save_image(tmp_path / "b.png", image[:3], [3, 2, 1])
    picture = np.asarray(Image.open(tmp_path / "b.png")).transpose(2, 0, 1)
    assert np.array_equal(picture, levels[[2, 1, 0]])
    with pytest.raises(UserError, match=r"val\.rgb_bands: there is no band 6 in images with 5"):
        save_image(tmp_path / "c.png", image, [6, 1, 2])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
def test_a_killed_process_leaves_no_half_of_an_image(tmp_path: Path) -> None:
    """Studies take an image that exists for a complete one."""
    image, path = torch.rand(4, 8, 8), tmp_path / "a.png"

    def save(disk: Disk) -> None:
        disk.install()
        save_image(path, image)

    for at in count(1):
        disk = Disk("kill", at, random.Random(0))
        code = in_process(lambda disk=disk: save(disk))
        if path.exists():
            assert Image.open(path).convert("RGB").size == (8, 8)
            assert tifffile.imread(path.with_suffix(".tif")).shape == (8, 8, 4)
        if code == 0:
            break
    assert at > 5

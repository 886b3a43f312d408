"""JPEG of tensors agrees with libjpeg, which Pillow has."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from srtoolbox.data.degradations.jpeg import compress, quantization_table

PHOTOGRAPH = data.astronaut()


def libjpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "jpeg", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(content)).astype(int)


def ours(pixels: np.ndarray, quality: int) -> np.ndarray:
    planes = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
    made = compress(torch.from_numpy(planes[None].astype(np.float64)), [quality])[0].numpy()
    return (made.transpose(1, 2, 0) if pixels.ndim == 3 else made[0]).astype(int)


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 75, 95, 100])
def test_quantization_tables(quality: int) -> None:
    content = io.BytesIO()
    Image.fromarray(PHOTOGRAPH).save(content, "jpeg", quality=quality)
    tables = Image.open(content).quantization  # pyright: ignore[reportAttributeAccessIssue]
    for number, chroma in enumerate((False, True)):
        assert tables[number] == quantization_table(quality, chroma).ravel().tolist()


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 95, 100])
@pytest.mark.parametrize("size", [(128, 128), (123, 117), (33, 40), (64, 17)])
def test_colour_and_grey(size: tuple[int, int], quality: int) -> None:
    """The transform is libjpeg's but for its integer factors: on average within half a level."""
    pixels = np.ascontiguousarray(PHOTOGRAPH[100 : 100 + size[0], 150 : 150 + size[1]])
    for image in (pixels, np.ascontiguousarray(pixels[..., 1])):
        expected = libjpeg(image, quality)
        made = ours(image, quality)
        difference = np.abs(made - expected)
        assert difference.mean() < 0.5
        assert (difference <= 2).mean() > 0.93
        if quality < 100:  # where libjpeg loses as much by its integer factors
            lost = [((result - image.astype(int)) ** 2).mean() for result in (made, expected)]
            assert lost[0] == pytest.approx(lost[1], rel=0.05)


def test_flat_blocks_are_exact() -> None:
    """Constant colours have exact ties of rounding in libjpeg, too."""
    for level in (0, 17, 128, 200, 255):
        pixels = np.full((16, 24, 3), level, np.uint8)
        for quality in (20, 75):
            assert np.array_equal(ours(pixels, quality), libjpeg(pixels, quality))


def test_other_bands_are_grey_images() -> None:
    image = torch.from_numpy(PHOTOGRAPH[:40, :40].transpose(2, 0, 1).astype(np.float64))
    four = torch.cat([image, image[:1]])[None]
    made = compress(four, [40])
    for band in range(4):
        assert torch.equal(made[:, band], compress(four[:, band : band + 1], [40])[:, 0])


def test_every_image_has_its_own_quality() -> None:
    image = torch.from_numpy(PHOTOGRAPH[:40, :56].transpose(2, 0, 1).astype(np.float64))
    both = compress(torch.stack([image, image]), [20, 90])
    for made, quality in zip(both, (20, 90), strict=True):
        assert torch.equal(made, compress(image[None], [quality])[0])


def test_input_is_rounded_and_clipped() -> None:
    image = torch.tensor([[[[-20.0, 300.0], [99.6, 0.5]]]], dtype=torch.float64)
    clean = torch.tensor([[[[0.0, 255.0], [100.0, 1.0]]]], dtype=torch.float64)
    assert torch.equal(compress(image, [90]), compress(clean, [90]))

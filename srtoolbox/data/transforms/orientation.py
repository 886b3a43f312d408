"""Crops, flips and rotations of training images.

An orientation is one of the eight symmetries of the square, as a number from 0 to 7: the image is
mirrored left to right if the number is odd, then rotated by ``code // 2`` quarter turns. A dataset
draws the orientation. It is applied to all frames of a sample and to the ground truth when they are
converted to float on the device, because this needs no additional copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def random_crop_origin(
    height: int, width: int, size: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Draws the top-left corner (y, x) of a ``size`` × ``size`` crop inside the image."""
    return int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))


def random_orientation(use_hflip: bool, use_rot: bool, rng: np.random.Generator) -> int:
    """Draws an orientation.

    Both random numbers are always drawn, so that disabling one option does not change the other.
    """
    mirror, turns = int(rng.integers(2)), int(rng.integers(4))
    return (mirror if use_hflip else 0) + 2 * (turns if use_rot else 0)


def orient_array(images: np.ndarray, code: int) -> np.ndarray:
    """Returns a view of images (…, H, W) in the orientation ``code``."""
    return np.rot90(images[..., ::-1] if code % 2 else images, code // 2, (-2, -1))


def orient(images: Tensor, code: int) -> Tensor:
    """Returns images (…, H, W) in the orientation ``code``."""
    if code % 2:
        images = images.flip(-1)
    return torch.rot90(images, code // 2, (-2, -1))


def orient_batch(pixels: Tensor, codes: Sequence[int]) -> Tensor:
    """Brings each image of a batch (N, …, H, W) of square images into its own orientation.

    Args:
        pixels: Images of any type, on any device.
        codes: N orientations.
    """
    if not any(codes):
        return pixels
    # torch cannot flip uint16; int16 has the same bits.
    plain = pixels.view(torch.int16) if pixels.dtype == torch.uint16 else pixels
    turned = torch.stack([orient(image, code) for image, code in zip(plain, codes, strict=True)])
    return turned.view(pixels.dtype)

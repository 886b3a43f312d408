"""Crops, flips and rotations of training images.

An orientation is one of the eight symmetries of the square as a number from 0 to 7: mirrored left
to right if it is odd, then turned by ``code // 2`` quarter turns. A dataset draws it; all frames of
a sample and its ground truth are brought into it when they become floats on the device, where that
costs no copy of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def random_crop_origin(
    height: int, width: int, size: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Top-left corner (y, x) of a random ``size`` × ``size`` crop that lies inside the image."""
    return int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))


def random_dihedral(use_hflip: bool, use_rot: bool, rng: np.random.Generator) -> tuple[bool, int]:
    """A random symmetry of the square: whether to mirror, and how many quarter turns.

    Both numbers are always drawn, so switching one option off does not change the other's draws.
    """
    mirror, turns = bool(rng.integers(2)), int(rng.integers(4))
    return mirror and use_hflip, turns if use_rot else 0


def random_orientation(use_hflip: bool, use_rot: bool, rng: np.random.Generator) -> int:
    """As ``random_dihedral``, as one number."""
    mirror, turns = random_dihedral(use_hflip, use_rot, rng)
    return int(mirror) + 2 * turns


def apply_dihedral(image: np.ndarray, mirror: bool, turns: int) -> np.ndarray:
    """Mirrors (left–right) and then turns an image (H, W, …) by ``turns`` × 90°."""
    if mirror:
        image = image[:, ::-1]
    return np.rot90(image, turns)


def orient_array(images: np.ndarray, code: int) -> np.ndarray:
    """A view of images (…, H, W) in the orientation ``code``."""
    return np.rot90(images[..., ::-1] if code % 2 else images, code // 2, (-2, -1))


def orient(images: Tensor, code: int) -> Tensor:
    """Images (…, H, W) in the orientation ``code``."""
    if code % 2:
        images = images.flip(-1)
    return torch.rot90(images, code // 2, (-2, -1))


def orient_batch(pixels: Tensor, codes: Sequence[int]) -> Tensor:
    """A batch (N, …, H, W) of square images, each in its own orientation.

    Args:
        pixels: Of any type and device.
        codes: N orientations.
    """
    if not any(codes):
        return pixels
    # torch flips no uint16; int16 has the same bits.
    plain = pixels.view(torch.int16) if pixels.dtype == torch.uint16 else pixels
    turned = torch.stack([orient(image, code) for image, code in zip(plain, codes, strict=True)])
    return turned.view(pixels.dtype)

"""Crops, flips and rotations of training images."""

from __future__ import annotations

import numpy as np


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


def apply_dihedral(image: np.ndarray, mirror: bool, turns: int) -> np.ndarray:
    """Mirrors (left–right) and then turns an image (H, W, …) by ``turns`` × 90°."""
    if mirror:
        image = image[:, ::-1]
    return np.rot90(image, turns)

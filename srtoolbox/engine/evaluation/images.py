"""Writes SR images as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor


def save_image(path: Path, image: Tensor) -> None:
    """Writes an image (3, H, W) or (1, H, W), clamped to [0, 1], as an 8-bit RGB PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image.expand(3, -1, -1)
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def image_writer(folder: Path) -> Callable[[str, Tensor], None]:
    """Returns a function that writes each image to ``folder``/``key``.png."""
    return lambda key, sr: save_image(folder / f"{key}.png", sr)

"""Writes SR images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor


def save_image(path: Path, image: Tensor) -> None:
    """Writes (3, H, W) or (1, H, W) in [0, 1] as an 8-bit RGB PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image.expand(3, -1, -1)
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def image_writer(folder: Path) -> Callable[[str, Tensor], None]:
    """Writes each image it is called with, by its key, below ``folder``."""
    return lambda key, sr: save_image(folder / f"{key}.png", sr)

"""Small networks and pictures for tests of upscaling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from support.networks import SMALL
from torch import nn

from srtoolbox.config.schema import build


def small_network(name: str = "EDSR", scale: int = 2) -> nn.Module:
    """Returns a small network with random weights, the same at each call."""
    torch.manual_seed(0)
    return build("arch", {"type": name, **SMALL.get(name, {}), "scale": scale}).eval()


def texture(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """Returns a reproducible picture (C, H, W) with smooth and fine details."""
    draw = np.random.default_rng(height * 1000 + width)
    rows, columns = np.mgrid[:height, :width]
    wave = 0.5 + 0.3 * np.sin(rows / 5)[None] * np.cos(columns / 7)[None]
    image = (wave + 0.2 * draw.random((channels, height, width))).clip(0, 1)
    if dtype == np.float32:
        return image.astype(np.float32)
    return np.floor(image * np.iinfo(dtype).max + 0.5).astype(dtype)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    """Writes 8-bit pixels (C, H, W) by Pillow, which is not the writer under test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    planes = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    Image.fromarray(planes).save(path, **options)
    return path

"""Weight files of backbones with random values."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from srtoolbox.utils.imagenet import LPIPS_BACKBONES


def random_state(net: str, seed: int = 0) -> dict[str, Tensor]:
    """Returns convolutions of an LPIPS backbone with random values."""
    generator = torch.Generator().manual_seed(seed)
    shapes = LPIPS_BACKBONES[net].shapes
    return {key: torch.randn(shape, generator=generator) * 0.05 for key, shape in shapes.items()}


def write_backbone(file: Path, net: str = "alex", seed: int = 0, whole: bool = False) -> Path:
    """Writes the convolutions of an LPIPS backbone, or a file that also has a classifier."""
    state = random_state(net, seed)
    if whole:
        state["classifier.1.weight"] = torch.zeros(2, 3)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, file)
    return file

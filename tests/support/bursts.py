"""Bursts that tests of degradations make."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from srtoolbox.data.degradations import raw as raw
from srtoolbox.data.degradations import rgb as rgb

SIZE = (48, 64)


CLEAN: dict[str, Any] = {"noise_sigma": (0, 0), "blur_sigma": (0, 0)}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def stack(*choices: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.stack([c[name] for c in choices])) for name in choices[0]}


def noise_image(pipeline: Any, number: int = 1) -> Tensor:
    margin = pipeline.margin(max(SIZE))
    shape = (number, 3, SIZE[0] + 2 * margin, SIZE[1] + 2 * margin)
    return torch.from_numpy(rng(5).integers(0, 256, shape, dtype=np.uint8))

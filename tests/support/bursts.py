"""Bursts for tests of networks, and pieces of those that tests of degradations make."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
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


def bursts(num: int, size: int, num_frame: int, seed: int, scale: int = 4) -> tuple[Tensor, Tensor]:
    """Shifted views of random scenes with detail that one frame cannot resolve.

    Returns lq (num, T, 3, size, size) and gt (num, 3, size·scale, size·scale).
    """
    draw = torch.Generator().manual_seed(seed)
    pad, side = 8, size * scale
    detail = torch.rand(num, 3, (side + 2 * pad) // 3, (side + 2 * pad) // 3, generator=draw)
    scene = F.interpolate(detail, (side + 2 * pad,) * 2, mode="bicubic", antialias=True).clamp(0, 1)
    frames = []
    for t in range(num_frame):
        x, y = torch.randint(0, 2 * pad + 1, (2,), generator=draw) if t else (pad, pad)
        frames.append(F.avg_pool2d(scene[..., y : y + side, x : x + side], scale))
    lq = torch.stack(frames, 1)
    lq = lq + 0.01 * torch.randn(lq.shape, generator=draw)
    return lq, scene[..., pad:-pad, pad:-pad]

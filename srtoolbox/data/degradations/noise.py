"""Noise of synthetic bursts: its strength, and random numbers that are the same on any device.

Torch's generators give different numbers on a GPU and on a CPU, and need their seed on the host.
Here a number is a function of its seed and its position, so seeds can stay on the device, samples
do not influence each other, and devices differ only by the rounding of float32.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_MAX_WORD = 0xFFFFFFFF  # of 32 bits


def draw_noise(rng: np.random.Generator) -> np.ndarray:
    """Draws a seed for ``normal_noise``: int64, shape ()."""
    return np.asarray(rng.integers(2**62), dtype=np.int64)


def draw_shot_read(shot_range: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Draws (shot, read) of a camera's noise with variance ``shot · intensity + read``.

    ``shot`` is log-uniform in its range; ln read = 2.18 ln shot + 1.20 ± 0.26, the line fitted to
    the Darmstadt noise dataset (Brooks et al., "Unprocessing Images for Learned Raw Denoising",
    CVPR 2019). Intensities are in [0, 1]. The range (0, 0) means no noise.
    """
    position, spread = rng.uniform(), rng.normal(0, 0.26)
    if shot_range[1] == 0:
        return np.zeros(2)
    low, high = np.log(shot_range)
    log_shot = low + position * (high - low)
    log_read = 2.18 * log_shot + 1.20 + spread
    return np.exp([log_shot, log_read])


def normal_noise(seed: Tensor, shape: torch.Size) -> Tensor:
    """Returns standard normal numbers: float32 (N, …), sample n from ``seed[n]`` alone.

    Args:
        seed: (N,) int64, not negative.
        shape: Shape of the result, (N, …); at most 2^32 numbers per sample.
    """
    position = torch.arange(math.prod(shape[1:]), device=seed.device)
    bits = _scramble(_scramble(position) ^ _scramble(seed & _MAX_WORD)[:, None])
    bits = _scramble(bits ^ _scramble(seed >> 32)[:, None])
    # Odd numbers of 25 bits are exact in float32, symmetric about zero, and never ±1 when divided.
    odd = 2 * (bits >> 8) + 1 - 2**24
    return (torch.erfinv(odd.float() / 2**24) * math.sqrt(2)).reshape(shape)


def _scramble(word: Tensor) -> Tensor:
    """Mixes 32-bit words invertibly; they are stored as int64, so that products do not overflow."""
    for factor in (0x7FEB352D, 0x45D9F3B):
        word = ((word ^ (word >> 16)) * factor) & _MAX_WORD
    return word ^ (word >> 15)

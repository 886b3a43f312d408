"""Noise of synthetic images: its strength, and random numbers that are the same on any device.

Torch's generators give different numbers on a GPU and on a CPU, and need their seed on the host.
Here a number is a function of its seed and its position, so seeds can stay on the device, samples
do not influence each other, and devices differ only by the rounding of floats.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from scipy import special
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


def normal_noise(seed: Tensor, shape: torch.Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns standard normal numbers: (N, …), sample n from ``seed[n]`` alone.

    Args:
        seed: (N,) int64, not negative.
        shape: Shape of the result, (N, …); at most 2^32 numbers per sample.
        dtype: float32 or float64.
    """
    numbers = torch.erfinv(_odd_numbers(seed, shape).to(dtype) / 2**24)
    return (numbers * math.sqrt(2)).reshape(shape)


def poisson_noise(seed: Tensor, levels: Tensor) -> Tensor:
    """Returns Poisson noise of 8-bit images: counts minus their mean, in levels.

    As in Real-ESRGAN, the brightest level has a mean of 2^⌈log₂ n⌉ counts, where n is the number of
    different levels in the image: images of few levels are noisier. Counts are looked up in exact
    tables by uniform numbers, which are functions of seed and position.

    Args:
        seed: (N,) int64, not negative.
        levels: (N, ...) whole levels from 0 to 255, floating.

    Returns:
        (N, ...), of the type and on the device of ``levels``.
    """
    index = levels.flatten(1).long()
    present = torch.zeros(len(index), 256, dtype=torch.int64, device=index.device)
    number = present.scatter_(1, index, 1).sum(1)
    bounds = 2 ** torch.arange(8, device=index.device)
    power = (number[:, None] > bounds).sum(1)  # ⌈log₂ number⌉
    row = 256 * power[:, None] + index
    # Odd numbers lie in (-2^24, 2^24); these in (0, 1), and their sum with the row is exact.
    uniform = (_odd_numbers(seed, index.shape).double() + 2**24) / 2**25
    counts = torch.searchsorted(_poisson_tables(index.device), row + uniform) - row * _MAX_COUNT
    brightest = (2**power)[:, None].to(torch.float64)
    noise = counts.double() * (255 / brightest) - index
    return noise.reshape(levels.shape).to(levels.dtype)


_MAX_COUNT = 384  # a mean of 256 exceeds it with a probability below 1e-13


@lru_cache(maxsize=8)
def _poisson_tables(device: torch.device) -> Tensor:
    """Returns row + P(count ≤ k) for every row = 256 · power + level and k, in increasing order."""
    mean = np.arange(256) / 255 * 2.0 ** np.arange(9)[:, None]
    chance = special.pdtr(np.arange(_MAX_COUNT), mean.reshape(-1, 1))
    chance[:, -1] = 1
    rows = np.arange(len(chance))[:, None]
    with torch.inference_mode(False):  # cached tensors are also used outside of inference mode
        return torch.from_numpy((rows + chance).reshape(-1)).to(device)


def _odd_numbers(seed: Tensor, shape: torch.Size) -> Tensor:
    """Returns odd integers between -2^24 and 2^24, (N, numbers per sample)."""
    position = torch.arange(math.prod(shape[1:]), device=seed.device)
    bits = _scramble(_scramble(position) ^ _scramble(seed & _MAX_WORD)[:, None])
    bits = _scramble(bits ^ _scramble(seed >> 32)[:, None])
    # Odd numbers of 25 bits are exact in float32, symmetric about zero, and never ±1 when divided.
    return 2 * (bits >> 8) + 1 - 2**24


def _scramble(word: Tensor) -> Tensor:
    """Mixes 32-bit words invertibly; they are stored as int64, so that products do not overflow."""
    for factor in (0x7FEB352D, 0x45D9F3B):
        word = ((word ^ (word >> 16)) * factor) & _MAX_WORD
    return word ^ (word >> 15)

"""Scenes of clips for tests: pictures that move, and how they follow each other."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np


def scene(seed: int, count: int, height: int = 36, width: int = 64, step: int = 1) -> np.ndarray:
    """Returns frames (count, 3, height, width) of a picture that moves by ``step`` pixels.

    Scenes of other seeds have other shapes, colours and brightness.
    """
    draw = np.random.default_rng(seed)
    wide = width + step * (count - 1)
    coarse = draw.random((height // 6 + 2, wide // 6 + 2, 3)).astype(np.float32)
    image = cv2.resize(coarse, (wide, height), interpolation=cv2.INTER_CUBIC)
    image += 0.1 * draw.random((height, wide, 1), np.float32)
    level = 0.25 + 0.5 * (seed % 3) / 2
    image = (level + 0.6 * (image - image.mean())).clip(0, 1) * 255
    frames = [image[:, at * step : at * step + width] for at in range(count)]
    return np.stack(frames).transpose(0, 3, 1, 2).round().astype(np.uint8)


def fade(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """Returns ``count`` frames between two frames, without them."""
    shares = np.arange(1, count + 1) / (count + 1)
    mixed = [(1 - share) * first + share * second for share in shares]
    return np.stack(mixed).round().astype(np.uint8)


def each(frames: np.ndarray, change: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    """Changes each frame as float64, rounds and clips."""
    changed = [change(frame.astype(np.float64), at) for at, frame in enumerate(frames)]
    return np.stack(changed).clip(0, 255).round().astype(np.uint8)

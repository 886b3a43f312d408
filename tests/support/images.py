"""Small images, and how tests write and compare them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def picture(height: int, width: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, top, (height, width, 3), dtype=dtype)


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, image)
    elif image.dtype == np.uint16:
        cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)
    else:
        Image.fromarray(image).save(path)
    return path


def chw(image: np.ndarray) -> np.ndarray:
    return image.transpose(2, 0, 1)


def assert_same(ours: list[dict], theirs: list[dict]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        assert one["key"] == other["key"]
        assert one.get("orientation") == other.get("orientation")
        for name in ("lq", "gt"):
            assert one[name].dtype == other[name].dtype
            assert np.array_equal(one[name], other[name])


def save_pictures(folder: Path, sizes: Mapping[str, tuple[int, int]]) -> Path:
    """Writes a PNG file for each name and (height, width), grey for the name "grey"."""
    for seed, (name, size) in enumerate(sizes.items()):
        image = picture(*size, seed)
        save(folder / f"{name}.png", image[..., 0] if name == "grey" else image)
    return folder

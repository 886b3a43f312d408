"""Fixtures of the tests of the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srtoolbox.data.cache import build as cache_build
from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.reader import read_image


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Images of different sizes and types."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for number in range(20):
        size = rng.integers(5, 40, 2)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            folder / f"{number:02d}.png"
        )
    Image.fromarray(rng.integers(0, 65536, (9, 7), dtype=np.uint16)).save(folder / "deep.png")
    np.save(folder / "float.npy", rng.random((6, 5, 3), dtype=np.float32))
    return sorted(folder.iterdir())


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded into the cache in this process."""
    names: list[str] = []

    def read(path: Path, *options: ReadOptions) -> np.ndarray:
        names.append(path.name)
        return read_image(path, *options)

    monkeypatch.setattr(cache_build, "read_image", read)
    return names

"""Checks of the cache of decoded pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from srtoolbox.data.cache.pixels import PixelReader
from srtoolbox.data.files.reader import read_image


def the_store(cache: Path) -> Path:
    """The only folder of pixels in a cache."""
    (store,) = (path for path in cache.iterdir() if path.is_dir())
    return store


def check(pixels: PixelReader, files: list[Path]) -> None:
    """The pixels must be those of the files."""
    for path in files:
        view, wanted = pixels(path), read_image(path)
        assert view.dtype == wanted.dtype
        assert np.array_equal(view, wanted)

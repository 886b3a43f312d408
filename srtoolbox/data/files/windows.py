"""Reads windows of large TIFF and JPEG 2000 files without decoding the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from srtoolbox.data.files.image_info import PLAIN, ImageInfo, ReadOptions, WindowDecoder
from srtoolbox.data.files.reader import (
    OpenedFile,
    decoding,
    finished,
    open_file,
    read_image,
    read_opened,
)
from srtoolbox.data.transforms.missing import FILL_RADIUS

LARGE = 2**26
"""Size in bytes, when decoded, from which images are read by windows."""

_STRIP = 2**25  # bytes of the pixels that are in memory while a file is read by strips


class WindowedImage:
    """An image (C, H, W) whose pixels are decoded when they are indexed.

    It is indexed by integers and slices, and gives the values of ``read_image``. Missing pixels of
    a window are filled from pixels up to 16 further, so that they are those of the whole image.

    Args:
        path: The file.
        options: How it is read.
        file: The file, opened; its ``decode`` is a ``WindowDecoder``, and it is stored upright.
    """

    ndim = 3

    def __init__(self, path: Path, options: ReadOptions, file: OpenedFile) -> None:
        assert isinstance(file.decode, WindowDecoder)
        self._path, self._options, self._decoder = path, options, file.decode
        self._stored = file.stored
        numbers = options.bands or range(1, file.stored.channels + 1)
        self._bands = [number - 1 for number in numbers]
        self.shape = file.info[:3]
        self.dtype = np.dtype(file.info.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Returns the pixels of integers or slices of channels, rows and columns.

        Raises:
            TypeError: for other indices, or more than three.
            UserError: as ``read_image``; floats are checked in the window only.
        """
        keys = key if isinstance(key, tuple) else (key,)
        found = [place for place, key in enumerate(keys) if key is Ellipsis]
        if len(found) == 1:
            at = found[0]
            missing = self.ndim - (len(keys) - 1)
            keys = (*keys[:at], *[slice(None)] * missing, *keys[at + 1 :])
        if len(keys) > self.ndim or not all(isinstance(k, (int, np.integer, slice)) for k in keys):
            raise TypeError("an image is indexed by integers and slices of (C, H, W)")
        keys = (*keys, *[slice(None)] * (self.ndim - len(keys)))
        ranges = [_span(key, size) for key, size in zip(keys, self.shape, strict=True)]
        _, (top, bottom, rows), (left, right, columns) = ranges
        channels = keys[0]
        if 0 in (bottom - top, right - left, len(range(*ranges[0][:2]))):
            window = np.empty((self.shape[0], bottom - top, right - left), self.dtype)
        elif self._options.nodata is None:  # other bands need not be decoded
            numbers = range(self.shape[0])[keys[0]]
            numbers = [numbers] if isinstance(numbers, int) else list(numbers)
            channels = slice(None) if isinstance(channels, slice) else 0
            window = self._window(numbers, top, bottom, left, right)
        else:
            window = self._window(range(len(self._bands)), top, bottom, left, right)
        return window[channels, rows, columns]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns all pixels, as ``read_image``."""
        if copy is False:
            raise ValueError("the pixels are in a file; they cannot be used without a copy")
        return np.asarray(read_image(self._path, self._options), dtype)

    def strips(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the first row and the pixels (C, h, W) of strips from top to bottom.

        Each part of the file is decoded once.
        """
        _, height, width = self.shape
        row_size = width * len(self._bands) * np.dtype(self._stored.dtype).itemsize
        together = self._decoder.rows
        step = max(1, _STRIP // max(1, row_size) // together) * together
        halo = 0 if self._options.nodata is None else FILL_RADIUS
        bands = range(len(self._bands))
        top = 0  # the first row that was not yet given
        start = 0  # the first row of ``pixels``, which later rows may still be filled from
        pixels = np.empty((len(bands), 0, width), self._stored.dtype)
        for first in range(0, height, step):
            last = min(first + step, height)
            fresh = self._decoded(bands, first, last, 0, width)
            pixels = np.concatenate([pixels, fresh], axis=1) if halo else fresh
            bottom = height if last == height else last - halo
            if bottom > top:
                yield top, self._finished(pixels)[:, top - start : bottom - start]
                top = bottom
            cut = max(0, top - halo - start)
            start, pixels = start + cut, pixels[:, cut:]

    def _window(
        self, numbers: Sequence[int], top: int, bottom: int, left: int, right: int
    ) -> np.ndarray:
        """Returns the pixels of some bands in a window, and the channel of known pixels."""
        halo = 0 if self._options.nodata is None else FILL_RADIUS
        _, height, width = self.shape
        y, x = max(0, top - halo), max(0, left - halo)
        outer = y, min(height, bottom + halo), x, min(width, right + halo)
        pixels = self._finished(self._decoded(numbers, *outer))
        return pixels[:, top - y : bottom - y, left - x : right - x]

    def _decoded(
        self, numbers: Sequence[int], top: int, bottom: int, left: int, right: int
    ) -> np.ndarray:
        """Returns some bands of a window as stored."""
        bands = [self._bands[number] for number in numbers]
        with decoding(self._path):
            return self._decoder.window(bands, top, bottom, left, right)

    def _finished(self, pixels: np.ndarray) -> np.ndarray:
        return finished(self._path, pixels, self._options, self._stored.nodata)


def open_image(
    path: Path, options: ReadOptions = PLAIN, large: int | None = None
) -> np.ndarray | WindowedImage:
    """Reads the pixels of an image, as ``read_image``, or opens it as a ``WindowedImage``.

    Args:
        path: The file.
        options: How it is read.
        large: Size in bytes, when decoded, from which a TIFF or JPEG 2000 file is opened, if its
            windows can be decoded alone; None: 64 MiB.

    Raises:
        UserError: as ``read_image``.
    """
    file = open_file(path, options)
    if (
        is_large(file.info, large)
        and isinstance(file.decode, WindowDecoder)
        and file.stored.orientation == 1
    ):
        return WindowedImage(path, options, file)
    return read_opened(path, options, file)


def is_large(info: ImageInfo, large: int | None = None) -> bool:
    """Returns whether an image takes at least ``large`` bytes (None: 64 MiB) when decoded."""
    size = math.prod(info[:3]) * np.dtype(info.dtype).itemsize
    return size >= (LARGE if large is None else large)


def _span(key: int | slice, size: int) -> tuple[int, int, Any]:
    """Returns the begin and end of the part that an index needs, and the index within it."""
    numbers = range(size)[key]
    if isinstance(numbers, int):
        return numbers, numbers + 1, 0
    if not numbers:
        return 0, 0, slice(None)
    low, high = min(numbers[0], numbers[-1]), max(numbers[0], numbers[-1])
    return low, high + 1, slice(None, None, numbers.step)

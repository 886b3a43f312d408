"""Reads TIFF and JPEG 2000 files with rasterio (extra ``[geo]``): any bands, any window."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from srtoolbox.data.files.image_info import ImageFault, ImageInfo, WindowDecoder

CACHE = 64
"""Megabytes that GDAL may use for blocks."""

Driver = Literal["GTiff", "JP2OpenJPEG"]


def has_rasterio() -> bool:
    """Returns whether rasterio can be imported."""
    try:
        import rasterio  # noqa: F401
    except ImportError:
        return False
    return True


def check_rasterio(path: Path, text: str) -> None:
    """Checks that rasterio can be imported.

    Args:
        path: A file that only rasterio can read.
        text: What the file is.

    Raises:
        ImageFault: if it cannot.
    """
    if not has_rasterio():
        raise ImageFault(
            f'{path}: {text}; reading it needs rasterio: pip install "srtoolbox[geo]"',
            "rasterio missing",
        )


def raster_decoder(
    path: Path, driver: Driver, info: ImageInfo, order: Sequence[int], rows: int
) -> WindowDecoder:
    """Returns the decoder of a file.

    Args:
        path: The file.
        driver: Name of GDAL's driver for the format.
        info: Form that the header states.
        order: Index of the stored band of each channel.
        rows: Number of rows that are decoded together.
    """

    def window(channels: Sequence[int], top: int, bottom: int, left: int, right: int) -> np.ndarray:
        with opened(path, driver) as source:
            stated = source.count, source.height, source.width
            if stated != info[:3]:
                raise ValueError(f"rasterio reads {stated}, its header states {info[:3]}")
            bands = [order[channel] + 1 for channel in channels]
            place = (top, bottom), (left, right)
            with reading(path):
                pixels = source.read(bands, window=place)
        return pixels.astype(info.dtype, copy=False)

    def whole() -> np.ndarray:
        return window(range(len(order)), 0, info.height, 0, info.width)

    return WindowDecoder(whole, window, rows)


@contextmanager
def opened(path: Path, driver: Driver) -> Iterator[Any]:
    """Opens a raster; rasterio must be installed.

    Raises:
        ImageFault: if the file cannot be opened.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # it also raises what it logs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.Env(GDAL_CACHEMAX=CACHE):
            with reading(path):
                source = rasterio.open(path.absolute(), driver=driver)
            with source:
                yield source


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns rasterio's errors into those for files of users."""
    try:
        yield
    except rasterio_errors() as error:
        reason = " ".join(str(error.__cause__ or error).split())  # GDAL's own words
        raise ImageFault(
            f"{path}: truncated or broken ({reason}); replace or remove it", "truncated"
        ) from error


def rasterio_errors() -> tuple[type[Exception], ...]:
    """Returns the errors that rasterio raises for files."""
    from rasterio._err import CPLE_BaseError  # not all of them are turned into rasterio's own
    from rasterio.errors import RasterioError

    return RasterioError, CPLE_BaseError

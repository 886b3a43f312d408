"""Generates multi-band images from photographs, in the layout ``multiband``.

::

    HR/<id>.tif                   uint16, reflectance × 10000, 12 bits (largest value 4095)
    multiband.json                the options

The bands are synthetic: mixes of the photograph's linear RGB with terms that imitate vegetation,
soil, water and air (see ``degradations.spectrum``). They are correlated like those of satellite
images, but they are not radiometrically real. With rasterio (extra ``geo``) a file is a GeoTIFF
that has an invented place, and names and wavelengths of its bands; without it, it is a plain TIFF.
The pixels are the same.

An image depends only on the pixels and name of its photograph, the seed and the options.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from srtoolbox.data.datasets.synthetic_bursts import fixed_rng
from srtoolbox.data.degradations.spectrum import Band, Scene, choose_bands, srgb_to_linear
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.prepare.generate import generate, plain_tiff
from srtoolbox.errors import UserError
from srtoolbox.utils.console import Progress

WHITE = 4095  # largest value: 12 bits
_PER_REFLECTANCE = 10000
_PIXEL = 10.0  # side of a pixel on the invented map, in metres
_CRS = "EPSG:32650"  # UTM zone 50 north
_PLACES = (30_000, 70_000), (300_000, 500_000)  # ranges of east and north, in pixels


@dataclass(frozen=True)
class MultibandPipeline:
    """Makes a multi-band image from a photograph.

    Args:
        channels: Number of bands, 1 to 13; ``choose_bands`` says which.
        nodata: Value of the missing pixels beyond a slanted edge of the swath; None: no pixel is
            missing. A pixel that happens to have this value is moved to the next value.
        blur_sigma: Standard deviation of a blur in pixels, which makes photographs about as sharp
            as satellite images.
        missing: Range of the share of the width that is missing in the middle row.
        slant: Range of the angle of the edge from the vertical, in degrees.

    Raises:
        UserError: names the invalid option.
    """

    channels: int = 4
    nodata: int | None = None
    blur_sigma: float = 0.8
    missing: tuple[float, float] = (0.05, 0.25)
    slant: tuple[float, float] = (8.0, 20.0)

    def __post_init__(self) -> None:
        try:
            choose_bands(self.channels)
        except ValueError as error:
            raise UserError(f"multiband: channels: {error}") from error
        if self.nodata is not None and not 0 <= self.nodata <= 65535:
            raise UserError(f"multiband: nodata must be from 0 to 65535, got {self.nodata}")

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands in the order of their wavelengths."""
        return choose_bands(self.channels)

    def make(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Makes one image.

        Args:
            image: (C, H, W), C 1 or 3, uint8, uint16 or float in [0, 1], sRGB.
            rng: Random generator of all choices.

        Returns:
            (channels, H, W) uint16.
        """
        scene = Scene.draw(rng)
        white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
        linear = srgb_to_linear(np.broadcast_to(image, (3, *image.shape[1:])) / white)
        out = np.empty((self.channels, *image.shape[1:]), np.uint16)
        for number, band in enumerate(self.bands):
            values = _PER_REFLECTANCE * scene.reflectance(linear, band.wavelength)
            values = gaussian_filter(values, self.blur_sigma, mode="mirror")
            out[number] = np.floor(values + 0.5).clip(0, WHITE)
        if self.nodata is not None:
            beside = self.nodata + 1 if self.nodata < 65535 else self.nodata - 1
            out[out == self.nodata] = beside
            out[:, self._beyond_swath(image.shape[1], image.shape[2], rng)] = self.nodata
        return out

    def _beyond_swath(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """Draws which pixels (H, W) lie beyond the edge of the swath."""
        share, angle = rng.uniform(*self.missing), rng.uniform(*self.slant)
        turned, right = rng.integers(2, size=2)
        slope = math.tan(math.radians(angle)) * (1 if turned else -1)
        edge = share * width + slope * (np.arange(height) - (height - 1) / 2)
        beyond = np.arange(width) < edge[:, None]
        return beyond[:, ::-1] if right else beyond


def generate_multiband(
    images: Sequence[Path],
    out: Path,
    *,
    scale: int = 4,
    channels: int = 4,
    nodata: int | None = None,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> int:
    """Makes one multi-band image from each photograph; continues after an interruption.

    Args:
        images: Photographs with different stems.
        out: Folder for the dataset.
        scale: Not used; HR images serve for every scale.
        channels: Number of bands, as of ``MultibandPipeline``.
        nodata: Value of missing pixels, as of ``MultibandPipeline``.
        seed: Another seed gives other images of the same photographs.
        progress: Called with the number of finished images and the number of all images.

    Returns:
        The number of images made, without those that existed.

    Raises:
        UserError: if an option is invalid, two photographs have the same stem, one is unreadable,
            or ``out`` contains a dataset made with other options.
    """
    pipeline = MultibandPipeline(channels, nodata)

    def make(key: str, path: Path) -> dict[str, bytes]:
        rng = fixed_rng(key, seed)
        return {f"HR/{key}.tif": tiff(pipeline.make(read_image(path), rng), pipeline, rng)}

    options = {"seed": seed, **asdict(pipeline)}
    return generate(images, out, "multiband.json", options, "HR", make, progress, suffix=".tif")


def tiff(pixels: np.ndarray, pipeline: MultibandPipeline, rng: np.random.Generator) -> bytes:
    """Encodes (C, H, W) uint16 as GeoTIFF at an invented place; as TIFF without rasterio."""
    if find_spec("rasterio") is None:
        return plain_tiff(pixels, pipeline.nodata)
    from rasterio import Affine  # optional
    from rasterio.io import MemoryFile

    west, north = (_PIXEL * int(rng.integers(*ends)) for ends in _PLACES)
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=len(pixels),
            height=pixels.shape[1],
            width=pixels.shape[2],
            dtype="uint16",
            crs=_CRS,
            transform=Affine(_PIXEL, 0, west, 0, -_PIXEL, north),
            nodata=pipeline.nodata,
            photometric="MINISBLACK",
            interleave="pixel",
        ) as target:
            target.write(pixels)
            target.scales = [1 / _PER_REFLECTANCE] * len(pixels)
            target.update_tags(content="synthetic, made from a photograph by srtoolbox")
            for number, band in enumerate(pipeline.bands, 1):
                target.set_band_description(number, f"{band.name} {band.title}")
                target.update_tags(number, wavelength=f"{band.wavelength:g}", wavelength_unit="nm")
        return memory.read()

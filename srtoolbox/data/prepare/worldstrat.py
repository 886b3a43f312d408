"""Puts the images of WorldStrat on common grids, in the layout ``worldstrat``.

Read, below the folder of the dataset::

    hr_dataset/<tile>/<tile>_ps.tiff             SPOT, 1.5 m, 4 bands (also hr_dataset/12bit/…)
    lr_dataset/<tile>/L2A/<tile>-<n>-L2A_data.tiff     Sentinel-2, 10 m, 12 bands, several days
    lr_dataset/<tile>/L2A/<tile>-<n>-CLM.tiff    cloud mask, 0 where it is clear; optional
    stratified_train_val_test_split.csv          columns ``tile`` and ``split``

The sizes are not multiples of each other, and the frames of a tile differ in size. Written, for
each split::

    <split>/HR_x4/<tile>.tif                     SPOT, uint16, reduced to 10 m / scale
    <split>/LR/<tile>/01.tif …                   Sentinel-2, uint16, reflectance × 10000
    <split>/QM/<tile>/01.png …                   255 where the frame is clear

The LR grid has the bounds of the HR image and the size of the first frame. Images are moved to the
grids by GDAL's cubic warp; the shifts between the frames' contents, below a pixel, remain.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srtoolbox.data.prepare.generate import encoded, generate, plain_tiff
from srtoolbox.errors import UserError
from srtoolbox.utils.console import Progress

_SPLITS = ("train", "val", "test")
_TABLE = "stratified_train_val_test_split.csv"
_PER_REFLECTANCE = 10000


@dataclass(frozen=True)
class _Tile:
    """The files of a tile: HR, and each frame with its cloud mask, if it has one."""

    hr: Path
    frames: tuple[tuple[Path, Path | None], ...]


@dataclass(frozen=True)
class _Grid:
    """Size and place of pixels."""

    height: int
    width: int
    crs: Any
    bounds: tuple[float, float, float, float]

    def finer(self, scale: int) -> _Grid:
        return _Grid(scale * self.height, scale * self.width, self.crs, self.bounds)


def convert_worldstrat(
    source: Path,
    out: Path,
    *,
    scale: int = 4,
    progress: Progress = lambda done, total: None,
) -> int:
    """Writes the bursts of all tiles that are there; continues after an interruption.

    Args:
        source: Folder of the dataset; tiles that are not unpacked are left out.
        out: Folder for the bursts.
        scale: Size of an HR image divided by that of a frame.
        progress: Called with the number of finished tiles and the number of all tiles of a split.

    Returns:
        The number of bursts written, without those that existed.

    Raises:
        UserError: if rasterio is missing, the table of splits is missing or names no tile that is
            there, a file has no place on a map or cannot be read, or ``out`` contains a dataset
            made with other options.
    """
    try:
        import rasterio  # noqa: F401, optional
    except ImportError as error:
        raise UserError(
            'worldstrat: its GeoTIFF files need rasterio; pip install "srtoolbox[geo]"'
        ) from error
    splits = _read_table(source / _TABLE)
    tiles = {tile: found for tile in splits if (found := _find(source, tile)) is not None}
    if not tiles:
        raise UserError(
            f"{source}: no tile of {_TABLE} has hr_dataset/<tile>/<tile>_ps.tiff and "
            "lr_dataset/<tile>/L2A/<tile>-<n>-L2A_data.tiff; unpack the archives here"
        )

    def make(key: str, path: Path) -> dict[str, bytes]:
        return _burst(key, tiles[key], scale)

    made = 0
    for split in _SPLITS:
        chosen = [Path(f"{tile}.tiff") for tile in tiles if splits[tile] == split]
        if chosen:
            options, last = {"level": "L2A", "white": _PER_REFLECTANCE}, f"HR_x{scale}"
            where = (chosen, out / split, "worldstrat.json")
            made += generate(*where, options, last, make, progress, suffix=".tif")
    return made


def _burst(key: str, tile: _Tile, scale: int) -> dict[str, bytes]:
    """Returns the files of a burst by their paths; the HR image is the last."""
    with _opened(tile.frames[0][0]) as first:
        height, width = first.shape
    with _opened(tile.hr) as hr:
        grid = _Grid(height, width, hr.crs, tuple(hr.bounds))
    files = {}
    for number, (frame, clouds) in enumerate(tile.frames, 1):
        pixels = _moved(frame, grid)
        if pixels.dtype.kind == "f":
            pixels = _PER_REFLECTANCE * pixels
        files[f"LR/{key}/{number:02d}.tif"] = plain_tiff(_as_uint16(pixels))
        clear = np.full((height, width), 255, np.uint8)
        if clouds is not None:
            clear[_moved(clouds, grid, nearest=True)[0] != 0] = 0
        files[f"QM/{key}/{number:02d}.png"] = encoded(clear, "png")
    hr_pixels = _as_uint16(_moved(tile.hr, grid.finer(scale)))
    return {**files, f"HR_x{scale}/{key}.tif": plain_tiff(hr_pixels)}


def _moved(path: Path, grid: _Grid, nearest: bool = False) -> np.ndarray:
    """Reads an image (C, H, W) on a grid: float64, or as stored with ``nearest``."""
    from rasterio.transform import from_bounds
    from rasterio.warp import Resampling, reproject

    with _opened(path) as image:
        stored = image.read()
        out = np.zeros((image.count, grid.height, grid.width), stored.dtype if nearest else float)
        reproject(
            stored if nearest else stored.astype(float),
            out,
            src_transform=image.transform,
            src_crs=image.crs,
            dst_transform=from_bounds(*grid.bounds, grid.width, grid.height),
            dst_crs=grid.crs,
            resampling=Resampling.nearest if nearest else Resampling.cubic,
        )
    return out if nearest or stored.dtype.kind == "f" else np.rint(out).astype(np.int64)


def _as_uint16(values: np.ndarray) -> np.ndarray:
    return np.floor(np.nan_to_num(values) + 0.5).clip(0, 65535).astype(np.uint16)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens an image that has a place on a map.

    Raises:
        UserError: if it cannot be read or has no place.
    """
    import rasterio

    try:
        with rasterio.open(path) as image:
            if image.crs is None:
                raise UserError(f"{path}: no coordinate system, so that it cannot be placed")
            yield image
    except rasterio.RasterioIOError as error:
        raise UserError(f"{path}: cannot be read ({error}); unpack the archive again") from error


def _find(source: Path, tile: str) -> _Tile | None:
    """Returns the files of a tile; None if it is not there."""
    folders = (source / "hr_dataset" / tile, source / "hr_dataset" / "12bit" / tile)
    hr = next((f / f"{tile}_ps.tiff" for f in folders if (f / f"{tile}_ps.tiff").is_file()), None)
    folder = source / "lr_dataset" / tile / "L2A"
    numbers = []
    for path in folder.glob("*-L2A_data.tiff"):
        number = path.name.removeprefix(f"{tile}-").removesuffix("-L2A_data.tiff")
        if number.isdecimal():
            numbers.append(int(number))
    if hr is None or not numbers:
        return None
    frames = []
    for number in sorted(numbers):
        clouds = folder / f"{tile}-{number}-CLM.tiff"
        image = folder / f"{tile}-{number}-L2A_data.tiff"
        frames.append((image, clouds if clouds.is_file() else None))
    return _Tile(hr, tuple(frames))


def _read_table(path: Path) -> dict[str, str]:
    """Returns the split of each tile.

    Raises:
        UserError: if the table cannot be read, or a tile is no name of a folder.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); it comes with the dataset") from error
    splits = {}
    for line, row in enumerate(rows, 2):
        tile, split = row.get("tile"), row.get("split")
        if not tile or split not in _SPLITS:
            raise UserError(
                f"{path}, line {line}: expected columns tile and split ({', '.join(_SPLITS)}), got "
                f"{tile!r} and {split!r}"
            )
        if "/" in tile or "\\" in tile or tile.startswith("."):
            raise UserError(f"{path}, line {line}: tile {tile!r} is no name of a folder")
        splits[tile] = split
    return splits

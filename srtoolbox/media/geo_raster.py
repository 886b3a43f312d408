"""Opens GeoTIFF files, and copies what they state to the enlarged ones."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srtoolbox.data.files.raster import CACHE, has_rasterio, reading
from srtoolbox.data.files.raster import opened as open_raster
from srtoolbox.data.files.reader import read_head
from srtoolbox.errors import UserError
from srtoolbox.media.metadata import directory_start, read_directory

_GEO_TAGS = (33550, 33922, 34264, 34735, 42112, 42113, 50844)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BLOCK = 256  # side of the tiles of written files


@dataclass(frozen=True)
class GeoInfo:
    """The header of a raster.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        num_band: Number of bands, alpha included.
        dtype: Type of the values, as numpy names it.
        nodata: Value of missing pixels; None: no such value.
        alpha_band: Number (from 1) of the band that is transparency; None: there is none.
        crs: Coordinate system, as text; None: not known.
        bounds: Left, bottom, right and top in the coordinate system.
        descriptions: Names of the bands; None where a band has none.
    """

    width: int
    height: int
    num_band: int
    dtype: str
    nodata: float | None
    alpha_band: int | None
    crs: str | None
    bounds: tuple[float, float, float, float]
    descriptions: tuple[str | None, ...]


def is_geotiff(path: Path) -> bool:
    """Returns whether a TIFF file has a place on a map, or a value of missing pixels.

    It reads the first directory only, and needs no rasterio.

    Raises:
        UserError: if the path is no regular file that can be read.
    """
    if read_head(path)[:4] not in _TIFF:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            order, start, big = directory_start(data[:16])
        except ValueError:
            return False
        entries = read_directory(data, order, start, big)  # type: ignore[arg-type]
    return any(entry.tag in _GEO_TAGS for entry in entries)


def geo_info(path: Path) -> GeoInfo:
    """Returns what the header of a raster states.

    Raises:
        UserError: if rasterio is missing, or the file cannot be read.
    """
    with opened(path) as source:
        alpha = _alpha_band(source)
        crs = None if source.crs is None else source.crs.to_string()
        return GeoInfo(
            source.width,
            source.height,
            source.count,
            _dtype(path, source),
            source.nodata,
            alpha,
            crs,
            tuple(source.bounds),
            tuple(source.descriptions),
        )


@dataclass(frozen=True)
class Raster:
    """An open raster, and how its values are understood.

    Args:
        path: The file, for messages.
        source: rasterio's dataset.
        bands: Numbers of the bands to transform.
        alpha: Number of the alpha band, if any.
        dtype: Type of the values.
        nodata: Value of missing pixels in the output, if any.
        marker: A value that marks missing pixels in the input besides its own mask, if any.
        low: Value that becomes 0.
        high: Value that becomes 1.
    """

    path: Path
    source: Any
    bands: list[int]
    alpha: int | None
    dtype: str
    nodata: float | None
    marker: float | None
    low: float = 0.0
    high: float = 1.0

    def read(self, where: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns values (C, h, w) and which are known (C, h, w) of a window."""
        with reading(self.path):
            values = self.source.read(self.bands, window=where)
            known = self.source.read_masks(self.bands, window=where) > 0
        if self.marker is not None:
            known &= values != self.marker
        if values.dtype.kind == "f":
            known &= np.isfinite(values)
        return values, known


def raster_of(path: Path, source: Any, bands: Sequence[int] | None, nodata: float | str) -> Raster:
    dtype, alpha = _dtype(path, source), _alpha_band(source)
    usable = [number for number in range(1, source.count + 1) if number != alpha]
    chosen = usable if bands is None else list(bands)
    if not chosen or any(number not in usable for number in chosen):
        raise UserError(
            f"{path}: bands {', '.join(map(str, chosen)) or 'none'}; expected numbers of "
            f"{', '.join(map(str, usable))}"
        )
    for number in chosen:
        if source.colorinterp[number - 1].name == "palette":
            raise UserError(
                f"{path}: band {number} has a colour table; classes cannot be enlarged by a "
                "network, convert it to RGB first (gdal_translate -expand rgb)"
            )
    own = source.nodata
    if nodata == "keep":
        return Raster(path, source, chosen, alpha, dtype, own, None)
    value = float(nodata)
    if not _fits(value, dtype):
        raise UserError(f"{path}: nodata {value:g} is no value of {dtype}")
    return Raster(path, source, chosen, alpha, dtype, value, value if own is None else None)


def _fits(value: float, dtype: str) -> bool:
    if np.dtype(dtype).kind == "f":
        return True
    limits = np.iinfo(dtype)
    return math.isfinite(value) and value == int(value) and limits.min <= value <= limits.max


def _dtype(path: Path, source: Any) -> str:
    """Returns the type of all bands."""
    types = set(source.dtypes)
    dtype = types.pop()
    if types or np.dtype(dtype).kind not in "uif":
        raise UserError(
            f"{path}: bands of type {', '.join(source.dtypes)}; expected one type of integers or "
            "floats, convert it first"
        )
    return dtype


def _alpha_band(source: Any) -> int | None:
    names = [colour.name for colour in source.colorinterp]
    return names.index("alpha") + 1 if "alpha" in names else None


def windows_of(job: Raster, side: int) -> list[Any]:
    from rasterio.windows import Window

    height, width = job.source.height, job.source.width
    return [
        Window(left, top, min(side, width - left), min(side, height - top))  # type: ignore[call-arg]
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def profile_of(job: Raster, scale: int, count: int) -> dict[str, Any]:
    """Returns the options of the written file."""
    from rasterio.transform import Affine

    source = job.source
    width, height = scale * source.width, scale * source.height
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": count,
        "dtype": job.dtype,
        "nodata": job.nodata,
        "compress": "deflate",
        "predictor": 3 if np.dtype(job.dtype).kind == "f" else 2,
        "interleave": source.profile.get("interleave", "pixel"),
        "BIGTIFF": "IF_SAFER",
    }
    if min(width, height) >= _BLOCK:
        profile |= {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK}
    if source.gcps[0]:
        return profile  # they replace coordinate system and transform
    profile["crs"] = source.crs
    if source.transform != Affine.identity():
        a, b, c, d, e, f = source.transform[:6]
        profile["transform"] = Affine(a / scale, b / scale, c, d / scale, e / scale, f)
    return profile


def describe(job: Raster, target: Any, scale: int) -> None:
    """Copies what a raster states about itself and its bands."""
    from rasterio.control import GroundControlPoint

    source = job.source
    points, crs = source.gcps
    if points:
        scaled = [
            GroundControlPoint(p.row * scale, p.col * scale, p.x, p.y, p.z, p.id, p.info)
            for p in points
        ]
        target.gcps = scaled, crs
    if source.rpcs is not None:
        target.rpcs = _scaled_rpcs(source.rpcs, scale)
    # The statistics of the input are not those of the output.
    tags = {k: v for k, v in source.tags().items() if k != "AREA_OR_POINT"}
    target.update_tags(**tags, AREA_OR_POINT=source.tags().get("AREA_OR_POINT", "Area"))
    numbers = [*job.bands, *([] if job.alpha is None else [job.alpha])]
    for place, number in enumerate(numbers, 1):
        tags = {k: v for k, v in source.tags(number).items() if not k.startswith("STATISTICS_")}
        target.update_tags(place, **tags)
        if source.descriptions[number - 1]:
            target.set_band_description(place, source.descriptions[number - 1])
        if source.units[number - 1]:
            target.set_band_unit(place, source.units[number - 1])
    target.scales = [source.scales[number - 1] for number in numbers]
    target.offsets = [source.offsets[number - 1] for number in numbers]
    target.colorinterp = [source.colorinterp[number - 1] for number in numbers]


def _scaled_rpcs(rpcs: Any, scale: int) -> Any:
    """Returns the rational polynomials of the enlarged raster; they count from pixel centres."""
    from rasterio.rpc import RPC

    values = rpcs.to_dict()
    for axis in ("line", "samp"):
        values[f"{axis}_off"] = (values[f"{axis}_off"] + 0.5) * scale - 0.5
        values[f"{axis}_scale"] = values[f"{axis}_scale"] * scale
    return RPC(**values)


def copy_as_cog(plain: Path, target: Path) -> None:
    import rasterio
    import rasterio.shutil

    with rasterio.Env(GDAL_CACHEMAX=CACHE):
        rasterio.shutil.copy(
            plain.absolute(),
            target.absolute(),
            driver="COG",
            COMPRESS="DEFLATE",
            PREDICTOR="YES",
            BIGTIFF="IF_SAFER",
        )


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens a raster.

    Raises:
        UserError: if rasterio is missing, or the file cannot be opened.
    """
    read_head(path)
    if not has_rasterio():
        raise UserError(f"{path}: a GeoTIFF needs rasterio; pip install srtoolbox[geo]")
    with open_raster(path, "GTiff") as source:
        with reading(path):
            _ = source.crs, source.gcps  # reads what may be damaged
        yield source

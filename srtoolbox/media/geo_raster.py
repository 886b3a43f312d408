"""Opens GeoTIFF files, and copies what they state to the enlarged ones."""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srtoolbox.data.files.other_formats import JPEG_2000
from srtoolbox.data.files.raster import CACHE, has_rasterio, reading
from srtoolbox.data.files.raster import opened as open_raster
from srtoolbox.data.files.reader import read_head
from srtoolbox.errors import UserError
from srtoolbox.media.metadata import Entry, directory_start, read_directory

_GEO_TAGS = (33550, 33922, 34264, 34735, 42112, 42113, 50844)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BLOCK = 256  # side of the tiles of written files
_BITS, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 258, 262, 277, 339
_GREY, _UNSIGNED, _SIGNED = 1, 1, 2
_GEO_JP2 = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")  # UUID of a box with a GeoTIFF


Range = tuple[float, float]
"""The values that become 0 and 1."""


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


def is_map(path: Path) -> bool:
    """Returns whether a TIFF or JPEG 2000 file is read by windows, as a raster of bands.

    It is if it has a place on a map or a value of missing pixels; or bands that are no colours,
    signed integers, or a depth that no picture has. It reads headers only, and needs no rasterio.

    Raises:
        UserError: if the path is no regular file that can be read.
    """
    head = read_head(path)
    if head.startswith(JPEG_2000):
        return _is_jp2_map(path)
    return head[:4] in _TIFF and (is_geotiff(path) or _has_bands(path))


def _has_bands(path: Path) -> bool:
    """Returns whether a TIFF file has bands or values that a picture does not have."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            order, start, big = directory_start(data[:16])
        except ValueError:
            return False
        entries = read_directory(data, order, start, big)  # type: ignore[arg-type]
    tags = {entry.tag: _numbers(entry, order) for entry in entries}
    samples, grey = tags.get(_SAMPLES, [1])[0], tags.get(_PHOTOMETRIC, [0])[0] == _GREY
    kinds = set(tags.get(_SAMPLE_FORMAT, [_UNSIGNED]))
    deep = kinds == {_UNSIGNED} and max(tags.get(_BITS, [1])) > 16
    return samples > 4 or (grey and samples > 2) or _SIGNED in kinds or deep


def _numbers(entry: Entry, order: str) -> list[int]:
    """Returns the values of an entry of 16-bit integers; otherwise [0]."""
    if entry.kind != 3 or isinstance(entry.content, list) or not entry.count:
        return [0]
    return list(struct.unpack(f"{order}{entry.count}H", entry.content))


def _is_jp2_map(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(65536)
    if _GEO_JP2 in head or b"gml.data" in head:
        return True
    start = head.find(JPEG_2000[1])  # the code stream, and its sizes
    sizes = head[start + 4 : start + 4 + 38 + 3 * 4]
    if start < 0 or len(sizes) < 39:
        return False
    channels = int.from_bytes(sizes[36:38], "big")
    depths = {sizes[place] for place in range(38, min(len(sizes), 38 + 3 * channels), 3)}
    return channels not in (1, 3) or not depths <= {7, 15}


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
        low: Value that becomes 0; with a range for each band an array (C, 1, 1).
        high: Value that becomes 1; as ``low``.
        num_out: Bands of the result, without alpha; None: as many as ``bands``.
    """

    path: Path
    source: Any
    bands: list[int]
    alpha: int | None
    dtype: str
    nodata: float | None
    marker: float | None
    low: Any = 0.0
    high: Any = 1.0
    num_out: int | None = None

    @property
    def count(self) -> int:
        """Bands of the result, without alpha."""
        return len(self.bands) if self.num_out is None else self.num_out

    @property
    def same_bands(self) -> bool:
        """Whether a band of the result is a band of the input."""
        return self.count == len(self.bands)

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
    bands: list[int | None] = list(job.bands) if job.same_bands else [None] * job.count
    numbers = [*bands, *([] if job.alpha is None else [job.alpha])]
    for place, number in enumerate(numbers, 1):
        if number is None:
            continue
        tags = {k: v for k, v in source.tags(number).items() if not k.startswith("STATISTICS_")}
        target.update_tags(place, **tags)
        if source.descriptions[number - 1]:
            target.set_band_description(place, source.descriptions[number - 1])
        if source.units[number - 1]:
            target.set_band_unit(place, source.units[number - 1])
    own = [number or job.bands[0] for number in numbers]  # of the first band, if they are not known
    target.scales = [source.scales[number - 1] for number in own]
    target.offsets = [source.offsets[number - 1] for number in own]
    if job.same_bands:
        target.colorinterp = [source.colorinterp[number - 1] for number in own]
    elif job.alpha is not None or job.count == 3:
        target.colorinterp = _new_colours(job)


def _new_colours(job: Raster) -> list[Any]:
    """Returns what the bands of a result show that are not those of the input."""
    from rasterio.enums import ColorInterp

    rgb = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    colours = rgb if job.count == 3 else [ColorInterp.gray] * job.count
    return colours + ([] if job.alpha is None else [ColorInterp.alpha])


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
    driver = "JP2OpenJPEG" if read_head(path).startswith(JPEG_2000) else "GTiff"
    if not has_rasterio():
        raise UserError(
            f"{path}: a GeoTIFF, or a file of several bands, needs rasterio; "
            'pip install "srtoolbox[geo]"'
        )
    with open_raster(path, driver) as source:
        with reading(path):
            _ = source.crs, source.gcps  # reads what may be damaged
        yield source

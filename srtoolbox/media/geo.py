"""Enlarges GeoTIFF files by windows: bands of any type, places on the map, and missing pixels.

Memory does not grow with the raster. Each window is read with a halo around it, so that the result
equals that of the whole raster if the halo covers what a pixel depends on.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from srtoolbox.data.files.reader import read_head
from srtoolbox.errors import RunError, UserError
from srtoolbox.media.metadata import directory_start, read_directory
from srtoolbox.media.output import replacing
from srtoolbox.media.picture import Transform, bicubic

FILL_RADIUS = 16
"""Missing pixels up to this distance from known ones are filled from their neighbours."""

_GEO_TAGS = (33550, 33922, 34264, 34735, 42112, 42113, 50844)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BLOCK = 256  # side of the tiles of written files
_CACHE = 64  # MB that GDAL may use for blocks
_BINS = 65536
_RANGE = re.compile(r"\s*(-?[\d.]+(?:e[-+]?\d+)?)\s*,\s*(-?[\d.]+(?:e[-+]?\d+)?)\s*", re.IGNORECASE)
_PERCENTILES = re.compile(r"\s*p(\d+(?:\.\d+)?)-p(\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True)
class GeoInfo:
    """What the header of a raster states.

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


@dataclass(frozen=True)
class GeoResult:
    """What ``upscale_geotiff`` did.

    Args:
        value_range: Values that the transformation saw as 0 and 1.
        windows: Number of windows.
        notes: What the output does not hold as the input has it, one sentence each.
    """

    value_range: tuple[float, float]
    windows: int
    notes: tuple[str, ...] = ()


def is_geotiff(path: Path) -> bool:
    """Returns whether a TIFF file has a place on a map, or a value of missing pixels.

    It reads the first directory only, and needs no rasterio.

    Raises:
        UserError: if the path is no regular file that can be read.
    """
    if read_head(path)[:4] not in _TIFF:
        return False
    import mmap

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
    with _opened(path) as source:
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


def upscale_geotiff(
    source_path: Path,
    target_path: Path,
    transform: Transform,
    scale: int,
    *,
    bands: Sequence[int] | None = None,
    value_range: str = "auto",
    nodata: float | Literal["keep"] = "keep",
    window: int = 512,
    halo: int = 32,
    cog: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> GeoResult:
    """Enlarges a GeoTIFF file, completely or not at all.

    Kept: coordinate system, bounds, ground control points and rational polynomials, type, value of
    missing pixels, names, units, scales, offsets and colours of bands, and tags. An alpha band and
    a mask are enlarged without the transformation.

    Values become [0, 1] by one linear map for all bands, which keeps their relations. Values beyond
    the range are not lost: what exceeds it is enlarged bicubically and added again. Results are
    rounded and clipped to the type. Missing pixels, and floats that are not finite, are filled from
    their neighbours before the transformation, and are missing in the result too. A result that
    happens to equal the value of missing pixels is moved to the next value.

    Args:
        source_path: The raster.
        target_path: The file to write.
        transform: Turns float32 (C, h, w) in [0, 1] into (C, scale·h, scale·w), C the number of
            bands.
        scale: Factor of the size.
        bands: Numbers from 1 of the bands to use, without alpha; None: all.
        value_range: Values that become 0 and 1. ``auto``: 0 to 255 for uint8, 0 to 1 for floats
            within it, otherwise the smallest and the largest value of the file. ``MIN,MAX``:
            these. ``p2-p98``: these percentiles (any others too) of the values of the file.
        nodata: ``keep``, or the value of missing pixels in the output; in an input that states
            none, it marks missing pixels too.
        window: Side of a window in pixels of the input.
        halo: Pixels around a window that the transformation sees; at least its receptive field.
        cog: Write a cloud-optimised GeoTIFF, with overviews.
        progress: Called with the number of windows done and of all.

    Returns:
        The range, the number of windows, and notes.

    Raises:
        UserError: if rasterio is missing, the file cannot be read, or an option or the file's kind
            (complex numbers, a colour table) does not allow it.
        RunError: if the transformation returns another shape, or the file cannot be written.
    """
    if scale < 1 or window < 1 or halo < 0:
        raise UserError(
            f"scale {scale}, window {window}, halo {halo}: expected scale and window of at least "
            "1, halo of at least 0"
        )
    with _opened(source_path) as source:
        job = _job(source_path, source, bands, nodata)
        low, high = _value_range(job, value_range)
        job = replace(job, low=low, high=high)
        notes = []
        if np.dtype(job.dtype).itemsize > 4 or job.dtype in ("int32", "uint32"):
            notes.append(
                f"{job.dtype} values are computed with 24 bits: their error is up to "
                f"{(high - low) * 2.0**-24:.3g}"
            )
        with replacing(target_path) as temporary:
            plain = temporary.with_name(f"{temporary.name[:-4]}.plain.tmp") if cog else temporary
            try:
                count = _write(job, plain, transform, scale, window, halo, progress)
                if cog:
                    _copy_as_cog(plain, temporary)
            except _rasterio_errors() as error:
                raise RunError(f"{target_path}: cannot be written ({error})") from error
            finally:
                if cog:
                    plain.unlink(missing_ok=True)
    return GeoResult((low, high), count, tuple(notes))


@dataclass(frozen=True)
class _Job:
    """An open raster, and how its values are understood.

    Args:
        source: rasterio's dataset.
        bands: Numbers of the bands to transform.
        alpha: Number of the alpha band, if any.
        dtype: Type of the values.
        nodata: Value of missing pixels in the output, if any.
        marker: A value that marks missing pixels in the input besides its own mask, if any.
        low: Value that becomes 0.
        high: Value that becomes 1.
    """

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
        values = self.source.read(self.bands, window=where)
        known = self.source.read_masks(self.bands, window=where) > 0
        if self.marker is not None:
            known &= values != self.marker
        if values.dtype.kind == "f":
            known &= np.isfinite(values)
        return values, known


def _job(path: Path, source: Any, bands: Sequence[int] | None, nodata: float | str) -> _Job:
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
        return _Job(source, chosen, alpha, dtype, own, None)
    value = float(nodata)
    if not _fits(value, dtype):
        raise UserError(f"{path}: nodata {value:g} is no value of {dtype}")
    return _Job(source, chosen, alpha, dtype, value, value if own is None else None)


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


def _windows(job: _Job, side: int) -> list[Any]:
    from rasterio.windows import Window

    height, width = job.source.height, job.source.width
    return [
        Window(left, top, min(side, width - left), min(side, height - top))  # type: ignore[call-arg]
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def _value_range(job: _Job, text: str) -> tuple[float, float]:
    """Returns the values that become 0 and 1."""
    if match := _RANGE.fullmatch(text):
        low, high = map(float, match.groups())
        if low >= high:
            raise UserError(f"value range {text}: expected MIN,MAX with MIN below MAX")
        return low, high
    percentiles = _PERCENTILES.fullmatch(text)
    if percentiles is None and text != "auto":
        raise UserError(f"value range {text!r}; expected auto, MIN,MAX or p2-p98")
    if text == "auto" and job.dtype == "uint8":
        return 0.0, 255.0
    low, high = math.inf, -math.inf
    for where in _windows(job, 1024):
        values, known = job.read(where)
        if known.any():
            low = min(low, float(values[known].min()))
            high = max(high, float(values[known].max()))
    if low > high:
        return 0.0, 1.0  # nothing is known: nothing is computed
    if percentiles is None:
        is_unit = np.dtype(job.dtype).kind == "f" and low >= 0 and high <= 1
        return (0.0, 1.0) if is_unit else (low, max(high, low + 1))
    parts = [float(part) / 100 for part in percentiles.groups()]
    if not 0 <= parts[0] < parts[1] <= 1:
        raise UserError(f"value range {text}: expected percentiles p0 to p100, the smaller first")
    if high == low:
        return low, low + 1
    # Integers of up to 16 bits have one bin for each value.
    is_narrow = np.dtype(job.dtype).kind in "ui" and high - low < _BINS
    first, last = (low - 0.5, low - 0.5 + _BINS) if is_narrow else (low, high)
    counts = np.zeros(_BINS, np.int64)
    for where in _windows(job, 1024):
        values, known = job.read(where)
        counts += np.histogram(values[known], _BINS, (first, last))[0]
    total = np.cumsum(counts)
    bins = [int(np.searchsorted(total, max(1.0, part * total[-1]))) for part in parts]
    width = (last - first) / _BINS
    found = [first + (index + 0.5) * width for index in bins]
    return (found[0], found[1]) if found[1] > found[0] else (low, high)


def _write(
    job: _Job,
    path: Path,
    transform: Transform,
    scale: int,
    side: int,
    halo: int,
    progress: Callable[[int, int], None],
) -> int:
    """Writes the enlarged raster; returns the number of windows."""
    import rasterio
    from rasterio.enums import MaskFlags
    from rasterio.windows import Window

    masked = any(
        MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        for flags in job.source.mask_flag_enums
    )
    count = len(job.bands) + (job.alpha is not None)
    windows = _windows(job, side)
    options = {"GDAL_TIFF_INTERNAL_MASK": True, "GDAL_CACHEMAX": _CACHE}
    with (
        rasterio.Env(**options),
        rasterio.open(path.absolute(), "w", **_profile(job, scale, count)) as target,
    ):
        _describe(job, target, scale)
        for number, where in enumerate(windows, 1):
            values, known = _enlarged(job, where, transform, scale, halo)
            place = Window(*(scale * length for length in where.flatten()))  # type: ignore[arg-type]
            target.write(values, range(1, len(values) + 1), window=place)
            if job.alpha is not None:
                matte = job.source.read(job.alpha, window=where)
                target.write(_repeated(matte, scale), count, window=place)
            if masked:
                mask = _repeated(np.asarray(known.all(0, keepdims=True)), scale)
                target.write_mask(mask[0], window=place)
            progress(number, len(windows))
    return len(windows)


def _enlarged(
    job: _Job, where: Any, transform: Transform, scale: int, halo: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the enlarged values of a window, and which of its pixels are known."""
    from rasterio.windows import Window

    left, top, width, height = map(int, where.flatten())
    # Filling looks FILL_RADIUS further than the transformation.
    outer, inner = halo + FILL_RADIUS, halo
    rows = _around(top, height, outer, job.source.height)
    columns = _around(left, width, outer, job.source.width)
    wide = Window(columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0])  # type: ignore[call-arg]
    values, known = job.read(wide)
    scaled = (values.astype(np.float64) - job.low) / (job.high - job.low)
    scaled = np.where(known, scaled, 0).astype(np.float32)
    scaled = fill_near(scaled, known)
    near_rows = _around(top, height, inner, job.source.height)
    near_columns = _around(left, width, inner, job.source.width)
    cut = np.s_[
        :,
        near_rows[0] - rows[0] : near_rows[1] - rows[0],
        near_columns[0] - columns[0] : near_columns[1] - columns[0],
    ]
    scaled, known = np.ascontiguousarray(scaled[cut]), known[cut]
    seen = scaled.clip(0, 1)
    expected = (len(scaled), *(scale * length for length in scaled.shape[1:]))
    result = np.asarray(transform(seen), np.float64) if known.any() else np.zeros(expected)
    if result.shape != expected:
        raise RunError(f"the transformation returned {result.shape}; expected {expected}")
    beyond = scaled - seen
    if beyond.any():
        result = result + bicubic(beyond, expected[2], expected[1])
    y, x = top - near_rows[0], left - near_columns[0]
    result = result[:, scale * y : scale * (y + height), scale * x : scale * (x + width)]
    known = known[:, y : y + height, x : x + width]
    out = _as_stored(job, result * (job.high - job.low) + job.low)
    missing = ~_repeated(known, scale)
    if job.nodata is not None:
        out[missing] = np.array(job.nodata).astype(job.dtype)
    elif missing.any():  # a mask or NaN tells which are missing
        out[missing] = np.nan if out.dtype.kind == "f" else 0
    return out, known


def _as_stored(job: _Job, values: np.ndarray) -> np.ndarray:
    """Rounds and clips to the type; avoids the value of missing pixels."""
    dtype = np.dtype(job.dtype)
    if dtype.kind == "f":
        out = values.astype(dtype)
    else:
        limits = np.iinfo(dtype)
        rounded = np.floor(values + 0.5)
        # The largest 64-bit integer is no float; the float above it would overflow.
        below = rounded.clip(limits.min, np.nextafter(float(limits.max), 0))
        out = np.where(rounded >= limits.max, limits.max, below.astype(dtype)).astype(dtype)
    if job.nodata is None or not math.isfinite(job.nodata):
        return out
    nodata = np.array(job.nodata).astype(dtype)
    if dtype.kind == "f":
        other = np.nextafter(nodata, dtype.type(0 if nodata else 1))
    else:
        other = nodata + dtype.type(1) if nodata < limits.max else nodata - dtype.type(1)
    return np.where(out == nodata, other, out).astype(dtype)


def fill_near(values: np.ndarray, known: np.ndarray, radius: int = FILL_RADIUS) -> np.ndarray:
    """Fills unknown pixels by the mean of their 8 neighbours, ``radius`` times, the nearest first.

    What is further away becomes 0.5. A result depends on pixels within ``radius`` only, so that it
    is the same in every window.

    Args:
        values: (C, H, W) float32.
        known: (C, H, W), True for pixels that are kept.
        radius: Largest distance of a pixel that is filled.
    """
    if known.all():
        return values
    values, known = values * known, known.copy()
    for _ in range(radius):
        sums, counts = _neighbours(values), _neighbours(known.astype(np.float32))
        fresh = ~known & (counts > 0)
        if not fresh.any():
            break
        values[fresh] = sums[fresh] / counts[fresh]
        known |= fresh
    values[~known] = 0.5
    return values


def _neighbours(planes: np.ndarray) -> np.ndarray:
    """Returns the sums of 3 × 3 pixels, always added in the same order."""
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)))
    lines = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return lines[:, :, :-2] + lines[:, :, 1:-1] + lines[:, :, 2:]


def _around(start: int, length: int, margin: int, size: int) -> tuple[int, int]:
    return max(0, start - margin), min(size, start + length + margin)


def _repeated(planes: np.ndarray, scale: int) -> np.ndarray:
    return planes.repeat(scale, axis=-1).repeat(scale, axis=-2)


def _profile(job: _Job, scale: int, count: int) -> dict[str, Any]:
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


def _describe(job: _Job, target: Any, scale: int) -> None:
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


def _copy_as_cog(plain: Path, target: Path) -> None:
    import rasterio
    import rasterio.shutil

    with rasterio.Env(GDAL_CACHEMAX=_CACHE):
        rasterio.shutil.copy(
            plain.absolute(),
            target.absolute(),
            driver="COG",
            COMPRESS="DEFLATE",
            PREDICTOR="YES",
            BIGTIFF="IF_SAFER",
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens a raster.

    Raises:
        UserError: if rasterio is missing, or the file cannot be read, now or later.
    """
    read_head(path)
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
    except ImportError as error:
        raise UserError(f"{path}: a GeoTIFF needs rasterio; pip install srtoolbox[geo]") from error
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # it also raises what it logs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with (
                rasterio.Env(GDAL_CACHEMAX=_CACHE),
                rasterio.open(path.absolute(), driver="GTiff") as source,
            ):
                yield source
        except RasterioIOError as error:
            raise UserError(
                f"{path}: truncated or broken ({error}); replace or remove it"
            ) from error


def _rasterio_errors() -> type[Exception]:
    from rasterio.errors import RasterioError

    return RasterioError

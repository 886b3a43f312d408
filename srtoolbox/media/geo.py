"""Enlarges GeoTIFF files by windows: bands of any type, places on the map, and missing pixels.

Memory does not grow with the raster. Each window is read with a halo around it, so that the result
equals that of the whole raster if the halo covers what a pixel depends on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from srtoolbox.data.files.raster import CACHE, rasterio_errors, reading
from srtoolbox.data.transforms.missing import FILL_RADIUS, fill_near
from srtoolbox.errors import RunError, UserError
from srtoolbox.media.geo_raster import (
    GeoInfo,
    Range,
    Raster,
    copy_as_cog,
    describe,
    geo_info,
    is_geotiff,
    is_map,
    opened,
    profile_of,
    raster_of,
    windows_of,
)
from srtoolbox.media.output import replacing
from srtoolbox.media.picture import Transform, bicubic
from srtoolbox.media.value_range import (
    EACH,
    check_value_range,
    stated_percentiles,
    stated_range,
)

__all__ = [
    "FILL_RADIUS",
    "GeoInfo",
    "GeoResult",
    "fill_near",
    "geo_info",
    "is_geotiff",
    "is_map",
    "upscale_geotiff",
]

_BINS = 65536


@dataclass(frozen=True)
class GeoResult:
    """The result of ``upscale_geotiff``.

    Args:
        value_range: Values that the transformation saw as 0 and 1; of several ranges the smallest
            and the largest value.
        windows: Number of windows.
        notes: What the output does not hold as the input has it, one sentence each.
    """

    value_range: tuple[float, float]
    windows: int
    notes: tuple[str, ...] = ()


def upscale_geotiff(
    source_path: Path,
    target_path: Path,
    transform: Transform,
    scale: int,
    *,
    bands: Sequence[int] | None = None,
    value_range: str | Sequence[Range] = "auto",
    num_out: int | None = None,
    nodata: float | Literal["keep"] = "keep",
    window: int = 512,
    halo: int = 32,
    cog: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> GeoResult:
    """Enlarges a GeoTIFF or JPEG 2000 file, completely or not at all; the result is a GeoTIFF.

    Kept: coordinate system, bounds, ground control points and rational polynomials, type, value of
    missing pixels, names, units, scales, offsets and colours of bands, and tags. An alpha band and
    a mask are enlarged without the transformation.

    Values become [0, 1] by one linear map for all bands, which keeps their relations, or by one for
    each band. A result with another number of bands has no names, units and tags of bands, and
    scale and offset of the first band; what exceeds the range is clipped then. Values beyond
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
            ``MIN,MAX;MIN,MAX;…``, or pairs of numbers: a range for each band. ``each:auto``,
            ``each:p2-p98``: a range for each band, found in its own values.
        num_out: Bands that the transformation returns; None: as many as it gets.
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
    with opened(source_path) as source:
        job = raster_of(source_path, source, bands, nodata)
        job = replace(job, num_out=num_out)
        ranges = _ranges(job, value_range)
        low, high = min(pair[0] for pair in ranges), max(pair[1] for pair in ranges)
        if len(set(ranges)) == 1:
            job = replace(job, low=ranges[0][0], high=ranges[0][1])
        else:
            job = _with_ranges(job, ranges)
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
                    copy_as_cog(plain, temporary)
            except rasterio_errors() as error:
                raise RunError(f"{target_path}: cannot be written ({error})") from error
            finally:
                if cog:
                    plain.unlink(missing_ok=True)
    return GeoResult((low, high), count, tuple(notes))


def _ranges(job: Raster, value_range: str | Sequence[Range]) -> list[Range]:
    """Returns the values that become 0 and 1: one pair, or one for each band."""
    if isinstance(value_range, str):
        check_value_range(value_range)
    if not isinstance(value_range, str):
        pairs = [(float(low), float(high)) for low, high in value_range]
    elif value_range.startswith(EACH):
        text = value_range.removeprefix(EACH)
        pairs = [_value_range(replace(job, bands=[band]), text) for band in job.bands]
    else:
        pairs = [_value_range(job, text) for text in value_range.split(";")]
    if len(pairs) not in (1, len(job.bands)):
        raise UserError(
            f"value range: {len(pairs)} ranges for {len(job.bands)} bands; give one, or one for "
            "each band"
        )
    if any(low >= high for low, high in pairs):
        raise UserError(f"value range {value_range}: expected MIN,MAX with MIN below MAX")
    return pairs


def _with_ranges(job: Raster, ranges: Sequence[Range]) -> Raster:
    if not job.same_bands:
        raise UserError(
            f"value range: {len(job.bands)} ranges, but the network turns {len(job.bands)} bands "
            f"into {job.count}, which have no ranges of their own; give one MIN,MAX"
        )
    values = np.asarray(ranges, np.float64)[:, :, None, None]
    return replace(job, low=values[:, 0], high=values[:, 1])


def _value_range(job: Raster, text: str) -> Range:
    """Returns the values that become 0 and 1."""
    if stated := stated_range(text):
        return stated
    percentiles = stated_percentiles(text)
    if text == "auto" and job.dtype == "uint8":
        return 0.0, 255.0
    low, high = math.inf, -math.inf
    for where in windows_of(job, 1024):
        values, known = job.read(where)
        if known.any():
            low = min(low, float(values[known].min()))
            high = max(high, float(values[known].max()))
    if low > high:
        return 0.0, 1.0  # nothing is known: nothing is computed
    if percentiles is None:
        is_unit = np.dtype(job.dtype).kind == "f" and low >= 0 and high <= 1
        return (0.0, 1.0) if is_unit else (low, high if high > low else low + 1)
    parts = [part / 100 for part in percentiles]
    if high == low:
        return low, low + 1
    # Integers of up to 16 bits have one bin for each value.
    is_narrow = np.dtype(job.dtype).kind in "ui" and high - low < _BINS
    first, last = (low - 0.5, low - 0.5 + _BINS) if is_narrow else (low, high)
    counts = np.zeros(_BINS, np.int64)
    for where in windows_of(job, 1024):
        values, known = job.read(where)
        counts += np.histogram(values[known], _BINS, (first, last))[0]
    total = np.cumsum(counts)
    bins = [int(np.searchsorted(total, max(1.0, part * total[-1]))) for part in parts]
    width = (last - first) / _BINS
    found = [first + (index + 0.5) * width for index in bins]
    return (found[0], found[1]) if found[1] > found[0] else (low, high)


def _write(
    job: Raster,
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
    count = job.count + (job.alpha is not None)
    windows = windows_of(job, side)
    options = {"GDAL_TIFF_INTERNAL_MASK": True, "GDAL_CACHEMAX": CACHE}
    with (
        rasterio.Env(**options),
        rasterio.open(path.absolute(), "w", **profile_of(job, scale, count)) as target,
    ):
        describe(job, target, scale)
        for number, where in enumerate(windows, 1):
            values, known = _enlarged(job, where, transform, scale, halo)
            place = Window(*(scale * length for length in where.flatten()))  # type: ignore[arg-type]
            target.write(values, range(1, len(values) + 1), window=place)
            if job.alpha is not None:
                with reading(job.path):
                    matte = job.source.read(job.alpha, window=where)
                target.write(_repeated(matte, scale), count, window=place)
            if masked:
                mask = _repeated(np.asarray(known.all(0, keepdims=True)), scale)
                target.write_mask(mask[0], window=place)
            progress(number, len(windows))
    return len(windows)


def _enlarged(
    job: Raster, where: Any, transform: Transform, scale: int, halo: int
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
    expected = (job.count, *(scale * length for length in scaled.shape[1:]))
    result = np.asarray(transform(seen), np.float64) if known.any() else np.zeros(expected)
    if result.shape != expected:
        raise RunError(f"the transformation returned {result.shape}; expected {expected}")
    beyond = scaled - seen
    if job.same_bands and beyond.any():
        result = result + bicubic(beyond, expected[2], expected[1])
    y, x = top - near_rows[0], left - near_columns[0]
    result = result[:, scale * y : scale * (y + height), scale * x : scale * (x + width)]
    known = known[:, y : y + height, x : x + width]
    out = _as_stored(job, result * (job.high - job.low) + job.low)
    shown = known if job.same_bands else known.all(0, keepdims=True).repeat(job.count, axis=0)
    missing = ~_repeated(shown, scale)
    if job.nodata is not None:
        out[missing] = np.array(job.nodata).astype(job.dtype)
    elif missing.any():  # a mask or NaN tells which are missing
        out[missing] = np.nan if out.dtype.kind == "f" else 0
    return out, known


def _as_stored(job: Raster, values: np.ndarray) -> np.ndarray:
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


def _around(start: int, length: int, margin: int, size: int) -> tuple[int, int]:
    return max(0, start - margin), min(size, start + length + margin)


def _repeated(planes: np.ndarray, scale: int) -> np.ndarray:
    return planes.repeat(scale, axis=-1).repeat(scale, axis=-2)

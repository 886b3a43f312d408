"""Upscales maps: GeoTIFF files of any size and number of bands."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from srtoolbox.archs.base import arch_info
from srtoolbox.engine.weights.pixels import PixelFacts
from srtoolbox.errors import UserError
from srtoolbox.media.geo import GeoInfo, Range, geo_info, upscale_geotiff
from srtoolbox.upscaling.options import UpscaleOptions
from srtoolbox.upscaling.result import Result, result_size
from srtoolbox.upscaling.upscaler import Upscaler
from srtoolbox.utils.console import Progress

_BICUBIC = 4
"""Pixels around a window on which bicubic resizing down and up again depends."""


def upscale_map(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    options: UpscaleOptions,
    on_progress: Progress | None = None,
) -> Result:
    """Writes an enlarged map with the coordinate system, bounds, type and tags of its source.

    A network gets as many bands as it takes. A network for RGB also gets a single band, three
    times. Other numbers of bands are enlarged one by one, each as a grey image. Bands and range of
    the values are those of the network's training, if its weight file states them and the options
    do not.

    Args:
        upscaler: The networks. Multi-frame networks see the map as often as they need frames.
        source: The GeoTIFF or JPEG 2000 file.
        target: The file to write.
        options: Bands, range of the values, missing pixels, windows and halo.
        on_progress: Called with the number of windows done and of all.

    Raises:
        UserError: if rasterio is missing, the file cannot be read, the bands do not fit the
            network, or the size would not be a multiple of that of the source.
        RunError: if memory does not suffice, or the file cannot be written.
    """
    info = geo_info(source)
    size = upscaler.scale * info.width, upscaler.scale * info.height
    if result_size(options, info.width, info.height, upscaler.scale) != size:
        raise UserError(
            f"{source}: the result of a map has {size[0]}×{size[1]} pixels, the network's "
            f"multiple {upscaler.scale} of {info.width}×{info.height}; leave out --outscale, "
            "--width and --height"
        )
    bands, value_range, used = as_trained(upscaler.pixel_facts, info, options)
    number = _number_of_bands(info, bands)
    one_by_one = upscaler.by_band(number)
    is_grey = number == 1 and upscaler.channels == 3 == upscaler.out_channels
    if number != upscaler.channels and not (one_by_one or is_grey):
        advice = f"choose {upscaler.channels} with --bands"
        if number < upscaler.channels:
            advice = "use a file with more bands or another network"
        raise UserError(
            f"{source}: {number} bands, but the network takes {upscaler.channels}; {advice}"
        )
    notes = [used] if used else []
    num_out = number if one_by_one or is_grey else upscaler.out_channels
    if num_out != number:
        notes.append(
            f"the network turns {number} bands into {num_out}: names, units and tags of the bands "
            "are left out"
        )
    if one_by_one:
        takes = "1 band" if upscaler.channels == 1 else f"{upscaler.channels} bands"
        hint = "; --bands chooses 3 as its colours" if 1 < upscaler.channels < number else ""
        notes.append(
            f"the network takes {takes}, the map has {number}: each is enlarged by itself{hint}"
        )
    if upscaler.num_frame > 1 and not upscaler.takes_any_number:
        notes.append(f"the network sees {upscaler.num_frame} times the same map")

    def transform(bands: np.ndarray) -> np.ndarray:
        if one_by_one:
            return np.concatenate([upscaler.image(band[None]) for band in bands])
        return upscaler.image(bands)

    multiple = math.lcm(*(arch_info(net).size_multiple for net in upscaler.nets))
    written = upscale_geotiff(
        source,
        target,
        transform,
        upscaler.scale,
        bands=bands,
        value_range=value_range,
        num_out=num_out,
        nodata=options.nodata,
        # The network's strides and windows have the same places as in the whole map.
        window=_rounded_up(options.window, multiple),
        halo=_rounded_up(_halo(upscaler, options), multiple),
        cog=options.cog,
        progress=on_progress or (lambda done, total: None),
    )
    return Result(target, *size, notes=(*notes, *written.notes))


def as_trained(
    facts: PixelFacts, info: GeoInfo, options: UpscaleOptions
) -> tuple[list[int] | None, str | list[Range], str | None]:
    """Returns bands and range of the values for a map, and a note if they come from the training.

    The bands of the training are used if the map has all of them, the levels if they applied to its
    type and there is one for each band.
    """
    bands, value_range, used = options.bands, options.value_range, []
    if bands is None and facts.bands is not None and max(facts.bands) <= _number_of_bands(info):
        bands = list(facts.bands)
        used.append(f"bands {', '.join(map(str, bands))}")
    number = _number_of_bands(info, bands)
    ranges = [facts.range_of(info.dtype, place) for place in range(facts.channels)]
    if len(set(ranges)) == 1:
        ranges = ranges[:1]
    if value_range == "auto" and facts.applies_to(info.dtype) and len(ranges) in (1, number):
        shown = "; ".join(f"{low:g} to {high:g}" for low, high in ranges)
        used.append(f"values {shown} as 0 to 1")
        return bands, ranges, _note(used)
    return bands, value_range, _note(used)


def _note(used: list[str]) -> str | None:
    if not used:
        return None
    return f"as in the network's training: {', '.join(used)}; --bands and --value-range set others"


def _number_of_bands(info: GeoInfo, bands: list[int] | None = None) -> int:
    if bands is not None:
        return len(bands)
    return info.num_band - (info.alpha_band is not None)


def _halo(upscaler: Upscaler, options: UpscaleOptions) -> int:
    """Returns the pixels around a window that its result depends on."""
    if options.halo is not None:
        return options.halo
    halo, scale = 0, 1
    for stage, net in enumerate(upscaler.nets):
        own = upscaler.halo_of(stage) + _BICUBIC * options.back_projection
        halo += math.ceil(own / scale)
        scale *= int(net.scale)  # type: ignore[arg-type]
    return max(halo, _BICUBIC)


def _rounded_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple

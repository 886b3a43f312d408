"""Upscales maps: GeoTIFF files of any size and number of bands."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from srtoolbox.archs.base import arch_info
from srtoolbox.errors import UserError
from srtoolbox.media.geo import GeoInfo, geo_info, upscale_geotiff
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
    times. Other numbers of bands are enlarged one by one, each as a grey image.

    Args:
        upscaler: The networks. Multi-frame networks see the map as often as they need frames.
        source: The GeoTIFF file.
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
    number = _number_of_bands(info, options)
    one_by_one = number not in (1, upscaler.channels)
    if number != upscaler.channels and upscaler.channels not in (1, 3):
        raise UserError(
            f"{source}: {number} bands, but the network takes {upscaler.channels}; choose "
            f"{upscaler.channels} with --bands"
        )
    notes = []
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
        bands=options.bands,
        value_range=options.value_range,
        nodata=options.nodata,
        # The network's strides and windows have the same places as in the whole map.
        window=_rounded_up(options.window, multiple),
        halo=_rounded_up(_halo(upscaler, options), multiple),
        cog=options.cog,
        progress=on_progress or (lambda done, total: None),
    )
    return Result(target, *size, notes=(*notes, *written.notes))


def _number_of_bands(info: GeoInfo, options: UpscaleOptions) -> int:
    if options.bands is not None:
        return len(options.bands)
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

"""Turns the pixels of a picture into those that a network was trained on, and back.

A weight file states bands and levels of its training data (``PixelFacts``). Pictures are used in
the same way: bands are chosen, and stored values become [0, 1] by the same levels. Results get the
values that the picture would store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from srtoolbox.errors import UserError
from srtoolbox.media.picture import Picture, as_type, bicubic
from srtoolbox.upscaling.options import UpscaleOptions
from srtoolbox.upscaling.upscaler import Upscaler

_BANDS = ("tif", "npy", "jp2")
"""Formats whose channels may be bands; the channels of others are colours."""


@dataclass(frozen=True)
class Prepared:
    """A picture as the networks get it.

    Args:
        picture: The picture with the chosen bands; float32 where ``low`` and ``high`` apply.
        dtype: Type of the values in the file.
        low: Value that becomes 0, (C, 1, 1); None: that of the type.
        high: Value that becomes 1, (C, 1, 1).
        joined: Whether the last channel is the picture's transparency.
        notes: What was done, one sentence each.
    """

    picture: Picture
    dtype: np.dtype
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    joined: bool = False
    notes: tuple[str, ...] = ()

    def enlarged(self, upscaler: Upscaler, pixels: np.ndarray) -> np.ndarray:
        """Returns pixels (C', H·scale, W·scale) float32 of pixels (C, H, W), as ``Upscaler.image``.

        Values beyond the levels are not lost: what exceeds them is enlarged bicubically and added.
        Bands that the network does not take together are enlarged one by one.
        """
        seen = pixels
        if self.low is not None and pixels.dtype == np.float32:
            seen = pixels.clip(0, 1)
        if upscaler.by_band(len(pixels)):
            result = np.concatenate([upscaler.image(band[None]) for band in seen])
        else:
            result = upscaler.image(seen)
        if seen is not pixels and len(result) == len(pixels) and (beyond := pixels - seen).any():
            result = result + bicubic(beyond, result.shape[2], result.shape[1])
        return result

    def finished(self, result: Picture) -> Picture:
        """Returns a result with stored values of the type of the file, and its transparency."""
        pixels, alpha = result.pixels, result.alpha
        if self.low is not None and self.high is not None:
            pixels = self._stored(pixels)
        else:
            pixels = as_type(pixels, self.dtype)
        if self.joined and len(pixels) == 4:
            pixels, alpha = pixels[:3], pixels[3:]
        return replace(result, pixels=pixels, alpha=alpha)

    def _stored(self, pixels: np.ndarray) -> np.ndarray:
        assert self.low is not None and self.high is not None
        low, high = (level if len(level) == len(pixels) else level[:1] for level in self._levels)
        values = pixels.astype(np.float64) * (high - low) + low
        if self.dtype.kind == "f":
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        return np.floor(values + 0.5).clip(limits.min, limits.max).astype(self.dtype)

    @property
    def _levels(self) -> tuple[np.ndarray, np.ndarray]:
        assert self.low is not None and self.high is not None
        return self.low, self.high


def prepare(upscaler: Upscaler, picture: Picture, options: UpscaleOptions) -> Prepared:
    """Returns a picture as the networks of a chain get it.

    Args:
        upscaler: The networks; the facts of the first one's training count.
        picture: The picture as it was read.
        options: ``bands`` replaces those of the training.

    Raises:
        UserError: if the picture lacks a band, or levels of bands do not fit the result.
    """
    facts, notes, used = upscaler.pixel_facts, [], []
    joined = picture.alpha is not None and len(picture.pixels) == 3 and upscaler.channels == 4
    if joined and picture.alpha is not None:
        pixels = np.concatenate([picture.pixels, picture.alpha])
        picture = replace(picture, pixels=pixels, alpha=None)
        notes.append("the network takes 4 channels: transparency is the fourth")
    number = len(picture.pixels)
    if options.bands is not None and picture.format in _BANDS:
        if max(options.bands) > number or len(set(options.bands)) < len(options.bands):
            raise UserError(
                f"bands {', '.join(map(str, options.bands))}: expected different numbers from 1 to "
                f"{number}"
            )
        picture = _chosen(picture, options.bands)
    elif options.bands is not None:
        notes.append(
            f"--bands has no effect on {picture.format.upper()} files; it chooses bands of TIFF, "
            "JPEG 2000 and NPY files"
        )
    elif _are_bands(picture, facts.bands):
        picture = _chosen(picture, facts.bands or ())
        used.append(f"bands {', '.join(map(str, facts.bands or ()))} (--bands chooses others)")
    number, dtype = len(picture.pixels), picture.pixels.dtype
    low = high = None
    if facts.applies_to(dtype.name):
        ranges = [facts.range_of(dtype.name, place) for place in range(facts.channels)]
        ranges = ranges[:1] if len(set(ranges)) == 1 else ranges
        if len(ranges) not in (1, number) or (len(ranges) > 1 and _other_count(upscaler, number)):
            raise UserError(
                f"the training of {type(upscaler.nets[0]).__name__} had {len(ranges)} levels, one "
                f"for each band; they fit neither {number} bands nor another number of results"
            )
        low, high = np.asarray(ranges, np.float64).T[:, :, None, None]
        values = (picture.pixels.astype(np.float64) - low) / (high - low)
        picture = replace(picture, pixels=values.astype(np.float32))
        used.append(f"values {'; '.join(f'{a:g} to {b:g}' for a, b in ranges)} as 0 to 1")
    elif dtype.name not in ("uint8", "uint16", "float32"):
        raise UserError(
            f"values of type {dtype.name}, and the weight file states no white_level; expected "
            "uint8, uint16, or floats in [0, 1]"
        )
    if used:
        notes.append(f"as in the network's training: {', '.join(used)}")
    if upscaler.by_band(number):
        takes = "1 band" if upscaler.channels == 1 else f"{upscaler.channels} bands"
        notes.append(f"the network takes {takes}, the picture has {number}: each by itself")
    return Prepared(picture, dtype, low, high, joined, tuple(notes))


def _are_bands(picture: Picture, bands: tuple[int, ...] | None) -> bool:
    """Returns whether a picture has the bands of the training, and others or in another order."""
    number = len(picture.pixels)
    if bands is None or picture.format not in _BANDS or max(bands) > number:
        return False
    return bands != tuple(range(1, number + 1))


def _chosen(picture: Picture, bands: list[int] | tuple[int, ...]) -> Picture:
    pixels = np.ascontiguousarray(picture.pixels[[band - 1 for band in bands]])
    return replace(picture, pixels=pixels)


def _other_count(upscaler: Upscaler, number: int) -> bool:
    """Returns whether the result has another number of bands than the picture."""
    is_same = upscaler.by_band(number) or upscaler.out_channels == upscaler.channels
    return not is_same

"""A picture in memory, its transparency, its size, and the conversion between bit depths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from srtoolbox.errors import UserError, check_choice
from srtoolbox.media.metadata import Metadata

Transform = Callable[[np.ndarray], np.ndarray]
"""Turns pixels (C, H, W) into pixels (C, s·H, s·W) of the same range."""

AlphaMode = Literal["model", "bicubic", "drop"]


@dataclass(frozen=True)
class Picture:
    """Pixels, transparency and metadata of a picture.

    Args:
        pixels: (C, H, W), C = 1 (grey), 3 (RGB) or another number of bands; uint8, uint16, or
            float32 in [0, 1]; int16 and other floats if they were read with ``any_range``. Colours
            are not multiplied by alpha.
        alpha: (1, H, W) of the same type, 0 where transparent; None: opaque.
        metadata: Profile, EXIF, XMP and resolution.
        format: Format of the file that it was read from: png, jpg, webp, tif, bmp, ppm, …
        notes: What was converted while reading, one sentence each.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = field(default_factory=Metadata)
    format: str = "png"
    notes: tuple[str, ...] = ()


def as_type(pixels: np.ndarray, dtype: np.dtype | type | str) -> np.ndarray:
    """Converts pixels between uint8, uint16 and float32 in [0, 1]; rounds half up and clips.

    Each type's largest value becomes the other's; uint8 → uint16 → uint8 is exact.

    Raises:
        UserError: for another type.
    """
    source: np.dtype = pixels.dtype
    target: np.dtype = np.dtype(dtype)
    for found in (source, target):
        check_choice("pixels: type", found.name, ("uint8", "uint16", "float32"))
    if source == target:
        return pixels
    if target == np.float32:
        return pixels.astype(np.float32) / np.float32(np.iinfo(source).max)
    top = np.iinfo(target).max
    if source == np.float32:
        out = np.empty(pixels.shape, target)
        for index in np.ndindex(pixels.shape[:-1]):  # line by line: it needs no second large array
            # NaN has no integer; float64 holds every uint16 plus one half exactly.
            line = np.nan_to_num(pixels[index].astype(np.float64)).clip(0, 1) * top
            out[index] = np.floor(line + 0.5)
        return out
    if target == np.uint16:
        return pixels.astype(np.uint16) * np.uint16(257)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def with_alpha(picture: Picture, transform: Transform, mode: AlphaMode = "model") -> Picture:
    """Transforms a picture's colours, and its transparency.

    Colours of fully transparent pixels mean nothing and are often black; a network would mix them
    into the edges. They are replaced by those of their neighbours first. A transform that keeps the
    size leaves them as they were where the result is transparent too.

    Args:
        picture: The picture.
        transform: Called with the colours; for ``model`` also with the matte, repeated to the
            number of colours, whose results are averaged.
        mode: ``model`` transforms the matte, ``bicubic`` enlarges it by Keys' bicubic, ``drop``
            leaves it out. A matte with one value keeps that value without a transform.

    Returns:
        The picture with the new pixels, of the same type.

    Raises:
        UserError: for another mode.
    """
    check_choice("alpha", mode, ("model", "bicubic", "drop"))
    dtype, alpha = picture.pixels.dtype, picture.alpha
    if alpha is None or mode == "drop":
        return replace(picture, pixels=as_type(transform(picture.pixels), dtype), alpha=None)
    pixels = as_type(transform(fill_colours(picture.pixels, alpha[0] > 0)), dtype)
    height, width = pixels.shape[1:]
    if alpha.min() == alpha.max():
        matte = np.full((1, height, width), alpha.flat[0], alpha.dtype)
    elif mode == "bicubic":
        enlarged = bicubic(as_type(alpha, np.float32), width, height)
        matte = as_type(enlarged.clip(0, 1), alpha.dtype)
    else:
        planes = as_type(transform(alpha.repeat(len(picture.pixels), axis=0)), alpha.dtype)
        matte = planes[:1]
        if (planes != matte).any():
            matte = as_type(as_type(planes, np.float32).mean(0, keepdims=True), alpha.dtype)
    if pixels.shape == picture.pixels.shape:
        unseen = (alpha == 0) & (matte == 0)
        pixels = np.where(unseen, picture.pixels, pixels)
    return replace(picture, pixels=pixels, alpha=matte)


def fill_colours(pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Replaces pixels by a smooth continuation of the known ones around them.

    An unknown pixel gets the mean of the known pixels in the smallest block of 2^k × 2^k pixels
    that contains any, smoothed (pull and push over a pyramid).

    Args:
        pixels: (C, H, W), uint8, uint16 or float32.
        known: (H, W), True for pixels that are kept. If none is, the pixels are returned unchanged.
    """
    if known.all() or not known.any():
        return pixels
    values = np.ascontiguousarray((as_type(pixels, np.float32) * known).transpose(1, 2, 0))
    levels = [(values, known.astype(np.float32))]
    while max(levels[-1][1].shape) > 1 and (levels[-1][1] == 0).any():
        values, weight = (_halved(plane) for plane in levels[-1])
        total = np.maximum(weight, 1e-9)
        levels.append((values / total[..., None], (weight > 0).astype(np.float32)))
    filled = levels.pop()[0]
    while levels:
        values, weight = levels.pop()
        height, width = weight.shape
        coarse = cv2.resize(filled, (2 * filled.shape[1], 2 * filled.shape[0]))
        coarse = coarse.reshape(*coarse.shape[:2], -1)[:height, :width]
        filled = np.where(weight[..., None] > 0, values, coarse)
    return np.where(known, pixels, as_type(filled.transpose(2, 0, 1), pixels.dtype))


def _halved(plane: np.ndarray) -> np.ndarray:
    """Returns the sums of blocks of 2 × 2 pixels; beyond the border they are 0."""
    height, width = plane.shape[:2]
    pad = [(0, height % 2), (0, width % 2), *[(0, 0)] * (plane.ndim - 2)]
    plane = np.pad(plane, pad)
    return plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]


def bicubic(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes float32 (C, H, W) by Keys' bicubic (a = -0.5); the result is not clipped."""
    planes = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
        for plane in np.ascontiguousarray(pixels)
    ]
    return np.stack(planes)


def resize_to(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes pixels: an axis that shrinks by its mean over areas, one that grows by Lanczos.

    Args:
        pixels: (C, H, W), uint8, uint16 or float32.
        width: New width in pixels.
        height: New height in pixels.

    Returns:
        (C, height, width) of the same type, rounded and clipped.

    Raises:
        UserError: for a size below 1.
    """
    if min(width, height) < 1:
        raise UserError(f"the new size is {width}×{height}; expected at least 1×1")
    if pixels.shape[1:] == (height, width):
        return pixels
    planes = []
    for plane in as_type(pixels, np.float32):
        for size in ((width, plane.shape[0]), (width, height)):
            grows = size[0] > plane.shape[1] or size[1] > plane.shape[0]
            method = cv2.INTER_LANCZOS4 if grows else cv2.INTER_AREA
            if size != plane.shape[::-1]:
                plane = cv2.resize(plane, size, interpolation=method)
        planes.append(plane)
    return as_type(np.stack(planes).clip(0, 1), pixels.dtype)


def resize_picture(picture: Picture, width: int, height: int) -> Picture:
    """Resizes a picture with its transparency, as ``resize_to``."""
    alpha = None if picture.alpha is None else resize_to(picture.alpha, width, height)
    return replace(picture, pixels=resize_to(picture.pixels, width, height), alpha=alpha)

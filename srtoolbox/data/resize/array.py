"""Bicubic resizing that equals MATLAB's ``imresize``, which made the LR images of the field.

R. Keys, "Cubic convolution interpolation for digital image processing", TASSP 1981 (a = -0.5); the
kernel is widened by the factor when an image shrinks, so that it does not alias. Two conventions
differ among the public LR sets; with the wrong one, results differ by up to several grey levels:

=====================================  ======================  =============
LR images of                           round_between_passes    edge
=====================================  ======================  =============
Set5, Set14, BSD100, Urban100          True                    "replicate"
Vid4 (TDAN), BasicSR's function        False                   "symmetric"
Jilin-189                              False                   "replicate"
=====================================  ======================  =============
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from srtoolbox.errors import UserError, check_choice

Edge = Literal["symmetric", "replicate"]

# Output pixels of one block; when enlarging, input pixels. A block reads only its own part of the
# input, so long lines cost no more per pixel than short ones, and it is still large enough for BLAS
# to be fast.
BLOCK = 16
# Makes an exact half round up, whatever the rounding errors of its sum.
TIE = 1e-9


class Block(NamedTuple):
    """Weights (stop - start, last - first) from input pixels first:last to outputs start:stop."""

    start: int
    stop: int
    first: int
    last: int
    weights: np.ndarray


def imresize(
    image: np.ndarray,
    scale: float | None,
    *,
    antialias: bool = True,
    edge: Edge = "symmetric",
    round_between_passes: bool = False,
    out_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Resizes an image bicubically, height first, computing in float64.

    Args:
        image: (H, W) or (H, W, C); unsigned integers, int16 or floats.
        scale: Output size divided by input size, e.g. ``1 / 4`` or ``4``. None: computed from
            ``out_size`` for each axis.
        antialias: Widen the kernel when shrinking.
        edge: Border rule: ``"symmetric"`` mirrors the image, ``"replicate"`` repeats its outermost
            pixels.
        round_between_passes: Round and clip after the pass over the height too (integers only).
        out_size: Output (height, width); default ``ceil(H * scale), ceil(W * scale)``.

    Returns:
        The resized image. For integers: the dtype of ``image``, rounded half up and
        clipped. For floats: float64, neither rounded nor clipped.

    Raises:
        UserError: for an image of another shape or dtype, an empty image, or an impossible size.
    """
    image = np.asarray(image)
    _check_image("imresize", image, round_between_passes, image.ndim in (2, 3), "(H, W[, C])")
    check_size("imresize", scale, edge, out_size)
    axes = line_factors(image.shape[:2], scale, out_size)
    lines = [weight_blocks(size, 0, out, factor, edge, antialias) for size, out, factor in axes]
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    out = _resize(planes, lines, round_between_passes)
    return out[0] if image.ndim == 2 else np.ascontiguousarray(out.transpose(1, 2, 0))


def imresize_window(
    image: np.ndarray,
    scale: float,
    window: tuple[int, int, int, int],
    *,
    edge: Edge = "symmetric",
    round_between_passes: bool = False,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Returns a window of the resized image; reads only the pixels that it depends on.

    The result equals ``imresize(whole image, scale)`` cropped to the window; for float images up to
    the rounding of float64.

    Args:
        image: (C, H, W); unsigned integers, int16 or floats; a view into a memory-mapped file, or
            an object with ``shape``, ``ndim`` and ``dtype`` that reads the pixels of a slice.
        scale: Output size divided by input size, e.g. ``1 / 4``.
        window: (top, left, height, width) in pixels of the resized image.
        edge: As for :func:`imresize`.
        round_between_passes: As for :func:`imresize`.
        size: (H, W) of the upper left part of the image to resize; None: all of it.

    Returns:
        (C, height, width), of the dtype that :func:`imresize` returns.

    Raises:
        UserError: as :func:`imresize`, and for a window that is not inside the resized image.
    """
    _check_image("imresize_window", image, round_between_passes, image.ndim == 3, "(C, H, W)")
    check_size("imresize_window", scale, edge)
    lines, spans = [], []
    axes = line_factors(size or image.shape[1:], scale)
    for (length, whole, factor), start, count in zip(axes, window[:2], window[2:], strict=True):
        if start < 0 or count < 1 or start + count > whole:
            raise UserError(
                f"imresize_window: the window (top, left, height, width) = {tuple(window)} leaves "
                f"the resized image of {axes[0][1]} x {axes[1][1]} pixels"
            )
        blocks = weight_blocks(length, start, start + count, factor, edge)
        spans.append(slice(min(b.first for b in blocks), max(b.last for b in blocks)))
        lines.append(blocks)
    part = image[:, spans[0], spans[1]]
    return _resize(part, lines, round_between_passes, [span.start for span in spans])


def _resize(
    planes: np.ndarray,
    lines: Sequence[tuple[Block, ...]],
    round_between_passes: bool,
    origin: Sequence[int] = (0, 0),
) -> np.ndarray:
    """Resizes (C, H, W), a part of an image; blocks count from the image's origin, not the part's.

    Args:
        planes: The part.
        lines: Weights of rows and columns.
        round_between_passes: As for :func:`imresize`.
        origin: First row and first column of the part.
    """
    is_integer = planes.dtype.kind in "ui"
    pixels = planes.astype(np.float64, order="C")
    top, left = origin
    rows, columns = lines
    mid = np.empty((len(pixels), rows[-1].stop, pixels.shape[2]))
    for start, stop, first, last, weights in rows:
        np.matmul(weights, pixels[:, first - top : last - top], out=mid[:, start:stop])
    if round_between_passes:
        _round(mid, planes.dtype)
    mid = mid.reshape(-1, mid.shape[2])
    out = np.empty((len(mid), columns[-1].stop))
    for start, stop, first, last, weights in columns:
        np.matmul(mid[:, first - left : last - left], weights.T, out=out[:, start:stop])
    if is_integer:
        _round(out, planes.dtype)
    out = out.reshape(len(planes), -1, out.shape[1])
    return out.astype(planes.dtype) if is_integer else out


def _round(values: np.ndarray, dtype: np.dtype) -> None:
    """Rounds half up and clips to the range of an integer type, in place."""
    values += 0.5 + TIE
    np.floor(values, out=values)
    np.clip(values, np.iinfo(dtype).min, np.iinfo(dtype).max, out=values)


def line_factors(
    size: Sequence[int], scale: float | None, out_size: Sequence[int] | None = None
) -> list[tuple[int, int, float]]:
    """Returns input length, output length and factor of every axis, as MATLAB computes them.

    Args:
        size: Input length of every axis.
        scale: Output size divided by input size; None: computed from ``out_size``.
        out_size: Output length of every axis; None: computed from ``scale``. One of them is needed.
    """
    if scale is None:
        return [(old, int(new), new / old) for old, new in zip(size, out_size or size, strict=True)]
    lengths = out_size or [math.ceil(length * scale - 1e-9) for length in size]
    return [(old, int(new), float(scale)) for old, new in zip(size, lengths, strict=True)]


@lru_cache(maxsize=256)
def weight_blocks(
    length: int,
    start: int,
    stop: int,
    factor: float,
    edge: Edge,
    antialias: bool = True,
    block: int = BLOCK,
) -> tuple[Block, ...]:
    """Returns the weight matrix of outputs start:stop of a line, as blocks along its diagonal.

    Args:
        length: Pixels of the input line.
        start: First output pixel; blocks count their rows from it.
        stop: Output pixel after the last.
        factor: Output pixels divided by input pixels.
        edge: Border rule.
        antialias: Widen the kernel when shrinking.
        block: Output pixels of one block; when enlarging, input pixels.
    """
    stretch = min(factor, 1.0) if antialias else 1.0  # below 1, the kernel is wider than 4 pixels
    centre = (np.arange(start, stop) + 0.5) / factor - 0.5
    radius = 2.0 / stretch
    taps = np.floor(centre - radius)[:, None] + np.arange(math.ceil(2 * radius) + 2)
    weight = _keys((centre[:, None] - taps) * stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    source = taps.astype(np.int64)
    if edge == "replicate":
        source = source.clip(0, length - 1)
    else:  # … 1 0 | 0 1 … n-1 | n-1 n-2 …, repeated
        source = source % (2 * length)
        source = np.minimum(source, 2 * length - 1 - source)

    blocks = []
    block = math.ceil(block * max(factor, 1.0))
    for begin in range(0, len(source), block):
        part = source[begin : begin + block]
        first, last = int(part.min()), int(part.max()) + 1
        # Several taps may read the same border pixel: their weights are added.
        position = np.arange(len(part))[:, None] * (last - first) + (part - first)
        weights = np.bincount(
            position.ravel(), weight[begin : begin + block].ravel(), len(part) * (last - first)
        ).reshape(len(part), last - first)
        weights.flags.writeable = False  # cached, and shared by all callers
        blocks.append(Block(begin, begin + len(part), first, last, weights))
    return tuple(blocks)


def _keys(x: np.ndarray) -> np.ndarray:
    """Evaluates Keys' cubic kernel with a = -0.5; it is zero beyond 2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _check_image(
    name: str, image: np.ndarray, round_between_passes: bool, is_valid_shape: bool, shape: str
) -> None:
    if not is_valid_shape or 0 in image.shape:
        raise UserError(f"{name}: expects an image {shape}, got shape {image.shape}")
    is_integer = image.dtype.kind == "u" or image.dtype == np.int16
    if not is_integer and not np.issubdtype(image.dtype, np.floating):
        raise UserError(
            f"{name}: expects unsigned integers, int16 or floats, got {image.dtype}; convert it "
            "first"
        )
    if round_between_passes and not is_integer:
        raise UserError(
            f"{name}: round_between_passes is for integer images, got {image.dtype}; "
            "pass the image as uint8"
        )


def check_size(
    name: str, scale: float | None, edge: str, out_size: Sequence[int] | None = None
) -> None:
    """Checks the arguments of a resizing function.

    Raises:
        UserError: begins with ``name``, the function, and names the invalid argument.
    """
    check_choice(f"{name}: edge", edge, ("symmetric", "replicate"))
    if scale is None and out_size is None:
        raise UserError(f"{name}: give a scale, an out_size, or both")
    if scale is not None and not (scale > 0 and math.isfinite(scale)):
        raise UserError(f"{name}: scale must be positive, got {scale}")
    if out_size is not None and (len(out_size) != 2 or min(out_size) < 1):
        raise UserError(f"{name}: out_size must be at least (1, 1), got {tuple(out_size)}")

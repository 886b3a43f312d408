"""Bicubic resizing exactly as MATLAB's ``imresize``, by which the field's LR images were made.

R. Keys, "Cubic convolution interpolation for digital image processing", TASSP 1981 (a = -0.5); the
kernel is widened by the factor when an image shrinks, so that it does not alias. Two conventions
differ among the public LR sets, and each is wrong by up to several grey levels on the other's:

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

from srtoolbox.errors import UserError

Edge = Literal["symmetric", "replicate"]

# Output pixels of one block, or input pixels where those are fewer. A block reads only its own
# stretch of the input, so long lines cost no more per pixel than short ones, while each block is
# still a product that BLAS does well.
BLOCK = 16
# An exact half must round up whatever the order in which its terms were added.
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
        image: (H, W) or (H, W, C); unsigned integers or floats.
        scale: Output size over input size, e.g. ``1 / 4`` or ``4``. ``None`` takes it from
            ``out_size``, for each axis its own.
        antialias: Widen the kernel when shrinking.
        edge: What lies beyond the border: the image mirrored or its last pixel.
        round_between_passes: Round and clip after the pass over the height too (integers only).
        out_size: Output (height, width); default ``ceil(H * scale), ceil(W * scale)``.

    Returns:
        The resized image: of the dtype of ``image``, rounded half up and clipped, if that is an
        unsigned integer type; float64 and neither rounded nor clipped if it is a float type.

    Raises:
        UserError: for an image of another shape or dtype, an empty one, or an impossible size.
    """
    image = np.asarray(image)
    _check_image("imresize", image, round_between_passes, image.ndim in (2, 3), "(H, W[, C])")
    check_size("imresize", scale, edge, out_size)
    size = image.shape[:2]
    lines = [
        weight_blocks(length, 0, wanted, factor, edge, antialias)
        for length, (wanted, factor) in zip(size, line_factors(size, scale, out_size), strict=True)
    ]
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
) -> np.ndarray:
    """A window of the resized image, for which only the pixels that it depends on are read.

    Equals ``imresize(whole image, scale)`` cut to the window; float images up to the rounding of
    float64. Near the image's border the border rule holds, elsewhere the neighbouring pixels do.

    Args:
        image: (C, H, W); unsigned integers or floats; may be a view into a memory-mapped file.
        scale: Output size over input size, e.g. ``1 / 4``.
        window: (top, left, height, width) in pixels of the resized image.
        edge: As for :func:`imresize`.
        round_between_passes: As for :func:`imresize`.

    Returns:
        (C, height, width), of the type that :func:`imresize` returns.

    Raises:
        UserError: as :func:`imresize`, and for a window that leaves the resized image.
    """
    _check_image("imresize_window", image, round_between_passes, image.ndim == 3, "(C, H, W)")
    check_size("imresize_window", scale, edge)
    lines, spans = [], []
    sizes = line_factors(image.shape[1:], scale)
    for length, (size, factor), start, count in zip(
        image.shape[1:], sizes, window[:2], window[2:], strict=True
    ):
        if start < 0 or count < 1 or start + count > size:
            raise UserError(
                f"imresize_window: the window (top, left, height, width) = {tuple(window)} leaves "
                f"the resized image of {sizes[0][0]} x {sizes[1][0]} pixels"
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
    """Resizes (C, H, W), which begins at pixel ``origin`` of the image that the weights are for."""
    whole = np.issubdtype(planes.dtype, np.unsignedinteger)
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
    if whole:
        _round(out, planes.dtype)
    out = out.reshape(len(planes), -1, out.shape[1])
    return out.astype(planes.dtype) if whole else out


def _round(values: np.ndarray, dtype: np.dtype) -> None:
    """Rounds half up and clips to the range of an integer type, in place."""
    values += 0.5 + TIE
    np.floor(values, out=values)
    np.clip(values, 0, np.iinfo(dtype).max, out=values)


def line_factors(
    size: Sequence[int], scale: float | None, out_size: Sequence[int] | None = None
) -> list[tuple[int, float]]:
    """The output length of every axis, and output over input pixels as MATLAB takes it."""
    wanted = out_size or [math.ceil(length * scale - 1e-9) for length in size]
    return [
        (int(new), new / old if scale is None else float(scale))
        for new, old in zip(wanted, size, strict=True)
    ]


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
    """The matrix that makes outputs start:stop of a line, cut into blocks along the diagonal.

    Args:
        length: Pixels of the input line.
        start: First output pixel; the blocks count their rows from here.
        stop: Output pixel after the last.
        factor: Output over input pixels.
        edge: What lies beyond the border.
        antialias: Widen the kernel when shrinking.
        block: Output pixels of one block; when enlarging, input pixels.
    """
    stretch = min(factor, 1.0) if antialias else 1.0  # below 1 the kernel is wider than 4 pixels
    centre = (np.arange(start, stop) + 0.5) / factor - 0.5
    radius = 2.0 / stretch
    tap = np.floor(centre - radius)[:, None] + np.arange(math.ceil(2 * radius) + 2)
    weight = _keys((centre[:, None] - tap) * stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    source = tap.astype(np.int64)
    if edge == "replicate":
        source = source.clip(0, length - 1)
    else:  # … 1 0 | 0 1 … n-1 | n-1 n-2 …, as often as the kernel reaches
        source = source % (2 * length)
        source = np.minimum(source, 2 * length - 1 - source)

    blocks = []
    block = math.ceil(block * max(factor, 1.0))
    for begin in range(0, len(source), block):
        part = source[begin : begin + block]
        first, last = int(part.min()), int(part.max()) + 1
        # Several taps may read one border pixel: their weights add up.
        place = np.arange(len(part))[:, None] * (last - first) + (part - first)
        weights = np.bincount(
            place.ravel(), weight[begin : begin + block].ravel(), len(part) * (last - first)
        ).reshape(len(part), last - first)
        weights.flags.writeable = False  # cached, and shared by all callers
        blocks.append(Block(begin, begin + len(part), first, last, weights))
    return tuple(blocks)


def _keys(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -0.5; zero beyond 2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _check_image(
    name: str, image: np.ndarray, round_between_passes: bool, fits: bool, shape: str
) -> None:
    if not fits or 0 in image.shape:
        raise UserError(f"{name}: expects an image {shape}, got shape {image.shape}")
    whole = np.issubdtype(image.dtype, np.unsignedinteger)
    if not whole and not np.issubdtype(image.dtype, np.floating):
        raise UserError(
            f"{name}: expects unsigned integers or floats, got {image.dtype}; convert it first"
        )
    if round_between_passes and not whole:
        raise UserError(
            f"{name}: round_between_passes is for integer images, got {image.dtype}; "
            "pass the image as uint8"
        )


def check_size(
    name: str, scale: float | None, edge: str, out_size: Sequence[int] | None = None
) -> None:
    """Raises a UserError, beginning with ``name``, for what no image can be resized by."""
    if edge not in ("symmetric", "replicate"):
        raise UserError(f"{name}: edge is 'symmetric' or 'replicate', got {edge!r}")
    if scale is None and out_size is None:
        raise UserError(f"{name}: give a scale, an out_size, or both")
    if scale is not None and not (scale > 0 and math.isfinite(scale)):
        raise UserError(f"{name}: scale must be positive, got {scale}")
    if out_size is not None and (len(out_size) != 2 or min(out_size) < 1):
        raise UserError(f"{name}: out_size must be at least (1, 1), got {tuple(out_size)}")

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
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from srtoolbox.errors import UserError

Edge = Literal["symmetric", "replicate"]

# Output pixels of one block. A block reads only its own stretch of the input, so long lines cost
# no more per pixel than short ones, while each block is still a product that BLAS does well.
_BLOCK = 32
# An exact half must round up whatever the order in which its terms were added.
_TIE = 1e-9


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
    whole = np.issubdtype(image.dtype, np.unsignedinteger)
    _check(image, scale, edge, round_between_passes, out_size, whole)
    out = image.astype(np.float64)
    for axis in (0, 1):
        length = image.shape[axis]
        wanted = out_size[axis] if out_size else math.ceil(length * scale - 1e-9)
        factor = wanted / length if scale is None else float(scale)
        out = _resize_rows(out, weight_blocks(length, wanted, factor, edge, antialias))
        if whole and (axis == 1 or round_between_passes):
            out = np.clip(np.floor(out + (0.5 + _TIE)), 0, np.iinfo(image.dtype).max)
        out = out.swapaxes(0, 1)
    return np.ascontiguousarray(out, dtype=image.dtype if whole else np.float64)


def _resize_rows(image: np.ndarray, blocks: tuple[Block, ...]) -> np.ndarray:
    """Resizes the first axis of a float64 array."""
    rows = np.ascontiguousarray(image).reshape(len(image), -1)
    out = np.empty((blocks[-1].stop, rows.shape[1]))
    for start, stop, first, last, weights in blocks:
        np.matmul(weights, rows[first:last], out=out[start:stop])
    return out.reshape(len(out), *image.shape[1:])


@lru_cache(maxsize=256)
def weight_blocks(
    length: int, wanted: int, factor: float, edge: Edge, antialias: bool = True
) -> tuple[Block, ...]:
    """The matrix (wanted, length) that resizes a line, cut into its blocks along the diagonal."""
    stretch = min(factor, 1.0) if antialias else 1.0  # below 1 the kernel is wider than 4 pixels
    centre = (np.arange(wanted) + 0.5) / factor - 0.5
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
    for start in range(0, wanted, _BLOCK):
        stop = min(start + _BLOCK, wanted)
        part = source[start:stop]
        first, last = int(part.min()), int(part.max()) + 1
        weights = np.zeros((stop - start, last - first))
        np.add.at(weights, (np.arange(stop - start)[:, None], part - first), weight[start:stop])
        weights.flags.writeable = False  # cached, and shared by all callers
        blocks.append(Block(start, stop, first, last, weights))
    return tuple(blocks)


def _keys(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -0.5; zero beyond 2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _check(
    image: np.ndarray,
    scale: float | None,
    edge: str,
    round_between_passes: bool,
    out_size: tuple[int, int] | None,
    whole: bool,
) -> None:
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise UserError(f"imresize: expects an image (H, W) or (H, W, C), got shape {image.shape}")
    if not whole and not np.issubdtype(image.dtype, np.floating):
        raise UserError(
            f"imresize: expects unsigned integers or floats, got {image.dtype}; convert it first"
        )
    if round_between_passes and not whole:
        raise UserError(
            f"imresize: round_between_passes is for integer images, got {image.dtype}; "
            "pass the image as uint8"
        )
    if edge not in ("symmetric", "replicate"):
        raise UserError(f"imresize: edge is 'symmetric' or 'replicate', got {edge!r}")
    if scale is None and out_size is None:
        raise UserError("imresize: give a scale, an out_size, or both")
    if scale is not None and not (scale > 0 and math.isfinite(scale)):
        raise UserError(f"imresize: scale must be positive, got {scale}")
    if out_size is not None and min(out_size) < 1:
        raise UserError(f"imresize: out_size must be at least (1, 1), got {tuple(out_size)}")

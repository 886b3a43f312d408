"""Runs networks on large images tile by tile, for devices with little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.inference.padding import run_padded


def run_tiled(net: nn.Module, lq: Tensor, tile: int, halo: int) -> Tensor:
    """Runs ``net`` on each tile of ``lq`` and joins the results.

    The network gets each tile with ``halo`` pixels around it, which are cropped from its output. If
    the halo is at least as large as the receptive field, the result equals the untiled one; a
    network that uses the whole image (global pooling, for example) gives another result. Tiles
    start at multiples of the network's ``size_multiple``, so that its strides and windows have the
    same positions as in the whole image.

    Args:
        net: A registered arch.
        lq: (N, C, h, w), or (N, T, C, h, w) for a multi-frame network, in [0, 1].
        tile: Side of a tile in LR pixels; rounded up to a multiple of ``size_multiple``.
        halo: LR pixels around a tile; rounded up likewise.

    Returns:
        SR images as ``run_padded`` returns them.
    """
    height, width = lq.shape[-2:]
    if max(height, width) <= tile:
        return run_padded(net, lq)
    scale, multiple = cast(int, net.scale), arch_info(net).size_multiple
    result = None
    columns = list(_spans(width, tile, halo, multiple))
    for top, bottom, first_row, last_row in _spans(height, tile, halo, multiple):
        for left, right, first, last in columns:
            part = run_padded(net, lq[..., first_row:last_row, first:last].contiguous())
            if result is None:
                result = part.new_empty(*part.shape[:-2], height * scale, width * scale)
            inner = part[
                ...,
                (top - first_row) * scale : (bottom - first_row) * scale,
                (left - first) * scale : (right - first) * scale,
            ]
            result[..., top * scale : bottom * scale, left * scale : right * scale] = inner
    return cast(Tensor, result)


def _spans(length: int, tile: int, halo: int, multiple: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields start and stop of each tile along a side, and start and stop of the tile's input."""
    tile, halo = (-(-size // multiple) * multiple for size in (tile, halo))
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        yield start, stop, max(start - halo, 0), min(stop + halo, length)


def halve(tile: int | None, lq: Tensor, min_size: int = 32) -> int | None:
    """Returns half the side of the current tiles, to try after an out-of-memory error.

    Args:
        tile: Current side of the tiles; None: the whole image.
        lq: The image (…, h, w).
        min_size: Minimum side; below it the result is None.
    """
    size = max(lq.shape[-2:]) if tile is None else min(tile, max(lq.shape[-2:]))
    half = (size + 1) // 2
    return half if half >= min_size else None

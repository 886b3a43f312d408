"""Runs networks on large images tile by tile, for devices with little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.inference.ensemble import Runner
from srtoolbox.inference.padding import pad_to, run_padded


def run_tiled(net: nn.Module, lq: Tensor, tile: int, halo: int, run: Runner = run_padded) -> Tensor:
    """Runs ``net`` on each tile of ``lq`` and joins the results.

    The network gets each tile with ``halo`` pixels around it, which are cropped from its output. If
    the halo is at least as large as the receptive field, the result equals the untiled one; a
    network that uses the whole image (global pooling, for example) gives another result. Tiles
    start at multiples of the network's ``size_multiple``, so that its strides and windows have the
    same positions as in the whole image.

    A network with an ``input_size`` always gets tiles of this size: at the right and bottom border
    they overlap more. Images that are smaller are extended, as in ``run_padded``.

    Args:
        net: A registered arch, or an exported program such as ``OnnxModel``.
        lq: (N, C, h, w), or (N, T, C, h, w) for a multi-frame network, in [0, 1].
        tile: Side of a tile in LR pixels; rounded up to a multiple of ``size_multiple``. It has no
            effect for a network with an ``input_size``.
        halo: LR pixels around a tile; rounded up likewise. It is at most a quarter of the
            ``input_size``.
        run: Runs the network on the input of a tile.

    Returns:
        SR images as ``run_padded`` returns them.
    """
    height, width = lq.shape[-2:]
    scale, info = cast(int, net.scale), arch_info(net)
    multiple, size = info.size_multiple, info.input_size
    if size is None:
        if max(height, width) <= tile:
            return run(net, lq)
        rows = list(_spans(height, tile, halo, multiple))
        columns = list(_spans(width, tile, halo, multiple))
    else:
        if height <= size[0] and width <= size[1]:
            return run(net, lq)
        full = [
            -(-max(own, least) // multiple) * multiple
            for own, least in ((height, size[0]), (width, size[1]))
        ]
        lq = pad_to(lq, full[0], full[1], info.pad_mode)
        rows = list(_fixed_spans(full[0], size[0], halo, multiple))
        columns = list(_fixed_spans(full[1], size[1], halo, multiple))
    result = None
    for top, bottom, first_row, last_row in rows:
        for left, right, first, last in columns:
            part = run(net, lq[..., first_row:last_row, first:last].contiguous())
            if result is None:
                size_of_result = [side * scale for side in lq.shape[-2:]]
                result = part.new_empty(*part.shape[:-2], *size_of_result)
            inner = part[
                ...,
                (top - first_row) * scale : (bottom - first_row) * scale,
                (left - first) * scale : (right - first) * scale,
            ]
            result[..., top * scale : bottom * scale, left * scale : right * scale] = inner
    return cast(Tensor, result)[..., : height * scale, : width * scale]


def _spans(length: int, tile: int, halo: int, multiple: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields start and stop of each tile along a side, and start and stop of the tile's input."""
    tile, halo = (-(-size // multiple) * multiple for size in (tile, halo))
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        yield start, stop, max(start - halo, 0), min(stop + halo, length)


def _fixed_spans(
    length: int, size: int, halo: int, multiple: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yields the same for inputs that all have the same size; both are multiples."""
    halo = min(-(-halo // multiple) * multiple, size // 4 // multiple * multiple)
    start = stop = 0
    while stop < length:
        first = max(0, min(start - halo, length - size))
        stop = length if first + size == length else first + size - halo
        yield start, stop, first, first + size
        start = stop


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

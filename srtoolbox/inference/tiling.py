"""Large images in tiles, for devices whose memory does not hold them at once."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from srtoolbox.inference.padding import run_padded


def run_tiled(net: nn.Module, lq: Tensor, tile: int, halo: int) -> Tensor:
    """The SR image of ``lq``, computed tile by tile.

    Each tile is seen with ``halo`` pixels around it, which are cut from its result. Where the halo
    is no smaller than the network's receptive field the result is the untiled one; a network that
    looks at the whole image (a global pooling, say) differs. Tiles begin at multiples of the
    network's ``size_multiple``, so that its grids (strides, windows) lie as in the whole image.

    Args:
        net: A registered arch.
        lq: (N, C, h, w), or (N, T, C, h, w) for a multi-frame network.
        tile: Side of a tile in LR pixels; rounded up to the network's ``size_multiple``.
        halo: LR pixels seen beyond a tile; rounded up likewise.

    Returns:
        (N, C, h·scale, w·scale), or (N, T, …) of a network that restores all frames.
    """
    height, width = lq.shape[-2:]
    if max(height, width) <= tile:
        return run_padded(net, lq)
    result: Tensor | None = None
    scale = net.scale
    columns = list(_spans(width, tile, halo, net.size_multiple))
    for top, bottom, first_row, last_row in _spans(height, tile, halo, net.size_multiple):
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
    return result


def _spans(length: int, tile: int, halo: int, multiple: int) -> Iterator[tuple[int, int, int, int]]:
    """Start and stop of each tile along a side, and of what is seen of the image for it."""
    tile, halo = (-(-size // multiple) * multiple for size in (tile, halo))
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        yield start, stop, max(start - halo, 0), min(stop + halo, length)


def halve(tile: int | None, lq: Tensor, smallest: int = 32) -> int | None:
    """A smaller tile to try when memory ran out, None if there is no sense in going on."""
    size = max(lq.shape[-2:]) if tile is None else min(tile, max(lq.shape[-2:]))
    half = (size + 1) // 2
    return half if half >= smallest else None

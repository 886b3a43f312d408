"""Attention within the windows of a map, with relative positions; maps are (N, h, w, C) here."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WindowAttention(nn.Module):
    """Self-attention in windows, shifted ones too (Liu et al., Swin Transformer, ICCV 2021).

    Shifted windows are cut from the map rolled by half a window, so that those along the lower and
    right edge hold pixels of both sides of it; which do not see each other. There are four kinds
    of windows for that (within, right, lower, corner), and one mask for each serves all sizes.

    Args:
        embed_dim: Channels, divisible by ``num_head``.
        window_size: Side of a window, even.
        num_head: Attention heads.
        shifted: Shift the windows by half of their size.
    """

    def __init__(self, embed_dim: int, window_size: int, num_head: int, shifted: bool) -> None:
        super().__init__()
        self.window_size, self.num_head = window_size, num_head
        self.shift = window_size // 2 if shifted else 0
        self.relative_position_bias_table = bias_table(2 * window_size - 1, num_head)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
        mask = shift_mask(window_size) if shifted else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Maps (N, h, w, C) to the same shape, h and w multiples of the window's side.

        ``index`` (window², window²) is `self_index` of the window's side.
        """
        shift = self.shift
        bias = self.relative_position_bias_table.t()[:, index]
        x = self.qkv(x.roll((-shift, -shift), (1, 2)) if shift else x)
        x = to_windows(x, self.window_size)
        # (3, N, rows, columns, heads, pixels, channels of a head)
        windows = x.unflatten(-1, (3, self.num_head, -1)).permute(4, 0, 1, 2, 5, 3, 6)
        windows = self._by_kind(windows, bias) if shift else attend(*windows, bias)
        x = self.proj(from_windows(windows, self.window_size))
        return x.roll((shift, shift), (1, 2)) if shift else x

    def _by_kind(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Attention in each of the four kinds of windows, with its mask."""
        inner, last = slice(None, -1), slice(-1, None)
        biases = torch.where(self.mask[:, None], bias, -torch.inf)  # (4, heads, pixels, pixels)
        rows = [
            torch.cat(
                [
                    attend(*windows[:, :, row, column], biases[2 * lower + right])
                    for right, column in enumerate((inner, last))
                ],
                dim=2,
            )
            for lower, row in enumerate((inner, last))
        ]
        return torch.cat(rows, dim=1)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention of several heads in each window.

    Args:
        query: (N, rows, columns, heads, L, d).
        key: (N, rows, columns, heads, S, d).
        value: Like ``key``.
        bias: (heads, L, S), added to the scaled products; −inf where a key is not seen.

    Returns:
        (N, rows, columns, L, heads * d).
    """
    grid = query.shape[:3]
    if 0 in grid:
        return query.transpose(3, 4).flatten(4)
    query, key, value = (each.flatten(0, 2) for each in (query, key, value))
    out = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype)[None])
    return out.transpose(1, 2).flatten(2).unflatten(0, grid)


def to_windows(x: Tensor, size: int) -> Tensor:
    """Cuts (N, h, w, C) into windows, (N, rows, columns, size², C)."""
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))
    return x.transpose(2, 3).flatten(3, 4)


def from_windows(windows: Tensor, size: int) -> Tensor:
    """Undoes `to_windows`."""
    x = windows.unflatten(3, (size, size)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)


def to_overlapping_windows(x: Tensor, size: int, overlap: int) -> Tensor:
    """Windows that are larger than their step of ``size`` by ``overlap`` on each side.

    What lies beyond the border is zero. Maps (N, h, w, C) to
    (N, rows, columns, C, (size + 2 * overlap)²).
    """
    x = F.pad(x, (0, 0, overlap, overlap, overlap, overlap))
    large = size + 2 * overlap
    return x.unfold(1, large, size).unfold(2, large, size).flatten(4)


def bias_table(span: int, num_head: int) -> nn.Parameter:
    """A bias for each of span × span relative positions and each head, (span², num_head)."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(span**2, num_head), std=0.02))


def self_index(size: int) -> Tensor:
    """Row of the bias table for each query and key of a window, (size², size²)."""
    place = torch.arange(size)
    return _index(place[:, None] - place[None, :] + size - 1, 2 * size - 1)


def overlap_index(size: int, overlap: int) -> Tensor:
    """Row of the bias table for a window's queries and a larger window's keys.

    (size², (size + 2 * overlap)²). Half of the rows count from the table's end, below zero, as in
    the weights of HAT, which hold these numbers.
    """
    large = size + 2 * overlap
    distance = torch.arange(large)[None, :] - torch.arange(size)[:, None]
    return _index(distance + size - large + 1, size + large - 1)


def shift_mask(size: int) -> Tensor:
    """Which keys (last) each query (middle) sees in windows shifted by half, (4, size², size²).

    First come windows within the map, then along its right edge, along its lower one, and in the
    corner of both.
    """
    half = torch.arange(size) >= size // 2
    same = half[:, None] == half[None, :]
    everything = torch.ones_like(same)
    kinds = ((everything, everything), (everything, same), (same, everything), (same, same))
    masks = [down[:, None, :, None] & across[None, :, None, :] for down, across in kinds]
    return torch.stack(masks).reshape(4, size**2, size**2)


def _index(distance: Tensor, span: int) -> Tensor:
    """Numbers the pairs of distances (query, key) down and across by rows of the table."""
    index = distance[:, None, :, None] * span + distance[None, :, None, :]
    return index.flatten(2).flatten(0, 1)

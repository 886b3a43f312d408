"""Attention inside windows, with relative position biases; maps are (N, h, w, C) here."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WindowAttention(nn.Module):
    """Self-attention in windows, optionally shifted (Liu et al., Swin Transformer, ICCV 2021).

    Shifted windows come from the map rolled by half a window. Those along the lower and right edge
    contain pixels of opposite edges, which must not attend to each other. This gives four kinds of
    windows (inner, right, lower, corner); one mask for each kind serves all map sizes.

    Args:
        embed_dim: Channels, divisible by ``num_head``.
        window_size: Height and width of a window.
        num_head: Attention heads.
        shifted: Whether to shift the windows by half of their size, rounded down.
    """

    penalty = -torch.inf
    """Value that is added to the products of pixels that must not attend to each other."""

    mask: Tensor | None

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
        """Maps (N, h, w, C) to the same shape; h and w are multiples of the window size.

        ``index`` (window_size², window_size²) is `self_index` of the window size.
        """
        shift = self.shift
        bias = self.relative_position_bias_table.t()[:, index]
        x = self.qkv(x.roll((-shift, -shift), (1, 2)) if shift else x)
        x = to_windows(x, self.window_size)
        # (3, N, rows, columns, heads, pixels, channels of a head)
        windows = x.unflatten(-1, (3, self.num_head, -1)).permute(4, 0, 1, 2, 5, 3, 6)
        x = self.proj(from_windows(self.attend(windows, bias), self.window_size))
        return x.roll((shift, shift), (1, 2)) if shift else x

    def attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Returns the attention in each window; each of the four kinds has its mask.

        Args:
            windows: Queries, keys and values (3, N, rows, columns, heads, pixels, d).
            bias: (heads, pixels, pixels).

        Returns:
            (N, rows, columns, pixels, heads * d).
        """
        learns = bias.requires_grad and torch.is_grad_enabled()
        if learns and windows.device.type == "cpu":
            return self._by_products(windows, bias)
        if self.mask is None:
            return attend(*windows, bias=bias)
        inner, last = slice(None, -1), slice(-1, None)
        # (4, heads, pixels, pixels)
        biases = torch.where(self.mask[:, None], bias, bias + self.penalty)
        rows = [
            torch.cat(
                [
                    attend(*windows[:, :, row, column], bias=biases[2 * lower + right])
                    for right, column in enumerate((inner, last))
                ],
                dim=2,
            )
            for lower, row in enumerate((inner, last))
        ]
        return torch.cat(rows, dim=1)

    def _by_products(self, windows: Tensor, bias: Tensor) -> Tensor:
        """The same without torch's operator, which computes gradients of biases slowly on a CPU.

        The mask is added only to the windows that have one.
        """
        query, key, value = windows
        scores = (query * query.shape[-1] ** -0.5 @ key.mT).add_(bias.to(query.dtype))
        if self.mask is not None:
            with torch.no_grad():  # a constant; the gradient of the scores is the same without it
                _, right, lower, corner = torch.where(self.mask, 0.0, self.penalty)
                scores[:, :-1, -1].add_(right)
                scores[:, -1, :-1].add_(lower)
                scores[:, -1, -1].add_(corner)
        return (scores.softmax(-1) @ value).transpose(3, 4).flatten(4)


class SwinAttention(WindowAttention):
    """Window attention of SwinIR, with its mask: −100 instead of excluded keys."""

    penalty = -100.0
    relative_position_index: Tensor

    def __init__(self, embed_dim: int, window_size: int, num_head: int, shifted: bool) -> None:
        super().__init__(embed_dim, window_size, num_head, shifted)
        self.register_buffer("relative_position_index", self_index(window_size))


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Multi-head attention in each window.

    Args:
        query: (N, rows, columns, heads, L, d).
        key: (N, rows, columns, heads, S, d).
        value: Like ``key``.
        bias: (heads, L, S), added to the scaled products; −inf excludes a key.

    Returns:
        (N, rows, columns, L, heads * d).
    """
    grid = query.shape[:3]
    if 0 in grid:
        return query.transpose(3, 4).flatten(4)
    query, key, value = query.flatten(0, 2), key.flatten(0, 2), value.flatten(0, 2)
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
    """Cuts (N, h, w, C) into overlapping windows, (N, rows, columns, C, (size + 2 * overlap)²).

    The windows have a distance of ``size`` and exceed it by ``overlap`` on each side. Pixels beyond
    the border are zero.
    """
    x = F.pad(x, (0, 0, overlap, overlap, overlap, overlap))
    large = size + 2 * overlap
    return x.unfold(1, large, size).unfold(2, large, size).flatten(4)


def bias_table(span: int, num_head: int) -> nn.Parameter:
    """Returns biases for span × span relative positions and each head: (span², num_head)."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(span**2, num_head), std=0.02))


def self_index(size: int) -> Tensor:
    """Returns the row of the bias table for each query and key of a window: (size², size²)."""
    position = torch.arange(size)
    return _index(position[:, None] - position[None, :] + size - 1, 2 * size - 1)


def overlap_index(size: int, overlap: int) -> Tensor:
    """Returns the row of the bias table for each query of a window and key of a larger window.

    The shape is (size², (size + 2 * overlap)²). Half of the rows are negative and count from the
    end of the table, like these numbers in the published weights of HAT.
    """
    large = size + 2 * overlap
    distance = torch.arange(large)[None, :] - torch.arange(size)[:, None]
    return _index(distance + size - large + 1, size + large - 1)


def shift_mask(size: int) -> Tensor:
    """Returns whether a query may attend to a key in shifted windows: (4, query, key).

    The four kinds are inner windows, windows along the right edge, along the lower edge, and in the
    lower right corner. Queries and keys are size² pixels each. The shift is size // 2.
    """
    half = torch.arange(size) >= size - size // 2  # the part that comes from the opposite edge
    same = half[:, None] == half[None, :]
    everything = torch.ones_like(same)
    kinds = ((everything, everything), (everything, same), (same, everything), (same, same))
    masks = [down[:, None, :, None] & across[None, :, None, :] for down, across in kinds]
    return torch.stack(masks).reshape(4, size**2, size**2)


def _index(distance: Tensor, span: int) -> Tensor:
    """Converts vertical and horizontal distances (query, key) to rows of the bias table."""
    index = distance[:, None, :, None] * span + distance[None, :, None, :]
    return index.flatten(2).flatten(0, 1)

"""Attention between two maps, selection among receptive fields, and blocks made of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.residual import residual_blocks, scaled_kaiming_


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, (N, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class OverlappingCrossAttention(nn.Module):
    """Each window of one map attends to a larger window of another map around the same place.

    The overlap as in HAT (Chen et al., "Activating More Pixels in Image Super-Resolution
    Transformer", CVPR 2023), the relative position bias as in Swin (Liu et al., ICCV 2021).
    The cost is linear in the number of pixels. Maps of any size: keys beyond the border are
    masked, so that padding has no say.

    Args:
        num_feat: Channels, divisible by ``num_head``.
        num_head: Attention heads.
        window_size: Side of a query window.
        overlap: Pixels by which the key window is larger on each side.
    """

    def __init__(
        self, num_feat: int, num_head: int = 4, window_size: int = 8, overlap: int = 2
    ) -> None:
        super().__init__()
        self.num_head, self.window, self.overlap = num_head, window_size, overlap
        self.query = nn.Conv2d(num_feat, num_feat, 1)
        self.key_value = nn.Conv2d(num_feat, 2 * num_feat, 1, bias=False)
        self.out = scaled_kaiming_(nn.Conv2d(num_feat, num_feat, 1))
        span = 2 * window_size + 2 * overlap - 1  # distances between a query and its keys
        self.bias = nn.Parameter(torch.zeros(num_head, span * span))
        self.register_buffer("distance", _distances(window_size, overlap), persistent=False)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """(N, C, h, w), the map that asks, and (N, C, h, w), the map that answers."""
        n, c, h, w = x.shape
        size, key_size = self.window, self.window + 2 * self.overlap
        bottom, right = -h % size, -w % size
        rows, columns = (h + bottom) // size, (w + right) // size

        query = F.pad(self.query(x), (0, right, 0, bottom))
        query = query.view(n, self.num_head, -1, rows, size, columns, size)
        query = query.permute(0, 3, 5, 1, 4, 6, 2).flatten(4, 5).flatten(0, 2)

        edges = (self.overlap, self.overlap + right, self.overlap, self.overlap + bottom)
        windows = F.pad(self.key_value(other), edges).unfold(2, key_size, size)
        windows = windows.unfold(3, key_size, size)  # (N, 2·C, rows, columns, key, key)
        windows = windows.reshape(n, 2, self.num_head, -1, rows, columns, key_size**2)
        key, value = windows.permute(1, 0, 4, 5, 2, 6, 3).flatten(1, 3)

        real = F.pad(x.new_ones(h, w, dtype=torch.bool), edges)
        real = real.unfold(0, key_size, size).unfold(1, key_size, size)
        bias = self.bias[:, self.distance].to(query.dtype)  # (heads, size², key_size²)
        mask = torch.where(real.reshape(-1, 1, 1, key_size**2), bias, -torch.inf)
        mask = mask.repeat(n, 1, 1, 1)

        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out = out.view(n, rows, columns, self.num_head, size, size, -1)
        out = out.permute(0, 3, 6, 1, 4, 2, 5).reshape(n, c, rows * size, columns * size)
        return self.out(out[..., :h, :w])


def _distances(window: int, overlap: int) -> Tensor:
    """(window², key²): which entry of the bias table stands for each query and key."""
    query, key = torch.arange(window), torch.arange(-overlap, window + overlap)
    offset = key[None, :] - query[:, None] + window + overlap - 1  # from 0, (window, key)
    span = 2 * window + 2 * overlap - 1
    table = offset[:, None, :, None] * span + offset[None, :, None, :]
    return table.reshape(window**2, -1)


class SelectiveKernels(nn.Module):
    """Three depthwise convolutions of growing reach; every pixel and channel chooses among them.

    After SKNet (Li et al., "Selective Kernel Networks", CVPR 2019) and LSKNet (Li et al., ICCV
    2023), with the choice made per pixel and per channel. The reaches are 3, 5 and 13 pixels.

    Args:
        num_feat: Channels.
    """

    shapes = ((3, 1), (3, 2), (5, 3))  # kernel size, dilation

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(num_feat, num_feat, k, padding=d * (k // 2), dilation=d, groups=num_feat)
            for k, d in self.shapes
        )
        self.choose = nn.Conv2d(num_feat, len(self.shapes) * num_feat, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, h, w)."""
        views = torch.stack([branch(x) for branch in self.branches], 1)
        choice = self.choose(views.sum(1)).view_as(views).softmax(1)
        return (choice * views).sum(1)


class GatedFeedForward(nn.Module):
    """1×1 convolutions around a product of two halves (Chen et al., NAFNet, ECCV 2022)."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(num_feat, 2 * num_feat, 1)
        self.project = scaled_kaiming_(nn.Conv2d(num_feat, num_feat, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, h, w)."""
        value, gate = self.expand(x).chunk(2, 1)
        return self.project(value * gate)


class SpatialBlock(nn.Module):
    """Selective kernels and a gated feed-forward, each behind a normalisation."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            LayerNorm2d(num_feat),
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
            SelectiveKernels(num_feat),
            scaled_kaiming_(nn.Conv2d(num_feat, num_feat, 1)),
        )
        self.feed = nn.Sequential(LayerNorm2d(num_feat), GatedFeedForward(num_feat))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(x)
        return x + self.feed(x)


class CrossLayer(nn.Module):
    """One direction of cross attention with its feed-forward."""

    def __init__(self, num_feat: int, num_head: int, window_size: int) -> None:
        super().__init__()
        self.norm_self = LayerNorm2d(num_feat)
        self.norm_other = LayerNorm2d(num_feat)
        self.attention = OverlappingCrossAttention(
            num_feat, num_head, window_size, window_size // 4
        )
        self.feed = nn.Sequential(LayerNorm2d(num_feat), GatedFeedForward(num_feat))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        x = x + self.attention(self.norm_self(x), self.norm_other(other))
        return x + self.feed(x)


class EnhancementGroup(nn.Module):
    """Residual blocks, context from half the resolution, attention to channels and to pixels."""

    def __init__(self, num_feat: int, num_block: int) -> None:
        super().__init__()
        self.blocks = residual_blocks(num_block, num_feat)
        self.context = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, 2, padding=1),
            nn.LeakyReLU(0.1),
            scaled_kaiming_(nn.Conv2d(num_feat, num_feat, 3, padding=1)),
        )
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(num_feat, num_feat, 1), nn.Sigmoid()
        )
        self.pixel = nn.Sequential(nn.Conv2d(num_feat, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        context = F.interpolate(self.context(x), scale_factor=2)[..., :h, :w]
        change = self.blocks(x) - x + context
        return x + change * (self.channel(change) + self.pixel(change))

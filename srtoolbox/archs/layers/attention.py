"""Layers of DSTC-SRNet+: cross attention, selective kernels, and blocks of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.residual import residual_blocks, scaled_kaiming_
from srtoolbox.archs.layers.window import overlap_index


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of (N, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class OverlappingCrossAttention(nn.Module):
    """Each window of one map attends to a larger window of another map at the same position.

    The overlap is that in HAT (Chen et al., "Activating More Pixels in Image Super-Resolution
    Transformer", CVPR 2023), the relative position bias that in Swin (Liu et al., ICCV 2021).
    The cost is linear in the number of pixels. Maps can have any size: keys beyond the border are
    masked, so that padding has no effect.

    Args:
        num_feat: Channels, divisible by ``num_head``.
        num_head: Attention heads.
        window_size: Height and width of a query window.
        overlap: Pixels by which the key window is larger on each side.
    """

    distance: Tensor

    def __init__(self, num_feat: int, num_head: int, window_size: int, overlap: int) -> None:
        super().__init__()
        self.num_head, self.window, self.overlap = num_head, window_size, overlap
        self.query = nn.Conv2d(num_feat, num_feat, 1)
        self.key_value = nn.Conv2d(num_feat, 2 * num_feat, 1, bias=False)
        self.out = scaled_kaiming_(nn.Conv2d(num_feat, num_feat, 1))
        span = 2 * window_size + 2 * overlap - 1  # number of distances between query and key
        self.bias = nn.Parameter(torch.zeros(num_head, span * span))
        index = overlap_index(window_size, overlap)  # of query and key in the bias table
        self.register_buffer("distance", index - index.min(), persistent=False)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Maps queries ``x`` and keys ``other``, both (N, C, h, w), to (N, C, h, w)."""
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


class SelectiveKernels(nn.Module):
    """Three depthwise convolutions, averaged with learned weights for each pixel and channel.

    Based on SKNet (Li et al., "Selective Kernel Networks", CVPR 2019) and LSKNet (Li et al., ICCV
    2023); weights per pixel and channel are ours. The receptive fields are 3, 5 and 13 pixels.

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
        """Maps (N, C, h, w) to the same shape."""
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
        """Maps (N, C, h, w) to the same shape."""
        value, gate = self.expand(x).chunk(2, 1)
        return self.project(value * gate)


class SpatialBlock(nn.Module):
    """Selective kernels and a gated feed-forward, each after a normalisation."""

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
        """Maps (N, C, h, w) to the same shape."""
        x = x + self.mix(x)
        return x + self.feed(x)


class CrossLayer(nn.Module):
    """Cross attention in one direction and a feed-forward: two maps (N, C, h, w) to one."""

    def __init__(self, num_feat: int, num_head: int, window_size: int) -> None:
        super().__init__()
        self.norm_self = LayerNorm2d(num_feat)
        self.norm_other = LayerNorm2d(num_feat)
        overlap = window_size // 4
        self.attention = OverlappingCrossAttention(num_feat, num_head, window_size, overlap)
        self.feed = nn.Sequential(LayerNorm2d(num_feat), GatedFeedForward(num_feat))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        x = x + self.attention(self.norm_self(x), self.norm_other(other))
        return x + self.feed(x)


class EnhancementGroup(nn.Module):
    """Residual blocks, context from half the size, channel and pixel attention."""

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
        """Maps (N, C, h, w) to the same shape."""
        h, w = x.shape[-2:]
        context = F.interpolate(self.context(x), scale_factor=2)[..., :h, :w]
        change = self.blocks(x) - x + context
        return x + change * (self.channel(change) + self.pixel(change))

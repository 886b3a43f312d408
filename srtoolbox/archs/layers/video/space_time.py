"""Attention over all patches of all frames, in memory that does not grow with their pairs."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# How many pairs of tokens are held at a time, over a batch, of one head.
PAIRS = {"cpu": 2**22, "cuda": 2**26}


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query · keyᵀ / √d) · value, for some queries at a time.

    The tokens here are image patches, so d is in the thousands, which no fused kernel takes, and
    there are tens of thousands of them. Where they are taken in parts, the weights are computed
    again in the backward pass instead of being kept.

    Args:
        query: (N, tokens, d).
        key: (N, tokens, d).
        value: (N, tokens, d).

    Returns:
        (N, tokens, d).
    """
    pairs = PAIRS.get(query.device.type, PAIRS["cuda"])
    size = max(1, pairs // (len(key) * key.shape[1]))
    if query.shape[1] <= size:
        return _attend(query, key, value)
    part = partial(checkpoint, _attend, use_reentrant=False, preserve_rng_state=False)
    part = part if torch.is_grad_enabled() else _attend
    return torch.cat([part(some, key, value) for some in query.split(size, 1)], 1)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = (query / math.sqrt(query.shape[-1])) @ key.transpose(1, 2)
    return torch.softmax(weights, -1) @ value


class SpaceTimeAttention(nn.Module):
    """Multi-head attention whose tokens are the patches of all frames, of another size per head.

    Zeng et al., "Learning joint spatial-temporal transformations for video inpainting", ECCV 2020,
    whose names these are.

    Args:
        num_feat: Channels, a multiple of the number of heads.
        patch_sizes: Side of the patches of each head.
    """

    def __init__(self, num_feat: int, patch_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.patch_sizes = patch_sizes
        self.query_embedding = nn.Conv2d(num_feat, num_feat, 1)
        self.value_embedding = nn.Conv2d(num_feat, num_feat, 1)
        self.key_embedding = nn.Conv2d(num_feat, num_feat, 1)
        self.output_linear = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, padding=1), nn.LeakyReLU(0.2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, T, num_feat, h, w), h and w multiples of every patch size, to that shape."""
        n, frames, _, height, width = x.shape
        flat = x.flatten(0, 1)
        made = [self.query_embedding(flat), self.key_embedding(flat), self.value_embedding(flat)]
        heads = zip(*(one.chunk(len(self.patch_sizes), 1) for one in made), strict=True)
        results = []
        for size, parts in zip(self.patch_sizes, heads, strict=True):
            tokens = [
                F.pixel_unshuffle(part, size).flatten(2).unflatten(0, (n, frames)).transpose(2, 3)
                for part in parts
            ]  # (N, T, patches, d)
            out = attend(*(one.flatten(1, 2) for one in tokens))
            out = out.unflatten(1, (frames, -1)).flatten(0, 1).transpose(1, 2)
            grid = (height // size, width // size)
            results.append(F.pixel_shuffle(out.unflatten(2, grid), size))
        return x + self.output_linear(torch.cat(results, 1)).unflatten(0, (n, frames))


class SpaceTimeBlock(nn.Module):
    """Attention and a feed-forward of dilated convolutions, each with a skip.

    Args:
        num_feat: Channels.
        patch_sizes: Side of the patches of each head.
    """

    def __init__(self, num_feat: int, patch_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.attention = SpaceTimeAttention(num_feat, patch_sizes)
        self.feed_forward = _FeedForward(num_feat)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, T, num_feat, h, w) to that shape."""
        x = x + self.attention(x)  # the second skip around it: the attention has one of its own
        return x + self.feed_forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class _FeedForward(nn.Module):
    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, padding=2, dilation=2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
            nn.LeakyReLU(0.2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)

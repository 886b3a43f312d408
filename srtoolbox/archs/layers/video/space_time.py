"""Attention over all patches of all frames, with bounded memory for the attention weights."""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from srtoolbox.archs.layers.basic import conv3

# Maximum number of attention weights (pairs of tokens) of one head that a batch computes at a time.
PAIRS = {"cpu": 2**22, "cuda": 2**26}


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Computes softmax(query · keyᵀ / √d) · value, in parts of the queries if they are many.

    The tokens are image patches. There are tens of thousands of them, and d is in the thousands,
    which no fused kernel supports. In parts, the attention weights are recomputed in the backward
    pass instead of being stored.

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
    return torch.cat([part(queries, key, value) for queries in query.split(size, 1)], 1)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = (query / math.sqrt(query.shape[-1])) @ key.transpose(1, 2)
    return torch.softmax(weights, -1) @ value


class SpaceTimeAttention(nn.Module):
    """Multi-head attention over the patches of all frames, with another patch size for each head.

    Zeng et al., "Learning joint spatial-temporal transformations for video inpainting", ECCV 2020;
    attributes have the names of that work.

    Args:
        num_feat: Channels, a multiple of the number of heads.
        patch_sizes: Height and width of the patches of each head.
    """

    def __init__(self, num_feat: int, patch_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.patch_sizes = patch_sizes
        self.query_embedding = nn.Conv2d(num_feat, num_feat, 1)
        self.value_embedding = nn.Conv2d(num_feat, num_feat, 1)
        self.key_embedding = nn.Conv2d(num_feat, num_feat, 1)
        self.output_linear = nn.Sequential(conv3(num_feat, num_feat), nn.LeakyReLU(0.2))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, T, num_feat, h, w) to the same shape; h, w are multiples of all patch sizes."""
        n, frames, _, height, width = x.shape
        flat = x.flatten(0, 1)
        maps = [self.query_embedding(flat), self.key_embedding(flat), self.value_embedding(flat)]
        heads = zip(*(feat.chunk(len(self.patch_sizes), 1) for feat in maps), strict=True)
        results = []
        for size, parts in zip(self.patch_sizes, heads, strict=True):
            query, key, value = (
                F.pixel_unshuffle(part, size)
                .flatten(2)
                .unflatten(0, (n, frames))
                .transpose(2, 3)  # (N, T, patches, d)
                .flatten(1, 2)
                for part in parts
            )
            out = attend(query, key, value)
            out = out.unflatten(1, (frames, -1)).flatten(0, 1).transpose(1, 2)
            grid = (height // size, width // size)
            results.append(F.pixel_shuffle(out.unflatten(2, grid), size))
        return x + self.output_linear(torch.cat(results, 1)).unflatten(0, (n, frames))


class SpaceTimeBlock(nn.Module):
    """Attention and a feed-forward of dilated convolutions, each with a skip connection.

    Args:
        num_feat: Channels.
        patch_sizes: Height and width of the patches of each head.
    """

    def __init__(self, num_feat: int, patch_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.attention = SpaceTimeAttention(num_feat, patch_sizes)
        conv = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, padding=2, dilation=2),
            nn.LeakyReLU(0.2),
            conv3(num_feat, num_feat),
            nn.LeakyReLU(0.2),
        )
        self.feed_forward = nn.Sequential(OrderedDict(conv=conv))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, T, num_feat, h, w) to the same shape."""
        x = x + self.attention(x)  # a second skip connection: the attention also adds its input
        return x + self.feed_forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])

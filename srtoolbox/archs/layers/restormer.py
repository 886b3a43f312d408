"""Attention across channels and a gated feed-forward; maps are (N, C, h, w)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.basic import is_exporting
from srtoolbox.errors import UserError

_EXPANSION = 2.66
"""Inner channels of the feed-forward, divided by its channels."""

_INFERENCE_VALUES = {"cpu": 2**20, "cuda": 2**28}
"""Inner values of all images that a block processes at a time in inference, by device. On a CPU,
they stay in the cache."""


class TransposedBlock(nn.Module):
    """Attention across channels, then a gated feed-forward, each after a normalisation.

    The block of Zamir et al., "Restormer", CVPR 2022, with queries and keys from one depthwise
    convolution and values from another one, as in Burstormer. Each image is processed on its own.

    Args:
        num_feat: Channels C, divisible by ``num_head``.
        num_head: Attention heads.
    """

    def __init__(self, num_feat: int, num_head: int = 1) -> None:
        super().__init__()
        self.norm1 = PixelNorm(num_feat)
        self.attn = TransposedAttention(num_feat, num_head)
        self.norm2 = PixelNorm(num_feat)
        self.ffn = GatedFeedForward(num_feat)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, h, w) to the same shape."""
        if torch.is_grad_enabled() or is_exporting():  # everything is kept anyway
            return self._process(x)
        values = self.ffn.project_in.out_channels * x.shape[2] * x.shape[3]
        limit = _INFERENCE_VALUES.get(x.device.type, _INFERENCE_VALUES["cuda"])
        parts = x.split(max(1, limit // values))
        return torch.cat([self._process(part) for part in parts])

    def _process(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class PixelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel of (N, C, h, w)."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(num_feat)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.movedim(1, -1)).movedim(-1, 1)


class TransposedAttention(nn.Module):
    """Each channel of a head attends to the channels of the head, over all pixels.

    The weights, softmax(q kᵀ · temperature) with q and k of norm 1, have the shape
    (N, heads, C / heads, C / heads), so the cost is linear in the number of pixels.

    Args:
        num_feat: Channels C, divisible by ``num_head``.
        num_head: Attention heads.
    """

    def __init__(self, num_feat: int, num_head: int) -> None:
        super().__init__()
        if num_feat % num_head:
            raise UserError(f"num_head ({num_head}) must divide the features ({num_feat})")
        self.temperature = nn.Parameter(torch.ones(num_head, 1, 1))
        self.qk = nn.Conv2d(num_feat, 2 * num_feat, 1, bias=False)
        self.qk_dwconv = _depthwise(2 * num_feat)
        self.v = nn.Conv2d(num_feat, num_feat, 1, bias=False)
        self.v_dwconv = _depthwise(num_feat)
        self.project_out = nn.Conv2d(num_feat, num_feat, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, h, w) to the same shape.

        Queries, keys and values come from one convolution. q kᵀ is divided by the norms instead of
        q and k, and the last convolution is applied to the attention weights instead of the values,
        both of which are much smaller.
        """
        heads = len(self.temperature)
        x = F.conv2d(x, torch.cat((self.qk.weight, self.v.weight)))
        weight = torch.cat((self.qk_dwconv.weight, self.v_dwconv.weight))
        x = F.conv2d(x, weight, padding=1, groups=len(weight))
        query, key, value = x.flatten(2).chunk(3, 1)
        query, key = query.unflatten(1, (heads, -1)), key.unflatten(1, (heads, -1))
        with torch.autocast(x.device.type, enabled=False):  # sums over all pixels
            precise = torch.promote_types(x.dtype, torch.float32)
            query, key = query.to(precise), key.to(precise)
            norms = [torch.linalg.vector_norm(t, dim=3, keepdim=True) for t in (query, key)]
            long, wide = (norm.clamp_min(1e-12) for norm in norms)
            logits = query @ key.transpose(2, 3) / (long * wide.transpose(2, 3))
            weights = (logits * self.temperature).softmax(3)
            project = self.project_out.weight.flatten(1).unflatten(1, (heads, -1)).movedim(1, 0)
            project = (project @ weights).movedim(1, 2).flatten(2)  # (N, C, C)
        return (project.to(value.dtype) @ value).view_as(x[:, : value.shape[1]])


class GatedFeedForward(nn.Module):
    """1×1 and depthwise convolution; GELU of one half of the channels times the other half."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        wide = int(_EXPANSION * num_feat)
        self.project_in = nn.Conv2d(num_feat, 2 * wide, 1, bias=False)
        self.dwconv = _depthwise(2 * wide)
        self.project_out = nn.Conv2d(wide, num_feat, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, h, w) to the same shape."""
        gate, value = self.dwconv(self.project_in(x)).chunk(2, 1)
        return self.project_out(F.gelu(gate) * value)


def _depthwise(num_feat: int) -> nn.Conv2d:
    return nn.Conv2d(num_feat, num_feat, 3, padding=1, groups=num_feat, bias=False)

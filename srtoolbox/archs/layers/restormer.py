"""Attention across channels and a gated feed-forward; maps are (N, C, h, w)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.basic import is_exporting
from srtoolbox.errors import UserError

_EXPANSION = 2.66
"""Inner channels of the feed-forward, divided by its channels."""

_ALIGNED = 16
"""Divides the channels that the feed-forward computes with."""

_INFERENCE_VALUES = {"cpu": 2**19, "cuda": 2**28}
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
        """Maps (N, C, h, w) to the same shape; on a CPU, the channels come last in memory."""
        if is_exporting():
            return self._process(x)
        if x.device.type == "cpu":  # a depthwise convolution is several times faster then
            x = x.contiguous(memory_format=torch.channels_last)
        if torch.is_grad_enabled():  # everything is kept anyway
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
        channels, heads = x.shape[1], len(self.temperature)
        x = _pointwise(x, torch.cat((self.qk.weight, self.v.weight)))
        weight = torch.cat((self.qk_dwconv.weight, self.v_dwconv.weight))
        x = F.conv2d(x, weight, padding=1, groups=len(weight))
        query, key, value = x.permute(0, 2, 3, 1).flatten(1, 2).split(channels, 2)  # (N, pixels, C)
        weights = self._weights(query, key)
        with torch.autocast(x.device.type, enabled=False):
            project = self.project_out.weight.flatten(1).unflatten(1, (heads, -1)).movedim(1, 0)
            project = (project @ weights).movedim(1, 2).flatten(2)  # (N, C, C)
        out = value @ project.transpose(1, 2).to(value.dtype)
        return out.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)

    def _weights(self, query: Tensor, key: Tensor) -> Tensor:
        """Returns the attention weights of (N, pixels, C): (N, heads, C / heads, C / heads)."""
        heads, precise = len(self.temperature), torch.promote_types(query.dtype, torch.float32)
        with torch.autocast(query.device.type, enabled=False):  # these are sums over all pixels
            query, key = query.to(precise), key.to(precise)
            # Sums of squares are faster than norms here, and have a derivative at zero.
            norms = [t.square().sum(1).clamp_min(1e-24).sqrt() for t in (query, key)]
            query, key = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (query, key))
            down, across = (norm.unflatten(1, (heads, -1)) for norm in norms)
            logits = query.transpose(2, 3) @ key / (down[..., None] * across[..., None, :])
            return (logits * self.temperature).softmax(3)


class GatedFeedForward(nn.Module):
    """1×1 and depthwise convolution; GELU of one half of the channels times the other half."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        wide = int(_EXPANSION * num_feat)
        self.project_in = nn.Conv2d(num_feat, 2 * wide, 1, bias=False)
        self.dwconv = _depthwise(2 * wide)
        self.project_out = nn.Conv2d(wide, num_feat, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, h, w) to the same shape.

        The halves are computed apart, so that no half is a part of a larger map, and with a number
        of channels that is a multiple of 16, both of which a CPU needs for its speed. The
        additional channels are zero.
        """
        more = -self.project_out.in_channels % _ALIGNED
        halves = [
            F.conv2d(_pointwise(x, first), second, padding=1, groups=len(second))
            for first, second in zip(
                _padded(self.project_in.weight, more),
                _padded(self.dwconv.weight, more),
                strict=True,
            )
        ]
        feat = F.gelu(halves[0]) * halves[1]
        return _pointwise(feat, F.pad(self.project_out.weight, (0, 0, 0, 0, 0, more)))


def _padded(weight: Tensor, more: int) -> list[Tensor]:
    """Returns the halves of a weight (2O, …), each with ``more`` additional outputs of zero."""
    return [F.pad(half, (*(0, 0) * 3, 0, more)) for half in weight.chunk(2)]


def _pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """1×1 convolution; in inference on a CPU as a matrix product, which is faster."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or is_exporting():
        return F.conv2d(x, weight)
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1)).permute(0, 3, 1, 2)


def _depthwise(num_feat: int) -> nn.Conv2d:
    return nn.Conv2d(num_feat, num_feat, 3, padding=1, groups=num_feat, bias=False)

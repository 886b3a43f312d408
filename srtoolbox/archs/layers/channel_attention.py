"""Attention to channels, from their means over the image."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """Weighs channels by a function of their means: (N, C, h, w) to the same shape.

    Zhang et al., "Image Super-Resolution Using Very Deep Residual Channel Attention Networks",
    ECCV 2018. The means are those of the whole image, so that a tiled result differs a little.

    Args:
        num_feat: Channels in and out.
        num_inner: Channels between the two 1×1 convolutions.
    """

    def __init__(self, num_feat: int, num_inner: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(num_feat, num_inner, 1),
            nn.ReLU(),
            nn.Conv2d(num_inner, num_feat, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)

"""RRDBNet: the generator of ESRGAN, dense blocks in residual blocks without normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3, lrelu
from srtoolbox.archs.layers.residual import scaled_kaiming_
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.registry import ARCH_REGISTRY

RES_SCALE = 0.2
"""Weight of every residual; the small value keeps the deep network stable."""

SLOPE = 0.2
"""Slope of every leaky ReLU for negative values."""


@ARCH_REGISTRY.register()
class RRDBNet(nn.Module):
    """Network of residual-in-residual dense blocks; the defaults are those of ESRGAN.

    The layers always enlarge by 4. For scale 2 or 1, pixel unshuffle first moves 2×2 or 4×4 pixels
    of the input into channels.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features.
        num_block: Residual-in-residual dense blocks.
        num_grow_ch: Channels that each convolution of a dense block adds.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input.
    """

    paper = (
        "Wang et al., ESRGAN: Enhanced super-resolution generative adversarial networks, ECCVW 2018"
    )
    scales = (1, 2, 4)
    checkpoint_blocks = ("body",)

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 23,
        num_grow_ch: int = 32,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        self.fold = self.size_multiple = self.min_size = 4 // scale
        self.conv_first = conv3(self.channels * self.fold**2, num_feat)
        self.body = nn.Sequential(*(RRDB(num_feat, num_grow_ch) for _ in range(num_block)))
        self.conv_body = conv3(num_feat, num_feat)
        self.conv_up1 = conv3(num_feat, num_feat)
        self.conv_up2 = conv3(num_feat, num_feat)
        self.conv_hr = conv3(num_feat, num_feat)
        self.conv_last = conv3(num_feat, self.out_channels)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) in [0, 1] to (N, num_out_ch, h * scale, w * scale)."""
        feat = self.conv_first(F.pixel_unshuffle(lq, self.fold))
        feat = feat + self.conv_body(self.body(feat))
        for conv in (self.conv_up1, self.conv_up2):  # after repeating every pixel 2×2 times
            feat = lrelu(conv(F.interpolate(feat, scale_factor=2)), SLOPE)
        return self.conv_last(lrelu(self.conv_hr(feat), SLOPE))


class RRDB(nn.Module):
    """Three residual dense blocks with a residual connection around them.

    Args:
        num_feat: Channels in and out.
        num_grow_ch: Channels that each convolution adds.
    """

    def __init__(self, num_feat: int, num_grow_ch: int) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb2 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.rdb3 = ResidualDenseBlock(num_feat, num_grow_ch)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to the same shape."""
        return torch.add(x, self.rdb3(self.rdb2(self.rdb1(x))), alpha=RES_SCALE)


class ResidualDenseBlock(nn.Module):
    """Five convolutions; each gets the input and the outputs of all previous ones.

    Args:
        num_feat: Channels in and out.
        num_grow_ch: Channels that each convolution except the last adds.
    """

    def __init__(self, num_feat: int, num_grow_ch: int) -> None:
        super().__init__()
        self.conv1 = conv3(num_feat, num_grow_ch)
        self.conv2 = conv3(num_feat + num_grow_ch, num_grow_ch)
        self.conv3 = conv3(num_feat + 2 * num_grow_ch, num_grow_ch)
        self.conv4 = conv3(num_feat + 3 * num_grow_ch, num_grow_ch)
        self.conv5 = conv3(num_feat + 4 * num_grow_ch, num_feat)
        scaled_kaiming_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to the same shape."""
        feat = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            feat = torch.cat((feat, lrelu(conv(feat), SLOPE)), dim=1)
        return torch.add(x, self.conv5(feat), alpha=RES_SCALE)

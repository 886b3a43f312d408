"""RRDBNet, the generator of ESRGAN: dense blocks within residual blocks, without normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.residual import scaled_kaiming_
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.registry import ARCH_REGISTRY

RES_SCALE = 0.2
"""Weight of every residual, which keeps so deep a network stable."""


@ARCH_REGISTRY.register()
class RRDBNet(nn.Module):
    """Network of residual-in-residual dense blocks; the defaults are those of ESRGAN.

    The layers always enlarge by 4. For a smaller scale the pixels of the input are first folded
    into channels (pixel unshuffle), 2×2 for scale 2 and 4×4 for scale 1.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features.
        num_block: Residual-in-residual dense blocks.
        num_grow_ch: Channels that each convolution of a dense block adds.
    """

    paper = (
        "Wang et al., ESRGAN: Enhanced super-resolution generative adversarial networks, ECCVW 2018"
    )
    scales = (1, 2, 4)
    num_frame = 1
    size_multiple = 1
    min_size = 1
    checkpoint_blocks = ("body",)

    def __init__(
        self, scale: int = 4, num_feat: int = 64, num_block: int = 23, num_grow_ch: int = 32
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.fold = self.size_multiple = self.min_size = 4 // scale
        self.conv_first = _conv(3 * self.fold**2, num_feat)
        self.body = nn.Sequential(*(RRDB(num_feat, num_grow_ch) for _ in range(num_block)))
        self.conv_body = _conv(num_feat, num_feat)
        self.conv_up1 = _conv(num_feat, num_feat)
        self.conv_up2 = _conv(num_feat, num_feat)
        self.conv_hr = _conv(num_feat, num_feat)
        self.conv_last = _conv(num_feat, 3)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, 3, h, w) in [0, 1] to (N, 3, h * scale, w * scale)."""
        feat = self.conv_first(F.pixel_unshuffle(lq, self.fold))
        feat = feat + self.conv_body(self.body(feat))
        feat = _lrelu(self.conv_up1(_double(feat)))
        feat = _lrelu(self.conv_up2(_double(feat)))
        return self.conv_last(_lrelu(self.conv_hr(feat)))


class RRDB(nn.Module):
    """Three residual dense blocks within one residual.

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
    """Five convolutions, each of which sees the input and the outputs of all before it.

    Args:
        num_feat: Channels in and out.
        num_grow_ch: Channels that each convolution but the last adds.
    """

    def __init__(self, num_feat: int, num_grow_ch: int) -> None:
        super().__init__()
        self.conv1 = _conv(num_feat, num_grow_ch)
        self.conv2 = _conv(num_feat + num_grow_ch, num_grow_ch)
        self.conv3 = _conv(num_feat + 2 * num_grow_ch, num_grow_ch)
        self.conv4 = _conv(num_feat + 3 * num_grow_ch, num_grow_ch)
        self.conv5 = _conv(num_feat + 4 * num_grow_ch, num_feat)
        scaled_kaiming_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to the same shape."""
        feat = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            feat = torch.cat((feat, _lrelu(conv(feat))), dim=1)
        return torch.add(x, self.conv5(feat), alpha=RES_SCALE)


def _conv(num_in: int, num_out: int) -> nn.Conv2d:
    return nn.Conv2d(num_in, num_out, 3, padding=1)


def _lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def _double(x: Tensor) -> Tensor:
    """Repeats every pixel 2×2 times."""
    return F.interpolate(x, scale_factor=2, mode="nearest")

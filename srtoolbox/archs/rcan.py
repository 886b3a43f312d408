"""RCAN: a very deep residual network with attention to channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands, mean_of_bands
from srtoolbox.archs.layers.basic import conv3
from srtoolbox.archs.layers.channel_attention import ChannelAttention
from srtoolbox.archs.layers.upsample import Upsample, check_scale
from srtoolbox.archs.shapes import Shapes, bands_as_options, count_children, scale_of_upsample
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class RCAN(nn.Module):
    """Residual channel attention network; the defaults are the published one.

    Channel attention depends on the whole image, so that a tiled result differs a little.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features.
        num_group: Residual groups of the body.
        num_block: Channel attention blocks of each group. BasicSR's default is 16.
        squeeze_factor: Channels of the features divided by the inner channels of the attention; at
            most ``num_feat``.
        res_scale: Weight of each block's residual.
        img_range: Factor from [0, 1] to the range of values inside; published weights expect 255.
        num_in_ch: Bands of the input. The mean colour is subtracted from 3 bands only (RGB).
        num_out_ch: Bands of the output; None: as many as the input. The mean colour is added to 3
            bands only.
    """

    paper = (
        "Zhang et al., Image super-resolution using very deep residual channel attention networks, "
        "ECCV 2018"
    )
    scales = (2, 3, 4, 8)
    checkpoint_blocks = ("body",)

    mean: Tensor
    out_mean: Tensor

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_group: int = 10,
        num_block: int = 20,
        squeeze_factor: int = 16,
        res_scale: float = 1.0,
        img_range: float = 255.0,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        if not 1 <= squeeze_factor <= num_feat:
            raise UserError(
                f"RCAN: squeeze_factor must be from 1 to num_feat ({num_feat}), got "
                f"{squeeze_factor}; the attention needs at least one inner channel"
            )
        self.img_range = img_range
        for name, number in (("mean", self.channels), ("out_mean", self.out_channels)):
            self.register_buffer(name, mean_of_bands(number), persistent=False)
        self.conv_first = conv3(self.channels, num_feat)
        self.body = nn.Sequential(
            *(
                ResidualGroup(num_feat, num_block, squeeze_factor, res_scale)
                for _ in range(num_group)
            )
        )
        self.conv_after_body = conv3(num_feat, num_feat)
        self.upsample = Upsample(scale, num_feat)
        self.conv_last = conv3(num_feat, self.out_channels)

    @staticmethod
    def options_from_shapes(shapes: Shapes) -> dict[str, Any] | None:
        """Returns the options of the network whose tensors have these shapes; None: of none.

        ``res_scale`` and ``img_range`` have no effect on shapes.
        """
        first, last = shapes.get("conv_first.weight"), shapes.get("conv_last.weight")
        squeeze = shapes.get("body.0.residual_group.0.rcab.3.attention.1.weight")
        if first is None or last is None or squeeze is None:
            return None
        return {
            "scale": scale_of_upsample(shapes, first[0]),
            "num_feat": first[0],
            "num_group": count_children(shapes, "body"),
            "num_block": count_children(shapes, "body.0.residual_group"),
            "squeeze_factor": first[0] // squeeze[0],
            **bands_as_options(first[1], last[0]),
        }

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) in [0, 1] to (N, num_out_ch, h * scale, w * scale)."""
        feat = self.conv_first((lq - self.mean) * self.img_range)
        feat = feat + self.conv_after_body(self.body(feat))
        return self.conv_last(self.upsample(feat)) / self.img_range + self.out_mean


class ResidualGroup(nn.Module):
    """Channel attention blocks and a convolution, with a residual connection around them.

    Args:
        num_feat: Channels in and out.
        num_block: Blocks.
        squeeze_factor: Channels divided by the inner channels of the attention.
        res_scale: Weight of each block's residual.
    """

    def __init__(
        self, num_feat: int, num_block: int, squeeze_factor: int, res_scale: float
    ) -> None:
        super().__init__()
        self.residual_group = nn.Sequential(
            *(ChannelAttentionBlock(num_feat, squeeze_factor, res_scale) for _ in range(num_block))
        )
        self.conv = conv3(num_feat, num_feat)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to the same shape."""
        return self.conv(self.residual_group(x)) + x


class ChannelAttentionBlock(nn.Module):
    """Two convolutions and channel attention, with a residual connection around them (RCAB).

    Args:
        num_feat: Channels in and out.
        squeeze_factor: Channels divided by the inner channels of the attention.
        res_scale: Weight of the residual.
    """

    def __init__(self, num_feat: int, squeeze_factor: int, res_scale: float) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.rcab = nn.Sequential(
            conv3(num_feat, num_feat),
            nn.ReLU(),
            conv3(num_feat, num_feat),
            ChannelAttention(num_feat, num_feat // squeeze_factor),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to the same shape."""
        return torch.add(x, self.rcab(x), alpha=self.res_scale)

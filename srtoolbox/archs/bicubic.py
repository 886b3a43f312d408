"""Bicubic interpolation, the baseline that every network should exceed."""

from __future__ import annotations

from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.upsample import bicubic_upsample, check_scale
from srtoolbox.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class Bicubic(nn.Module):
    """MATLAB-exact bicubic enlargement as a network without parameters.

    Args:
        scale: Factor by which height and width grow.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output, equal to ``num_in_ch``; None: ``num_in_ch``.
    """

    paper = "Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 1981"
    scales = (2, 3, 4, 8)

    def __init__(self, scale: int = 4, num_in_ch: int = 3, num_out_ch: int | None = None) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch, equal=True)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, C, h, w) in [0, 1] to (N, C, h * scale, w * scale); values are not clipped."""
        return bicubic_upsample(lq, self.scale)

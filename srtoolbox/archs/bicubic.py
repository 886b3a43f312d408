"""Bicubic interpolation, the baseline that every network should exceed."""

from __future__ import annotations

from torch import Tensor, nn

from srtoolbox.archs.layers.upsample import bicubic_upsample, check_scale
from srtoolbox.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class Bicubic(nn.Module):
    """MATLAB-exact bicubic enlargement as a network without parameters.

    Args:
        scale: Factor by which height and width grow.
    """

    paper = "Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 1981"
    scales = (2, 3, 4, 8)

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, C, h, w) in [0, 1] to (N, C, h * scale, w * scale); values are not clipped."""
        return bicubic_upsample(lq, self.scale)

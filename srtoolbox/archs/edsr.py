"""EDSR: a plain residual network, the base of most later networks."""

from __future__ import annotations

from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands, mean_of_bands
from srtoolbox.archs.layers.basic import conv3
from srtoolbox.archs.layers.residual import ResidualBlock
from srtoolbox.archs.layers.upsample import Upsample, check_scale
from srtoolbox.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class EDSR(nn.Module):
    """Enhanced deep super-resolution network; the defaults are the published "baseline".

    The large published model has ``num_feat=256, num_block=32, res_scale=0.1``.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features.
        num_block: Residual blocks of the body.
        res_scale: Weight of each residual.
        img_range: Factor from [0, 1] to the range of values inside; published weights expect 255.
        num_in_ch: Bands of the input. The mean colour is subtracted from 3 bands only (RGB).
        num_out_ch: Bands of the output; None: as many as the input. The mean colour is added to 3
            bands only.
    """

    paper = (
        "Lim et al., Enhanced deep residual networks for single image super-resolution, CVPRW 2017"
    )
    scales = (2, 3, 4, 8)
    checkpoint_blocks = ("body",)

    mean: Tensor
    out_mean: Tensor

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 16,
        res_scale: float = 1.0,
        img_range: float = 255.0,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        self.img_range = img_range
        for name, number in (("mean", self.channels), ("out_mean", self.out_channels)):
            self.register_buffer(name, mean_of_bands(number), persistent=False)
        self.conv_first = conv3(self.channels, num_feat)
        self.body = nn.Sequential(*(ResidualBlock(num_feat, res_scale) for _ in range(num_block)))
        self.conv_after_body = conv3(num_feat, num_feat)
        self.upsample = Upsample(scale, num_feat)
        self.conv_last = conv3(num_feat, self.out_channels)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) in [0, 1] to (N, num_out_ch, h * scale, w * scale)."""
        feat = self.conv_first((lq - self.mean) * self.img_range)
        feat = feat + self.conv_after_body(self.body(feat))
        return self.conv_last(self.upsample(feat)) / self.img_range + self.out_mean

"""MDSR: EDSR with one body for several scales."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands, mean_of_bands
from srtoolbox.archs.layers.basic import conv3
from srtoolbox.archs.layers.residual import ResidualBlock
from srtoolbox.archs.layers.upsample import Upsample, check_scale
from srtoolbox.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class MDSR(nn.Module):
    """Multi-scale deep super-resolution network; the defaults are the published "baseline".

    One network has a pre-processing and an upsampler for each of ×2, ×3 and ×4; the body and the
    outer convolutions are shared. ``scale`` selects the parts that `forward` uses, so that one
    weight file serves every scale. The full published model has ``num_block=80``.

    The paper trains all scales together (``scales: [2, 3, 4]`` of the training dataset): each
    batch has one scale, drawn at random, and passes through ``net(lq, scale)``. The optimizer
    leaves the parts of other scales as they are in this step. Trained at one scale, the network is
    an EDSR with a pre-processing, and the parts of the other scales (``dead_parameters``) keep
    their values.

    Args:
        scale: Factor by which height and width grow, unless `forward` gets another.
        num_feat: Channels of the features.
        num_block: Residual blocks of the body.
        res_scale: Weight of each residual of the body.
        img_range: Factor from [0, 1] to the range of values inside.
        num_in_ch: Bands of the input. The mean colour is subtracted from 3 bands only (RGB).
        num_out_ch: Bands of the output; None: as many as the input. The mean colour is added to 3
            bands only.
    """

    paper = (
        "Lim et al., Enhanced deep residual networks for single image super-resolution, CVPRW 2017"
    )
    scales = (2, 3, 4)
    takes_scale = True
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
        self.dead_parameters = tuple(
            f"{part}.x{other}."
            for part in ("pre", "upsample")
            for other in self.scales
            if other != scale
        )
        self.img_range = img_range
        for name, number in (("mean", self.channels), ("out_mean", self.out_channels)):
            self.register_buffer(name, mean_of_bands(number), persistent=False)
        self.conv_first = conv3(self.channels, num_feat)
        self.pre = nn.ModuleDict(
            {
                f"x{factor}": nn.Sequential(_PreBlock(num_feat), _PreBlock(num_feat))
                for factor in self.scales
            }
        )
        self.body = nn.Sequential(*(ResidualBlock(num_feat, res_scale) for _ in range(num_block)))
        self.conv_after_body = conv3(num_feat, num_feat)
        self.upsample = nn.ModuleDict(
            {f"x{factor}": Upsample(factor, num_feat) for factor in self.scales}
        )
        self.conv_last = conv3(num_feat, self.out_channels)

    def forward(self, lq: Tensor, scale: int | None = None) -> Tensor:
        """Maps (N, num_in_ch, h, w) in [0, 1] to (N, num_out_ch, h * scale, w * scale).

        Args:
            lq: The images.
            scale: One of ``scales``; None: the scale that the network was built for.
        """
        part = f"x{self.scale if scale is None else check_scale(self, scale)}"
        feat = self.pre[part](self.conv_first((lq - self.mean) * self.img_range))
        feat = feat + self.conv_after_body(self.body(feat))
        return self.conv_last(self.upsample[part](feat)) / self.img_range + self.out_mean


class _PreBlock(nn.Module):
    """Residual block with 5×5 kernels, which reduces the differences between the scales."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 5, padding=2)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))

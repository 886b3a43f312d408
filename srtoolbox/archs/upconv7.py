"""UpConv7: the network of waifu2x that enlarges by 2."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import init_convs_, lrelu
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.registry import ARCH_REGISTRY

_WIDTHS = (16, 32, 64, 128, 128, 256)
"""Output channels of the convolutions."""

_PADDING = 7
"""Pixels that are added on each side: one for each convolution, one for the last layer."""


@ARCH_REGISTRY.register()
class UpConv7(nn.Module):
    """UpConv7 of waifu2x (nagadomi/waifu2x, © 2015 nagadomi, MIT licence): six layers, then ×2.

    The image is padded by 7 pixels, which repeat its border. Six unpadded 3×3 convolutions with
    LeakyReLU (slope 0.1) remove 6 of them, and the transposed convolution (4×4, stride 2), which
    enlarges, removes the last one. There is no connection around the network. The output is not
    clipped.

    An output pixel depends on LR pixels at a distance of at most 7, so tiles with a halo of 7 give
    the same result as the whole image.

    The published weights have five variants for photographs: without denoising, and with the
    denoising levels 0 to 3. All of them have this form.

    Args:
        scale: 2, because the transposed convolution has the stride 2. For larger powers of 2 apply
            the network several times (``val.enhance.cascade``), as waifu2x does; for other factors
            resize the result.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input.
    """

    paper = "nagadomi, waifu2x, 2015 (upconv_7), after Dong et al., SRCNN, ECCV 2014"
    scales = (2,)

    def __init__(self, scale: int = 2, num_in_ch: int = 3, num_out_ch: int | None = None) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        inputs = (self.channels, *_WIDTHS[:-1])
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3) for i, o in zip(inputs, _WIDTHS, strict=True))
        self.up = nn.ConvTranspose2d(_WIDTHS[-1], self.out_channels, 4, stride=2, padding=3)
        init_convs_(self, partial(nn.init.kaiming_normal_, a=0.1))
        # A quarter of the 4×4 kernel reaches an output pixel.
        nn.init.normal_(self.up.weight, std=(4 * _WIDTHS[-1]) ** -0.5)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) in [0, 1] to (N, num_out_ch, h * 2, w * 2)."""
        x = F.pad(lq, (_PADDING,) * 4, mode="replicate")
        for conv in self.convs:
            x = lrelu(conv(x))
        return self.up(x)

"""Discriminators of GANs. All return logits, which are high for real images."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from srtoolbox.archs.layers.basic import init_convs_, lrelu
from srtoolbox.errors import UserError, check_choice
from srtoolbox.registry import DISCRIMINATOR_REGISTRY


@DISCRIMINATOR_REGISTRY.register()
class VGGStyleDiscriminator(nn.Module):
    """ESRGAN's discriminator: VGG-like convolutions that halve the size, then one score per image.

    Args:
        input_size: Height and width of the images: up to 128 a multiple of 32, above it of 64.
        num_in_ch: Channels of the images.
        num_feat: Channels after the first convolution; they grow up to eight times this number.
        norm: "batch" as published, or "none", which wgan-gp needs.
    """

    paper = "Wang et al., ESRGAN, ECCVW 2018, after Ledig et al., SRGAN, CVPR 2017"

    def __init__(
        self,
        input_size: int = 128,
        num_in_ch: int = 3,
        num_feat: int = 64,
        norm: Literal["batch", "none"] = "batch",
    ) -> None:
        super().__init__()
        num_stage = 5 if input_size <= 128 else 6
        if input_size < 32 or input_size % 2**num_stage:
            raise UserError(
                f"VGGStyleDiscriminator: input_size must be a multiple of {2**num_stage}, got "
                f"{input_size}; 96, 128, 192 and 256 are usual"
            )
        check_choice("VGGStyleDiscriminator: norm", norm, ("batch", "none"))
        self.input_size = input_size

        def block(num_in: int, num_out: int, stride: int, normed: bool = True) -> list[nn.Module]:
            normed = normed and norm == "batch"
            kernel = 4 if stride == 2 else 3
            conv = nn.Conv2d(num_in, num_out, kernel, stride, padding=1, bias=not normed)
            activation = nn.LeakyReLU(0.2, inplace=True)
            return [conv, nn.BatchNorm2d(num_out), activation] if normed else [conv, activation]

        channels = [min(num_feat << stage, 8 * num_feat) for stage in range(num_stage)]
        layers = block(num_in_ch, num_feat, 1, normed=False) + block(num_feat, num_feat, 2)
        for num_in, num_out in pairwise(channels):
            layers += block(num_in, num_out, 1) + block(num_out, num_out, 2)
        self.features = nn.Sequential(*layers)
        area = (input_size >> num_stage) ** 2
        self.classifier = nn.Sequential(
            nn.Linear(channels[-1] * area, 100), nn.LeakyReLU(0.2, inplace=True), nn.Linear(100, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (N, C, input_size, input_size) to scores (N, 1).

        Raises:
            UserError: if the images have another size.
        """
        height, width = image.shape[2:]
        if not height == width == self.input_size:
            raise UserError(
                f"VGGStyleDiscriminator is built for {self.input_size}×{self.input_size} pixels "
                f"but got {height}×{width}; set network_d.input_size to the data's gt_size"
            )
        return self.classifier(self.features(image).flatten(1))


@DISCRIMINATOR_REGISTRY.register()
class UNetDiscriminatorSN(nn.Module):
    """Real-ESRGAN's discriminator: a U-Net with spectral normalisation, one score per pixel.

    Args:
        num_in_ch: Channels of the images.
        num_feat: Channels after the first convolution; they grow up to eight times this number.
        skip_connection: Whether encoder features are added to decoder features of the same size.
    """

    paper = "Wang et al., Real-ESRGAN, ICCVW 2021"

    def __init__(
        self, num_in_ch: int = 3, num_feat: int = 64, skip_connection: bool = True
    ) -> None:
        super().__init__()
        self.skip_connection = skip_connection

        def conv(num_in: int, num_out: int, kernel: int = 3, stride: int = 1) -> nn.Module:
            return spectral_norm(nn.Conv2d(num_in, num_out, kernel, stride, padding=1, bias=False))

        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.down = nn.ModuleList(conv(num_feat << i, num_feat << (i + 1), 4, 2) for i in range(3))
        self.up = nn.ModuleList(conv(num_feat << (i + 1), num_feat << i) for i in (2, 1, 0))
        self.tail = nn.ModuleList(conv(num_feat, num_feat) for _ in range(2))
        self.conv_last = nn.Conv2d(num_feat, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (N, C, H, W), at least 8×8, to scores (N, 1, H, W)."""
        feat = lrelu(self.conv_first(image), 0.2)
        levels = []
        for layer in self.down:
            levels.append(feat)
            feat = lrelu(layer(feat), 0.2)
        for layer in self.up:
            skipped = levels.pop()
            # Interpolated to a given size, because an odd size is not twice the smaller one.
            feat = F.interpolate(feat, skipped.shape[2:], mode="bilinear", align_corners=False)
            feat = lrelu(layer(feat), 0.2)
            if self.skip_connection:
                feat = feat + skipped
        for layer in self.tail:
            feat = lrelu(layer(feat), 0.2)
        return self.conv_last(feat)


@DISCRIMINATOR_REGISTRY.register()
class ISRDiscriminator(nn.Module):
    """ISR's discriminator: convolutions with batch normalisation, one score per 4×4 pixels.

    The original ends with a sigmoid, which is part of the loss here. Padding is TensorFlow's.

    Args:
        num_in_ch: Channels of the images.
    """

    paper = "Cardinale et al., ISR (idealo), 2018, after Ledig et al., SRGAN, CVPR 2017"

    def __init__(self, num_in_ch: int = 3) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(num_in_ch, 64, 3, padding=1)
        channels, strides = (64, 64, 128, 128, 256, 256, 512, 512), (2, 1, 2, 1, 1, 1, 1)
        shapes = zip(channels, channels[1:], strides, strict=False)
        self.blocks = nn.Sequential(*(_ISRBlock(*shape) for shape in shapes))
        self.dense = nn.Conv2d(512, 1024, 1)
        self.score = nn.Conv2d(1024, 1, 1)
        init_convs_(self, nn.init.xavier_uniform_)

    def forward(self, image: Tensor) -> Tensor:
        """Maps images (N, C, H, W) to scores (N, 1, H / 4, W / 4), rounded up."""
        feat = self.blocks(lrelu(self.conv_first(image), 0.2))
        return self.score(lrelu(self.dense(feat), 0.2))


class _ISRBlock(nn.Module):
    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, 3, stride, padding=2 - stride)
        self.norm = nn.BatchNorm2d(num_out, eps=1e-3, momentum=0.2)

    def forward(self, feat: Tensor) -> Tensor:
        if self.conv.stride[0] == 2:  # as TensorFlow pads: above and left only at odd sizes
            height, width = feat.shape[2:]
            feat = F.pad(feat, (width % 2, 1, height % 2, 1))
        return self.norm(lrelu(self.conv(feat), 0.2))

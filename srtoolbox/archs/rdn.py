"""RDN: dense connections inside residual blocks, and a fusion of the features of all blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3
from srtoolbox.archs.layers.upsample import Upsample, check_scale
from srtoolbox.registry import ARCH_REGISTRY


class RDNFeatures(nn.Module):
    """All layers of an RDN except its upsampler; see `RDN` for the arguments."""

    checkpoint_blocks = ("rdbs",)

    def __init__(
        self, num_feat: int, num_block: int, num_layer: int, num_grow_ch: int, num_in_ch: int
    ) -> None:
        super().__init__()
        self.sfe1, self.sfe2 = conv3(num_in_ch, num_feat), conv3(num_feat, num_feat)
        self.rdbs = nn.ModuleList(
            DenseBlock(num_feat, num_layer, num_grow_ch) for _ in range(num_block)
        )
        self.gff = nn.Sequential(
            nn.Conv2d(num_block * num_feat, num_feat, 1), conv3(num_feat, num_feat)
        )

    def features(self, lq: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) to (N, num_feat, h, w)."""
        shallow = self.sfe1(lq)
        feat = self.sfe2(shallow)
        block_feats = []
        for rdb in self.rdbs:
            feat = feat + rdb(feat)
            block_feats.append(feat)
        return shallow + self.gff(torch.cat(block_feats, dim=1))


@ARCH_REGISTRY.register()
class RDN(RDNFeatures):
    """Residual dense network; the defaults are the published one.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features (G0 in the paper).
        num_block: Residual dense blocks (D).
        num_layer: Convolutions of each block (C).
        num_grow_ch: Channels that each of these convolutions adds (G).
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input.
    """

    paper = "Zhang et al., Residual dense network for image super-resolution, CVPR 2018"
    scales = (2, 3, 4, 8)

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 16,
        num_layer: int = 8,
        num_grow_ch: int = 64,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        bands = check_bands(self, num_in_ch, num_out_ch)
        super().__init__(num_feat, num_block, num_layer, num_grow_ch, num_in_ch)
        self.channels, self.out_channels = bands
        self.scale = check_scale(self, scale)
        self.upscale = Upsample(scale, num_feat)
        self.output = nn.Conv2d(num_feat, self.out_channels, 3, padding=1)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) in [0, 1] to (N, num_out_ch, h * scale, w * scale)."""
        return self.output(self.upscale(self.features(lq)))


class DenseBlock(nn.Module):
    """Convolutions that get the outputs of all previous ones, then their fusion; no residual.

    Args:
        num_feat: Channels in and out.
        num_layer: Number of convolutions.
        num_grow_ch: Channels that each of these convolutions adds.
        fusion_size: Kernel size of the fusion.
    """

    def __init__(
        self, num_feat: int, num_layer: int, num_grow_ch: int, fusion_size: int = 1
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(_DenseLayer(num_feat + i * num_grow_ch, num_grow_ch) for i in range(num_layer))
        )
        num_all = num_feat + num_layer * num_grow_ch
        self.lff = nn.Conv2d(num_all, num_feat, fusion_size, padding=fusion_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to the same shape."""
        return self.lff(self.layers(x))


class _DenseLayer(nn.Module):
    """Appends ``num_grow_ch`` channels to its input."""

    def __init__(self, num_in: int, num_grow_ch: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_grow_ch, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, torch.relu(self.conv(x))), dim=1)

"""BIPNet: features of all frames become pseudo-bursts, one for each channel."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.basic import conv3, enlarge
from srtoolbox.archs.layers.burst.frames import beside
from srtoolbox.archs.layers.deform import DeformConv
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

_SLOPE = 0.2
"""Slope of all leaky ReLUs."""


@ARCH_REGISTRY.register()
class BIPNet(nn.Module):
    """Burst image processing by pseudo-bursts.

    Dudhane et al., "Burst Image Restoration and Enhancement", CVPR 2022. The published network maps
    14 packed RAW frames to RGB images of eight times the size: ``scale: 8, num_in_ch: 4,
    num_out_ch: 3``. Names and shapes of the tensors and the outputs are its authors'.

    =====================  ====================  ===================================================
    stage                  shape                 content
    =====================  ====================  ===================================================
    ``conv1``              (N, T, C, h, w)       features of each frame
    ``encoder``            (N, T, C, h, w)       residual blocks with global context
    ``deform1`` … 4        (N, T, C, h, w)       deformable alignment to the first frame, which is
                                                 aligned to itself too
    ``feat_ext1``          (N, T, C, h, w)       adds the difference to the first frame
    ``conv2``              (N, C, C, h, w)       for each channel, a map from that of all frames
    ``UNet``               (N, C, C, h, w)       residual blocks in three sizes, for each map
    ``SKFF1`` … n          (N, 1, C, ·, ·)       each merges groups of maps; the last ones double
                                                 the size
    ``conv3``              (N, bands, ·, ·)      the image
    =====================  ====================  ===================================================

    A tiled result differs a little from that of the whole image, because the context is a mean over
    all pixels, and because an enlargement aligns the corners.

    Args:
        scale: 8 is published. 4 and 2 are ours: the same network with fewer steps that double.
        num_feat: Channels C, a power of ``num_merge``; 64 is published. There is a step for each
            power: 64 = 4³ has three.
        num_frame: Frames of a burst, the reference first; 14 in the paper. It fixes a layer.
        num_merge: Neighbouring maps that a step merges; 4 is published.
        num_group: Groups of residual blocks in ``encoder`` and in ``feat_ext1``.
        num_block: Residual blocks in each of these groups.
        num_unet_group: Groups of residual blocks in each part of the U-net; its smallest size has
            half as many.
        num_unet_block: Residual blocks in each of these groups.
        deformable_groups: Groups of channels, each with its own offsets and weights.
        skip: Add the bilinear enlargement of the first frame to the result; this is ours.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input. With ``skip`` they are equal.
    """

    paper = "Dudhane et al., Burst image restoration and enhancement (BIPNet), CVPR 2022"
    scales = (2, 4, 8)
    num_frame = 14
    size_multiple = 4
    min_size = 4
    checkpoint_blocks = ("encoder", "feat_ext1")

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_frame: int = 14,
        num_merge: int = 4,
        num_group: int = 3,
        num_block: int = 3,
        num_unet_group: int = 2,
        num_unet_block: int = 2,
        deformable_groups: int = 8,
        skip: bool = False,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch, equal=skip)
        if num_frame < 1:
            raise UserError(f"BIPNet: num_frame must be at least 1, got {num_frame}")
        self.num_frame, self.skip = num_frame, skip
        doubling = scale.bit_length() - 1
        num_step = self._steps(num_feat, num_merge, doubling)

        def groups(number: int) -> nn.Sequential:
            return nn.Sequential(*(ContextGroup(num_feat, num_block) for _ in range(number)))

        deform = partial(
            DeformConv, num_feat, num_feat, deformable_groups, groups=deformable_groups
        )
        self.conv1 = nn.Sequential(conv3(self.channels, num_feat, bias=False))
        self.encoder = groups(num_group)
        self.bottleneck = conv3(2 * num_feat, num_feat, bias=False)
        for number in range(1, 5):
            layer = deform()
            offset_conv = conv3(num_feat, layer.offset_channels * 3 // 2, bias=False)
            self.add_module(f"offset_conv{number}", offset_conv)
            self.add_module(f"deform{number}", layer)
        self.feat_ext1 = groups(num_group)
        self.cor_conv1 = nn.Sequential(conv3(num_feat, num_feat, bias=False))
        self.conv2 = nn.Sequential(conv3(num_frame, num_feat, bias=False))
        self.UNet = nn.Sequential(UNet(num_feat, num_unet_group, num_unet_block))
        for number in range(1, num_step + 1):
            stride = 2 if number > num_step - doubling else 1
            self.add_module(f"SKFF{number}", GroupFusion(num_feat, num_merge, stride))
        self.num_step = num_step
        self.conv3 = nn.Sequential(conv3(num_feat, self.out_channels, bias=False))

    def forward(self, lq: Tensor) -> Tensor:
        """Maps bursts to images.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1], T = ``num_frame``, h and w multiples of 4; images
                (N, num_in_ch, h, w) if ``num_frame`` is 1.

        Returns:
            (N, num_out_ch, h·scale, w·scale).
        """
        lq = lq[:, None] if lq.dim() == 4 else lq
        shape = lq.shape[:2]
        base = self.conv1(lq.flatten(0, 1))
        feat = self._align(self.encoder(base).unflatten(0, shape))
        feat = self.feat_ext1(feat)
        first = base.unflatten(0, shape)[:, :1]
        feat = feat + self.cor_conv1((feat.unflatten(0, shape) - first).flatten(0, 1))
        # (N, T, C, h, w) to (N·C, T, h, w): the channels become the batch.
        maps = feat.unflatten(0, shape).transpose(1, 2).flatten(0, 1)
        maps = self.UNet(self.conv2(maps))
        for number in range(1, self.num_step + 1):
            maps = self.get_submodule(f"SKFF{number}")(maps)
        sr = self.conv3(maps)
        return sr + enlarge(lq[:, 0], self.scale) if self.skip else sr

    def _align(self, x: Tensor) -> Tensor:
        """Aligns frames (N, T, C, h, w) to the first one: (N·T, C, h, w)."""
        frames = x.flatten(0, 1)
        feat = beside(self.bottleneck, x[:, 0], x)
        for number in range(1, 5):
            layer = self.get_submodule(f"deform{number}")
            both = self.get_submodule(f"offset_conv{number}")(feat)
            offset, mask = both.split((layer.offset_channels, both.shape[1] // 3), 1)
            # The third one moves the frames themselves; the first two only estimate the motion.
            feat = layer(frames if number == 3 else feat, offset, torch.sigmoid(mask))
        return feat

    @staticmethod
    def _steps(num_feat: int, num_merge: int, doubling: int) -> int:
        """Returns the number of steps that merge all maps to one, at least ``doubling``."""
        if num_merge < 2:
            raise UserError(f"BIPNet: num_merge must be at least 2, got {num_merge}")
        maps, steps = 1, 0
        while maps < num_feat:
            maps, steps = maps * num_merge, steps + 1
        if maps != num_feat or steps < max(doubling, 1):
            fewest = num_merge ** max(doubling, 1)
            raise UserError(
                f"BIPNet: num_feat must be a power of num_merge ({num_merge}) and, for scale "
                f"{2**doubling}, at least {fewest}, got {num_feat}"
            )
        return steps


class ContextBlock(nn.Module):
    """Residual block that adds a global context to every pixel: (N, C, h, w) to the same shape."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv3(num_feat, num_feat, bias=False),
            nn.LeakyReLU(_SLOPE),
            conv3(num_feat, num_feat, bias=False),
        )
        self.gcnet = nn.Sequential(GlobalContext(num_feat))
        self.conv1x1 = nn.Conv2d(num_feat, num_feat, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv1x1(self.gcnet(self.body(x)))


class GlobalContext(nn.Module):
    """Adds a function of a weighted mean over all pixels (Cao et al., GCNet, ICCVW 2019)."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv_mask = nn.Conv2d(num_feat, 1, 1, bias=False)
        self.channel_add_conv = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 1, bias=False),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(num_feat, num_feat, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.conv_mask(x).flatten(2).softmax(2)  # (N, 1, pixels)
        context = x.flatten(2) @ weights.transpose(1, 2).to(x.dtype)
        return x + self.channel_add_conv(context[..., None])


class ContextGroup(nn.Module):
    """Residual group of blocks and a convolution: (N, C, h, w) to the same shape."""

    def __init__(self, num_feat: int, num_block: int) -> None:
        super().__init__()
        blocks = [ContextBlock(num_feat) for _ in range(num_block)]
        self.module = nn.Sequential(*blocks, conv3(num_feat, num_feat, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.module(x)


class UNet(nn.Module):
    """Residual groups at the full, the half and a quarter of the size: (N, C, h, w) to the same."""

    def __init__(self, num_feat: int, num_group: int, num_block: int) -> None:
        super().__init__()

        def groups(width: int, number: int) -> nn.Sequential:
            return nn.Sequential(*(ContextGroup(width, num_block) for _ in range(number)))

        wide = int(1.5 * num_feat)
        widest = int(1.5 * wide)
        self.feat_ext1 = groups(num_feat, num_group)
        self.feat_ext2 = groups(wide, num_group)
        self.feat_ext3 = groups(widest, max(1, num_group // 2))
        self.feat_ext5 = groups(wide, num_group)
        self.feat_ext6 = groups(num_feat, num_group)
        self.down1, self.down2 = Down(num_feat, wide), Down(wide, widest)
        self.up1, self.up2 = Up(wide, num_feat), Up(widest, wide)

    def forward(self, x: Tensor) -> Tensor:
        full = self.feat_ext1(x)
        half = self.feat_ext2(self.down1(full))
        quarter = self.feat_ext3(self.down2(half))
        half = self.feat_ext5(self.up2(quarter) + half)
        return self.feat_ext6(self.up1(half) + full)


class Down(nn.Module):
    """Mean over 2×2 pixels, then a 1×1 convolution."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        # Sizes are multiples of 4, so the rounding and the borders of the pooling do not matter.
        self.down = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(num_in, num_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(x)


class Up(nn.Module):
    """1×1 convolution, then bilinear enlargement by 2 that aligns the corners."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Conv2d(num_in, num_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return enlarge(self.up(x), 2, align_corners=True)


class GroupFusion(nn.Module):
    """Merges groups of neighbouring maps by weights for each pixel and channel.

    The weights are a softmax over the maps of a group (Li et al., "Selective Kernel Networks", CVPR
    2019, without the pooling).

    Args:
        num_feat: Channels C.
        num_merge: Maps of a group.
        stride: Factor by which height and width grow.
    """

    def __init__(self, num_feat: int, num_merge: int, stride: int) -> None:
        super().__init__()
        narrow = max(num_feat // 8, 4)
        self.num_merge = num_merge
        self.conv_du = nn.Sequential(
            nn.Conv2d(num_feat, narrow, 1, bias=False), nn.LeakyReLU(_SLOPE)
        )
        self.convs = nn.ModuleList(
            nn.Conv2d(narrow, num_feat, 1, bias=False) for _ in range(num_merge)
        )
        self.up = nn.ConvTranspose2d(
            num_merge * num_feat,
            num_feat,
            3,
            stride,
            padding=1,
            output_padding=stride - 1,
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N·num_merge, C, h, w) to (N, C, h·stride, w·stride)."""
        maps = x.unflatten(0, (-1, self.num_merge))
        shared = self.conv_du(maps.sum(1))
        logits = torch.stack([conv(shared) for conv in self.convs], 1)
        return self.up((maps * logits.softmax(1)).flatten(1, 2))

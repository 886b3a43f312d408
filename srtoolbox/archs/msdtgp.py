"""MSDTGP: multi-scale deformable alignment, then projection of groups of frames to the HR grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import check_bands
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.archs.layers.video.msd import (
    ConvBlock,
    DeconvBlock,
    MSDAlignment,
    TAtt,
    resnet_blocks,
    start_kaiming,
)
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

# Kernel size, stride and padding of the layers between the LR and the HR grid, for each scale.
PROJECTION = {2: (6, 2, 2), 4: (8, 4, 2), 8: (12, 8, 2)}


@ARCH_REGISTRY.register()
class MSDTGP(nn.Module):
    """Multi-scale deformable alignment and temporal grouping projection, for satellite video.

    The two frames at the same distance from the reference form a group with it. The farthest group
    comes first. Each group is projected to the HR grid, its new information is added there, and
    the result is projected back. The network does not add its result to an enlarged frame.

    Args:
        scale: Factor by which height and width grow; 4 in the paper.
        num_feat: Channels of a frame's features and of the features on the HR grid.
        num_wide_feat: Channels of the state that is refined on the LR grid.
        num_extract_block: Residual blocks applied to each frame.
        num_block: Residual blocks in each step of a projection.
        deformable_groups: Groups of channels, each with its own offsets; divides ``num_feat``.
        num_frame: Frames of a clip, odd; the middle one is the reference.
        legacy: Start the offsets at random values instead of zero, a mistake of the public code.
        num_in_ch: Bands of the input.
        num_out_ch: Bands of the output; None: as many as the input.
    """

    paper = "Xiao et al., Satellite video SR via multiscale deformable convolution, TGRS 2022"
    scales = (2, 4, 8)
    num_frame = 5
    reference = 2
    checkpoint_blocks = ("DBPN", "res_feat1", "res_feat2", "res_feat3")

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_wide_feat: int = 256,
        num_extract_block: int = 3,
        num_block: int = 5,
        deformable_groups: int = 8,
        num_frame: int = 5,
        legacy: bool = False,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        if num_frame < 3 or num_frame % 2 == 0:
            raise UserError(f"MSDTGP: num_frame must be odd and at least 3, got {num_frame}")
        self.num_frame = num_frame
        self.reference = num_frame // 2
        kernel = PROJECTION[scale]

        self.feat0 = ConvBlock(self.channels, num_wide_feat)
        self.feat_all = ConvBlock(self.channels, num_feat)
        self.res_feat_ext = resnet_blocks(num_extract_block, num_feat)
        self.DBPN = DBPN(num_wide_feat, num_feat, kernel)
        self.alignment1 = MSDAlignment(num_feat, deformable_groups)
        self.fusion1 = ConvBlock(3 * num_feat, num_wide_feat)
        self.res_feat1 = resnet_blocks(
            num_block, num_wide_feat, DeconvBlock(num_wide_feat, num_feat, *kernel)
        )
        self.res_feat2 = resnet_blocks(num_block, num_feat, ConvBlock(num_feat, num_feat))
        self.res_feat3 = resnet_blocks(
            num_block, num_feat, ConvBlock(num_feat, num_wide_feat, *kernel)
        )
        self.TAtt = TAtt(num_feat)
        num_last = (self.reference + 1) * num_feat
        self.output = ConvBlock(num_last, self.out_channels, activation=False)
        start_kaiming(self, offsets=legacy)

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolves the middle frame of each clip.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1], T = ``num_frame``.

        Returns:
            (N, num_out_ch, h * scale, w * scale).
        """
        middle = self.reference
        feat = self.res_feat_ext(self.feat_all(lq.flatten(0, 1))).unflatten(0, lq.shape[:2])
        aligned = self.alignment1.align_clip(feat, middle)

        state = self.feat0(lq[:, middle])
        projected = []
        for distance in range(middle, 0, -1):
            group = aligned[:, [middle - distance, middle, middle + distance]].flatten(1, 2)
            known = self.DBPN(state)
            seen = self.res_feat1(self.fusion1(group))
            projected.append(known + self.res_feat2(known - seen))
            state = self.res_feat3(projected[-1])
        return self.output(self.TAtt(torch.stack((self.DBPN(state), *projected), dim=1)))


class DBPN(nn.Module):
    """Deep back-projection (Haris et al., CVPR 2018) to the HR grid: three steps up, two down.

    Args:
        num_in: Channels of the input.
        num_feat: Channels of the inner layers and of the output.
        kernel: Kernel size, stride and padding of the layers between the grids.
    """

    def __init__(self, num_in: int, num_feat: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.feat1 = ConvBlock(num_in, num_feat, 1)
        self.up1 = UpBlock(num_feat, kernel)
        self.down1 = DownBlock(num_feat, kernel)
        self.up2 = UpBlock(num_feat, kernel)
        self.down2 = DownBlock(num_feat, kernel)
        self.up3 = UpBlock(num_feat, kernel)
        self.output = ConvBlock(3 * num_feat, num_feat, 1, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_in, h, w) to (N, num_feat, h * scale, w * scale)."""
        first = self.up1(self.feat1(x))
        second = self.up2(self.down1(first))
        third = self.up3(self.down2(second))
        return self.output(torch.cat((third, second, first), dim=1))


class UpBlock(nn.Module):
    """Up-projection: enlarges, reduces again, and adds the enlarged error of this round trip."""

    def __init__(self, num_feat: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.up_conv1 = DeconvBlock(num_feat, num_feat, *kernel)
        self.up_conv2 = ConvBlock(num_feat, num_feat, *kernel)
        self.up_conv3 = DeconvBlock(num_feat, num_feat, *kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to (N, num_feat, h * scale, w * scale)."""
        up = self.up_conv1(x)
        return up + self.up_conv3(self.up_conv2(up) - x)


class DownBlock(nn.Module):
    """Down-projection: reduces, enlarges again, and adds the reduced error of this round trip."""

    def __init__(self, num_feat: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.down_conv1 = ConvBlock(num_feat, num_feat, *kernel)
        self.down_conv2 = DeconvBlock(num_feat, num_feat, *kernel)
        self.down_conv3 = ConvBlock(num_feat, num_feat, *kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h * scale, w * scale) to (N, num_feat, h, w)."""
        down = self.down_conv1(x)
        return down + self.down_conv3(self.down_conv2(down) - x)

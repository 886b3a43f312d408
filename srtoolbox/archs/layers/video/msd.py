"""What MSDTGP, LGTD and MSTT-STVSR share: alignment by multi-scale deformable convolution,
attention to frames, and blocks with PReLU. The names are those of the published weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.deform import DeformConv, align_frames


class MSDAlignment(nn.Module):
    """Multi-scale deformable alignment of one frame's features with another's.

    Xiao et al., TGRS 2022. Kernels of three sizes look for large and small displacements, and one
    deformable convolution moves the frame by what they find.

    Args:
        num_feat: Channels of the features.
        deformable_groups: Groups of channels with offsets of their own; divides ``num_feat``.
    """

    def __init__(self, num_feat: int = 64, deformable_groups: int = 8) -> None:
        super().__init__()
        self.offset_conv1 = nn.Conv2d(2 * num_feat, num_feat, 3, padding=1)
        self.mul_scale1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.mul_scale2 = nn.Conv2d(num_feat, num_feat, 5, padding=2)
        self.mul_scale3 = nn.Conv2d(num_feat, num_feat, 7, padding=3)
        self.offset_conv2 = nn.Conv2d(3 * num_feat, num_feat, 3, padding=1)
        self.dcnpack = DCNSep(num_feat, deformable_groups)

    def forward(self, frame: Tensor, reference: Tensor) -> Tensor:
        """Maps two (M, num_feat, h, w) to the first as seen from the second, of the same shape."""
        both = _lrelu(self.offset_conv1(torch.cat((frame, reference), dim=1)))
        scales = [
            _lrelu(conv(both)) for conv in (self.mul_scale1, self.mul_scale2, self.mul_scale3)
        ]
        guidance = both + _lrelu(self.offset_conv2(torch.cat(scales, dim=1)))
        return _lrelu(self.dcnpack(frame, guidance))

    def align_clip(self, frames: Tensor, reference: int) -> Tensor:
        """Aligns every frame of (N, T, num_feat, h, w), the reference too, with the reference."""

        def align(frame: list[Tensor], fixed: list[Tensor]) -> Tensor:
            return self(frame[0], fixed[0])

        return align_frames(align, [frames], [frames[:, reference]])


class DCNSep(DeformConv):
    """DCNv2 (Zhu et al., CVPR 2019) that makes its offsets and mask from a guiding feature.

    They start at zero: at first the layer is a convolution with halved weights.

    Args:
        num_feat: Channels of the input, of the guidance and of the output.
        deformable_groups: Groups of channels with offsets and masks of their own.
    """

    def __init__(self, num_feat: int = 64, deformable_groups: int = 8) -> None:
        super().__init__(num_feat, num_feat, 3, deformable_groups)
        self.conv_offset_mask = nn.Conv2d(num_feat, self.offset_channels * 3 // 2, 3, padding=1)
        nn.init.zeros_(self.conv_offset_mask.weight)
        nn.init.zeros_(self.conv_offset_mask.bias)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """Maps x and guidance, both (N, num_feat, h, w), to the same shape."""
        made = self.conv_offset_mask(guidance)
        offset, mask = made.split([self.offset_channels, self.offset_channels // 2], dim=1)
        return super().forward(x, offset, torch.sigmoid(mask))


class TAtt(nn.Module):
    """Temporal attention of EDVR (Wang et al., CVPRW 2019): weighs maps by their likeness to one.

    Args:
        num_feat: Channels of the maps.
        reference: Index of the map that the others are compared with.
    """

    def __init__(self, num_feat: int = 64, reference: int = 0) -> None:
        super().__init__()
        self.reference = reference
        self.tAtt_1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.tAtt_2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, T, num_feat, h, w) to (N, T * num_feat, h, w)."""
        reference = self.tAtt_2(maps[:, self.reference])
        embedded = self.tAtt_1(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        likeness = (embedded * reference.unsqueeze(1)).sum(dim=2, keepdim=True)
        return (maps * torch.sigmoid(likeness)).flatten(1, 2)


class ConvBlock(nn.Module):
    """Convolution and PReLU with one slope for all channels.

    Args:
        num_in: Channels of the input.
        num_out: Channels of the output.
        kernel_size: Side of the kernel.
        stride: Step of the kernel.
        padding: Zeros around the input; by default the size stays at stride 1.
        activation: Whether there is the PReLU.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        activation: bool = True,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2 if padding is None else padding
        self.conv = nn.Conv2d(num_in, num_out, kernel_size, stride, padding)
        self.act = nn.PReLU() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_in, h, w) to (N, num_out, ·, ·)."""
        return self.act(self.conv(x))


class DeconvBlock(nn.Module):
    """Transposed convolution and PReLU; the arguments are those of `ConvBlock`."""

    def __init__(
        self, num_in: int, num_out: int, kernel_size: int, stride: int, padding: int
    ) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(num_in, num_out, kernel_size, stride, padding)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_in, h, w) to (N, num_out, ·, ·)."""
        return self.act(self.deconv(x))


class ResnetBlock(nn.Module):
    """Residual block with one PReLU, used between the convolutions and after the sum.

    Args:
        num_feat: Channels in and out.
    """

    def __init__(self, num_feat: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to the same shape."""
        return self.act(x + self.conv2(self.act(self.conv1(x))))


def resnet_blocks(num_block: int, num_feat: int, *tail: nn.Module) -> nn.Sequential:
    """``num_block`` residual blocks one after the other, and what follows them."""
    return nn.Sequential(*(ResnetBlock(num_feat) for _ in range(num_block)), *tail)


def start_kaiming(net: nn.Module, offsets: bool = False) -> None:
    """Sets all convolutions to Kaiming-normal weights and zero biases, as MSDTGP and LGTD start.

    Args:
        net: Changed in place.
        offsets: Those that make offsets, too; otherwise they start at zero.
    """
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    for layer in net.modules():
        if isinstance(layer, DCNSep) and not offsets:
            nn.init.zeros_(layer.conv_offset_mask.weight)


def _lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)

"""Layers of MSDTGP, LGTD and MSTT-STVSR: alignment by multi-scale deformable convolution, temporal
attention, and blocks with PReLU. Attributes have the names of the published weights."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.basic import conv3, init_convs_, lrelu
from srtoolbox.archs.layers.deform import ModulatedDeformConvPack, align_frames
from srtoolbox.archs.layers.tsa import weigh_frames


class MSDAlignment(nn.Module):
    """Multi-scale deformable alignment of a frame's features to the reference's.

    Xiao et al., TGRS 2022. Kernels of three sizes detect small and large displacements; from their
    features, one deformable convolution aligns the frame.

    Args:
        num_feat: Channels of the features.
        deformable_groups: Groups of channels, each with its own offsets; divides ``num_feat``.
    """

    def __init__(self, num_feat: int = 64, deformable_groups: int = 8) -> None:
        super().__init__()
        self.offset_conv1 = conv3(2 * num_feat, num_feat)
        self.mul_scale1 = conv3(num_feat, num_feat)
        self.mul_scale2 = nn.Conv2d(num_feat, num_feat, 5, padding=2)
        self.mul_scale3 = nn.Conv2d(num_feat, num_feat, 7, padding=3)
        self.offset_conv2 = conv3(3 * num_feat, num_feat)
        self.dcnpack = DCNSep(num_feat, num_feat, deformable_groups)

    def forward(self, frame: Tensor, reference: Tensor) -> Tensor:
        """Aligns ``frame`` to ``reference``, both (M, num_feat, h, w); returns the same shape."""
        both = lrelu(self.offset_conv1(torch.cat((frame, reference), dim=1)))
        scales = [lrelu(conv(both)) for conv in (self.mul_scale1, self.mul_scale2, self.mul_scale3)]
        guidance = both + lrelu(self.offset_conv2(torch.cat(scales, dim=1)))
        return lrelu(self.dcnpack(frame, guidance))

    def align_clip(self, frames: Tensor, reference: int) -> Tensor:
        """Aligns all frames (N, T, num_feat, h, w) to the one at index ``reference``."""
        one_level = [frames], [frames[:, reference]]
        return align_frames(lambda frame, fixed: self(*frame, *fixed), *one_level)


class DCNSep(ModulatedDeformConvPack):
    """`ModulatedDeformConvPack` with the name that published weights have."""

    offset_name = "conv_offset_mask"


class TAtt(nn.Module):
    """Temporal attention of EDVR (Wang et al., CVPRW 2019): weighs maps by similarity to one map.

    Args:
        num_feat: Channels of the maps.
        reference: Index of the map that the others are compared with.
    """

    def __init__(self, num_feat: int = 64, reference: int = 0) -> None:
        super().__init__()
        self.reference = reference
        self.tAtt_1 = conv3(num_feat, num_feat)
        self.tAtt_2 = conv3(num_feat, num_feat)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, T, num_feat, h, w) to (N, T * num_feat, h, w)."""
        reference = self.tAtt_2(maps[:, self.reference])
        embedded = self.tAtt_1(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        return weigh_frames(maps, embedded, reference)


class ConvBlock(nn.Sequential):
    """Convolution and PReLU with one slope: maps (N, num_in, h, w) to (N, num_out, ·, ·).

    Args:
        num_in: Channels of the input.
        num_out: Channels of the output.
        kernel_size: Height and width of the kernel.
        stride: Stride of the convolution.
        padding: Zeros added on each side; None: half of the kernel size.
        activation: Whether to apply the PReLU.
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
        padding = kernel_size // 2 if padding is None else padding
        conv = nn.Conv2d(num_in, num_out, kernel_size, stride, padding)
        super().__init__(OrderedDict(conv=conv, act=nn.PReLU() if activation else nn.Identity()))


class DeconvBlock(nn.Sequential):
    """Transposed convolution and PReLU; arguments and shapes are those of `ConvBlock`."""

    def __init__(
        self, num_in: int, num_out: int, kernel_size: int, stride: int, padding: int
    ) -> None:
        deconv = nn.ConvTranspose2d(num_in, num_out, kernel_size, stride, padding)
        super().__init__(OrderedDict(deconv=deconv, act=nn.PReLU()))


class ResnetBlock(nn.Module):
    """Residual block with one PReLU, applied between the convolutions and after the sum.

    Args:
        num_feat: Channels in and out.
    """

    def __init__(self, num_feat: int = 64) -> None:
        super().__init__()
        self.conv1 = conv3(num_feat, num_feat)
        self.conv2 = conv3(num_feat, num_feat)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to the same shape."""
        return self.act(x + self.conv2(self.act(self.conv1(x))))


def resnet_blocks(num_block: int, num_feat: int, *tail: nn.Module) -> nn.Sequential:
    """Returns ``num_block`` residual blocks, followed by the modules of ``tail``."""
    return nn.Sequential(*(ResnetBlock(num_feat) for _ in range(num_block)), *tail)


def start_kaiming(net: nn.Module, offsets: bool = False) -> None:
    """Sets all convolutions to Kaiming-normal weights and zero biases, as MSDTGP and LGTD do.

    Args:
        net: The network; its parameters are changed in place.
        offsets: Whether this includes the convolutions that compute offsets; else they are zero.
    """
    init_convs_(net, nn.init.kaiming_normal_)
    for layer in net.modules():
        if isinstance(layer, DCNSep) and not offsets:
            nn.init.zeros_(layer.get_parameter(f"{layer.offset_name}.weight"))

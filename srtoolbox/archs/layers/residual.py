"""Residual blocks without normalisation, and the initialisation of deep stacks of them."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.basic import init_convs_

Module = TypeVar("Module", bound=nn.Module)


class ResidualBlock(nn.Module):
    """``x + res_scale * conv2(relu(conv1(x)))``, the block of EDSR (Lim et al., CVPRW 2017).

    It has no batch normalisation, which needs memory, restricts the range of values, and does not
    improve super-resolution.

    Args:
        num_feat: Channels in and out.
        res_scale: Weight of the residual; values below 1 keep very wide or deep networks stable.
    """

    def __init__(self, num_feat: int = 64, res_scale: float = 1.0) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to the same shape."""
        residual = self.conv2(torch.relu(self.conv1(x)))
        return torch.add(x, residual, alpha=self.res_scale)


def residual_blocks(num_block: int, num_feat: int = 64) -> nn.Sequential:
    """Returns residual blocks that start close to the identity (see `scaled_kaiming_`)."""
    return nn.Sequential(*(scaled_kaiming_(ResidualBlock(num_feat)) for _ in range(num_block)))


@torch.no_grad()
def scaled_kaiming_(module: Module, gain: float = 0.1) -> Module:
    """Sets every convolution inside to Kaiming-normal weights times ``gain`` and zero bias.

    With a small gain each residual branch starts near zero, so that a deep stack of blocks starts
    near the identity and trains without normalisation.

    Returns:
        The module itself.
    """
    init_convs_(module, lambda weight: nn.init.kaiming_normal_(weight).mul_(gain))
    return module

"""Residual blocks without normalisation, and the initialisation of deep stacks of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """``x + res_scale * conv2(relu(conv1(x)))``, the block of EDSR (Lim et al., CVPRW 2017).

    Batch normalisation is left out on purpose: it costs range and memory and gains nothing here.

    Args:
        num_feat: Channels in and out.
        res_scale: Weight of the residual; below 1 it keeps very wide or deep nets stable.
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
    """``num_block`` residual blocks that start close to the identity (see `scaled_kaiming_`)."""
    return nn.Sequential(*(scaled_kaiming_(ResidualBlock(num_feat)) for _ in range(num_block)))


@torch.no_grad()
def scaled_kaiming_(module: nn.Module, gain: float = 0.1) -> nn.Module:
    """Sets every convolution inside to Kaiming-normal weights times ``gain`` and zero bias.

    A small gain makes each residual branch start near zero, so that a deep stack starts as the
    identity and trains without normalisation.

    Returns:
        The module itself.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.mul_(gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module

"""Runs a network with several scales at one of them."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from srtoolbox.archs.base import ArchInfo, arch_info


class AtScale(nn.Module):
    """A network at another of its scales, used like a registered arch; it shares the weights.

    Args:
        net: A registered arch that declares ``takes_scale``.
        scale: One of its ``scales``.
    """

    def __init__(self, net: nn.Module, scale: int) -> None:
        super().__init__()
        for field in dataclasses.fields(ArchInfo):
            setattr(self, field.name, getattr(arch_info(net), field.name))
        self.net, self.scale, self.takes_scale = net, scale, False
        self.training = net.training

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, C, h, w) in [0, 1] to (N, C', h * scale, w * scale)."""
        return self.net(lq, scale=self.scale)


def at_scale(net: nn.Module, scale: int) -> nn.Module:
    """Returns ``net`` itself, or a network with its weights for another scale.

    Args:
        net: A registered arch.
        scale: The scale of a dataset. A network that does not take several scales is returned as
            it is.
    """
    if not arch_info(net).takes_scale or scale == net.scale:
        return net
    return AtScale(net, scale)

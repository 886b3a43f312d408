"""The one place where inputs are padded to what a network requires, and outputs cropped back."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.models.frames import run_network


def run_padded(net: nn.Module, lq: Tensor) -> Tensor:
    """The SR image of ``lq`` whatever its size.

    The right and lower edges are repeated until height and width are multiples of the network's
    ``size_multiple`` and at least its ``min_size``; the surplus is cut from the result.

    Args:
        net: A registered arch.
        lq: What the network takes: (N, C, h, w), or (N, T, C, h, w) if it is a multi-frame one.

    Returns:
        (N, C, h·scale, w·scale), or (N, T', …) of a network that restores all frames.
    """
    height, width = lq.shape[-2:]
    bottom, right = _missing(net, height), _missing(net, width)
    if bottom or right:
        flat = F.pad(lq.flatten(0, -4), (0, right, 0, bottom), mode="replicate")
        lq = flat.unflatten(0, lq.shape[:-3])
    output = run_network(net, lq)
    sr = output["sr"] if isinstance(output, dict) else output
    return sr[..., : height * net.scale, : width * net.scale]


def accepts_size(net: nn.Module, length: int) -> bool:
    """Whether the network takes an LR side of ``length`` pixels as it is."""
    return _missing(net, length) == 0


def _missing(net: nn.Module, length: int) -> int:
    """How many pixels a side of ``length`` lacks."""
    multiple = net.size_multiple
    wanted = max(length, net.min_size)
    return (wanted + multiple - 1) // multiple * multiple - length

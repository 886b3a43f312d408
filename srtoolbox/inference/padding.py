"""Pads inputs to the sizes that a network takes, and crops its outputs."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.base import ArchInfo, arch_info
from srtoolbox.errors import UserError
from srtoolbox.models.frames import run_network


def run_padded(net: nn.Module, lq: Tensor) -> Tensor:
    """Runs ``net`` on images of any size.

    The right and bottom edges are repeated until height and width are multiples of the network's
    ``size_multiple`` and at least its ``min_size``, or equal its ``input_size``, and equal each
    other if it is ``square``; the output is cropped accordingly.

    Args:
        net: A registered arch.
        lq: (N, C, h, w), or (N, T, C, h, w) for a multi-frame network, in [0, 1].

    Returns:
        SR images (N, C, h·scale, w·scale), or (N, T', C, h·scale, w·scale) if the network restores
        all frames.

    Raises:
        UserError: if the images are larger than the only size that the network takes.
    """
    height, width = lq.shape[-2:]
    info, scale = arch_info(net), cast(int, net.scale)
    if info.input_size is not None:
        rows, columns = info.input_size
        if height > rows or width > columns:
            raise UserError(
                f"{type(net).__name__} takes only images of {rows}x{columns} pixels, got "
                f"{height}x{width}; run it in tiles (val.tile: {min(rows, columns)})"
            )
        lq = pad_to(lq, rows, columns)
    else:
        rows, columns = (side + _missing(info, side) for side in (height, width))
        if info.square:
            rows = columns = max(rows, columns)
        lq = pad_to(lq, rows, columns)
    output = run_network(net, lq)
    sr = output["sr"] if isinstance(output, dict) else output
    return sr[..., : height * scale, : width * scale]


def pad_to(lq: Tensor, height: int, width: int) -> Tensor:
    """Repeats the right and bottom edges of (…, C, h, w) until it is (…, C, height, width)."""
    bottom, right = height - lq.shape[-2], width - lq.shape[-1]
    if not (bottom or right):
        return lq
    flat = F.pad(lq.flatten(0, -4), (0, right, 0, bottom), mode="replicate")
    return flat.unflatten(0, lq.shape[:-3])


def accepts_size(net: nn.Module, length: int) -> bool:
    """Returns whether the network takes an LR side of ``length`` pixels without padding."""
    return _missing(arch_info(net), length) == 0


def _missing(info: ArchInfo, length: int) -> int:
    """Returns the number of pixels that must be added to a side of ``length``."""
    multiple, wanted = info.size_multiple, max(length, info.min_size)
    return (wanted + multiple - 1) // multiple * multiple - length

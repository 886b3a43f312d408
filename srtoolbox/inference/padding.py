"""Pads inputs to the sizes that a network takes, and crops its outputs."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.base import ArchInfo, arch_info
from srtoolbox.errors import UserError
from srtoolbox.models.frames import run_network


def run_padded(net: nn.Module, lq: Tensor) -> Tensor:
    """Runs ``net`` on images of any size.

    The images are extended at the right and bottom, by the network's ``pad_mode``, until height and
    width are multiples of its ``size_multiple`` and at least its ``min_size``, or equal its
    ``input_size``, and equal each other if it is ``square``; the output is cropped accordingly.

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
        lq = pad_to(lq, rows, columns, info.pad_mode)
    else:
        rows, columns = (side + _missing(info, side) for side in (height, width))
        if info.square:
            rows = columns = max(rows, columns)
        lq = pad_to(lq, rows, columns, info.pad_mode)
    output = run_network(net, lq)
    sr = output["sr"] if isinstance(output, dict) else output
    return sr[..., : height * scale, : width * scale]


def pad_to(lq: Tensor, height: int, width: int, mode: str = "replicate") -> Tensor:
    """Extends (…, C, h, w) at the right and bottom until it is (…, C, height, width).

    Args:
        lq: The images.
        height: At least h.
        width: At least w.
        mode: ``"replicate"`` repeats the edge pixel. ``"reflect"`` mirrors the image without
            repeating it, and mirrors the result again where one mirror image is not enough.
    """
    bottom, right = height - lq.shape[-2], width - lq.shape[-1]
    if not (bottom or right):
        return lq
    if mode == "reflect":
        for dim, size in ((-2, height), (-1, width)):
            lq = lq.index_select(dim, _reflected(lq.shape[dim], size, lq.device))
        return lq
    flat = F.pad(lq.flatten(0, -4), (0, right, 0, bottom), mode="replicate")
    return flat.unflatten(0, lq.shape[:-3])


def _reflected(length: int, size: int, device: torch.device) -> Tensor:
    """Returns the indices 0, 1, …, length − 1, length − 2, …, 1, 0, 1, …, ``size`` in all."""
    period = max(2 * (length - 1), 1)
    index = torch.arange(size, device=device) % period
    return torch.minimum(index, period - index) if length > 1 else index


def accepts_size(net: nn.Module, length: int) -> bool:
    """Returns whether the network takes an LR side of ``length`` pixels without padding."""
    return _missing(arch_info(net), length) == 0


def _missing(info: ArchInfo, length: int) -> int:
    """Returns the number of pixels that must be added to a side of ``length``."""
    multiple, wanted = info.size_multiple, max(length, info.min_size)
    return (wanted + multiple - 1) // multiple * multiple - length

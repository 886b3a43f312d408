"""Geometric self-ensemble: one network asked eight times."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from srtoolbox.inference.padding import run_padded

Runner = Callable[[nn.Module, Tensor], Tensor]


def self_ensemble(net: nn.Module, lq: Tensor, run: Runner = run_padded) -> Tensor:
    """The mean of the SR images of ``lq`` in all eight orientations, each turned back.

    The ``+`` of EDSR+ (Lim et al., CVPRW 2017) and the "enhanced prediction" of Timofte et al.,
    CVPR 2016. All frames of a stack are turned alike, so what moves between them still does. The
    result turns with the input, whatever the network does. Costs eight forward passes.

    Args:
        net: A registered arch.
        lq: What the network takes: (N, C, h, w), or (N, T, C, h, w) if it is a multi-frame one.
        run: How the network is applied.

    Returns:
        (N, C, h·scale, w·scale), at least float32.
    """
    total: Tensor | float = 0.0
    for mirror in (False, True):
        for turns in range(4):
            turned = torch.rot90(lq.flip(-1) if mirror else lq, turns, (-2, -1))
            sr = run(net, turned.contiguous())
            sr = torch.rot90(sr, -turns, (-2, -1))
            sr = sr.flip(-1) if mirror else sr
            total = total + sr.to(torch.promote_types(sr.dtype, torch.float32))
    return total / 8

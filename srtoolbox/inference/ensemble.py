"""Geometric self-ensemble: averages the results of eight orientations of the input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from srtoolbox.inference.padding import run_padded

Runner = Callable[[nn.Module, Tensor], Tensor]


def self_ensemble(net: nn.Module, lq: Tensor, run: Runner = run_padded) -> Tensor:
    """Returns the mean of the SR images of ``lq`` in all eight orientations, each turned back.

    The ``+`` of EDSR+ (Lim et al., CVPRW 2017) and the "enhanced prediction" of Timofte et al.,
    CVPR 2016. All frames of a stack get the same orientation, so motion between them stays
    consistent. The result is equivariant: it turns with the input. It costs eight forward passes.

    Args:
        net: A registered arch.
        lq: (N, C, h, w), or (N, T, C, h, w) for a multi-frame network, in [0, 1].
        run: Runs the network, by default on the whole image.

    Returns:
        SR images as ``run_padded`` returns them, in at least float32.
    """
    total = torch.zeros((), device=lq.device)
    for mirrored in (False, True):
        for turns in range(4):
            turned = torch.rot90(lq.flip(-1) if mirrored else lq, turns, (-2, -1))
            sr = torch.rot90(run(net, turned.contiguous()), -turns, (-2, -1))
            sr = sr.flip(-1) if mirrored else sr
            total = total + sr.to(torch.promote_types(sr.dtype, torch.float32))
    return total / 8

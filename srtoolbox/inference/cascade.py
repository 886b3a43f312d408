"""Cascade: a large scale reached by a small one several times."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from srtoolbox.errors import UserError
from srtoolbox.inference.padding import run_padded


class Cascade(nn.Module):
    """Single-image networks one after the other, to be used like one (Timofte et al., CVPR 2016).

    Args:
        stages: Registered archs in order; the same one may stand there repeatedly.

    Raises:
        UserError: if one of them takes several frames; behind the first there is only one image.
    """

    num_frame, reference, size_multiple, min_size = 1, 0, 1, 1  # each stage pads for itself

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        for net in stages:
            check_stage(type(net).__name__, net.num_frame)
        self.stages = nn.ModuleList(stages)
        self.scale = prod(net.scale for net in stages)

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, C, h, w) in [0, 1] to (N, C, h·scale, w·scale)."""
        for net in self.stages:
            lq = run_padded(net, lq)
        return lq


def stage_scale(scale: int, stages: int) -> int:
    """The scale of each of ``stages`` equal steps that reach ``scale`` together.

    Raises:
        UserError: if there is no such whole number.
    """
    step = round(scale ** (1 / stages))
    if step**stages != scale:
        raise UserError(
            f"cascade: no whole number to the power of {stages} is scale {scale}; "
            "e.g. cascade 2 reaches scale 4 by ×2 twice"
        )
    return step


def check_stage(name: str, num_frame: int | None) -> None:
    """Refuses a network that takes several frames.

    Raises:
        UserError: says so.
    """
    if num_frame != 1:
        raise UserError(
            f"cascade: {name} takes several frames, but a cascade is of single-image networks; "
            "set val.enhance.cascade to 1"
        )

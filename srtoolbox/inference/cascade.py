"""Cascade: applies networks one after another to reach a large scale."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import cast

from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.errors import UserError
from srtoolbox.inference.padding import run_padded


class Cascade(nn.Module):
    """Applies single-image networks one after another (Timofte et al., CVPR 2016).

    It is used like a registered arch.

    Args:
        stages: Registered archs in order; the same network may appear several times.

    Raises:
        UserError: if a stage takes several frames (each stage outputs a single image), or other
            channels than those that the stage before it returns.
    """

    num_frame, reference, size_multiple, min_size = 1, 0, 1, 1  # each stage pads its own input

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        for net in stages:
            check_stage(type(net).__name__, arch_info(net).num_frame)
        for first, second in pairwise(stages):
            _check_channels(first, second)
        self.stages = nn.ModuleList(stages)
        self.scale = prod(cast(int, net.scale) for net in stages)
        self.scales = (self.scale,)
        self.channels = arch_info(stages[0]).channels
        self.out_channels = arch_info(stages[-1]).out_channels

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, C, h, w) in [0, 1] to (N, C, h·scale, w·scale)."""
        for net in self.stages:
            lq = run_padded(net, lq)
        return lq


def _check_channels(first: nn.Module, second: nn.Module) -> None:
    given, taken = arch_info(first), arch_info(second).channels
    possible = {given.out_channels}
    if given.out_channels is None:  # not declared
        possible = {given.channels, 3}
    if taken not in possible:
        raise UserError(
            f"cascade: {type(second).__name__} takes {taken} channels, but the stage before it "
            f"({type(first).__name__}) returns {given.out_channels or given.channels}; set "
            "val.enhance.cascade to 1, or num_out_ch of the network to its num_in_ch"
        )


def stage_scale(scale: int, stages: int) -> int:
    """Returns the scale of each of ``stages`` equal stages that reach ``scale`` together.

    Raises:
        UserError: if it is not an integer.
    """
    root = round(scale ** (1 / stages))
    if root**stages != scale:
        raise UserError(
            f"cascade: scale {scale} is not an integer to the power of {stages}; for example, "
            "cascade: 2 reaches scale 4 by two stages of ×2"
        )
    return root


def check_stage(name: str, num_frame: int | None) -> None:
    """Checks that a network takes single images.

    Raises:
        UserError: if it takes several frames.
    """
    if num_frame != 1:
        raise UserError(
            f"cascade: {name} takes several frames, but the stages of a cascade must be "
            "single-image networks; set val.enhance.cascade to 1"
        )

"""Memory formats, compilation and recomputation: what changes a network's cost, not its result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from srtoolbox.engine.options import TrainOptions
from srtoolbox.errors import UserError

_log = logging.getLogger("srtoolbox")


def accelerate(net: nn.Module, section: TrainOptions, *, generator: bool) -> None:
    """Prepares a network for training as the options say, in place.

    Args:
        net: On its device.
        section: The options.
        generator: Whether it is the network that gives the results, not a discriminator.

    Raises:
        UserError: if the network offers no blocks to recompute.
    """
    if section.channels_last:
        net.to(memory_format=torch.channels_last)
    if not generator:  # a discriminator is switched back and forth too often to be compiled
        return
    if section.checkpointing:
        _recompute_blocks(net)
    if section.compile is not None:
        net.compile(mode=section.compile)


def compile_fails(networks: dict[str, nn.Module], error: Exception) -> bool:
    """Switches compilation off; whether it was on, so that the step is worth another try."""
    compiled = [net for net in networks.values() if net._compiled_call_impl is not None]
    for net in compiled:
        net._compiled_call_impl = None
    if compiled:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        _log.warning("train.compile: going on without it (%s: %s)", type(error).__name__, reason)
    return bool(compiled)


def _recompute_blocks(net: nn.Module) -> None:
    names = getattr(net, "checkpoint_blocks", ())
    if not names:
        raise UserError(
            f"train.checkpointing: {type(net).__name__} names no blocks to recompute (an arch does "
            "by its attribute checkpoint_blocks); set it to false"
        )
    for name in names:
        for block in net.get_submodule(name).children():
            block.forward = partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Any], *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False)

"""Changes the cost of a network, not its result: memory format, compilation, recomputation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from srtoolbox.archs.base import arch_info
from srtoolbox.engine.options import TrainOptions
from srtoolbox.errors import UserError
from srtoolbox.utils.torch_private import compiled_call, set_compiled_call

_log = logging.getLogger("srtoolbox")


def accelerate(net: nn.Module, opt: TrainOptions, *, generator: bool) -> None:
    """Applies memory format, recomputation and compilation to a network, in place.

    Args:
        net: A network on its device.
        opt: Options of the training; ``auto`` has no effect here, see `acceleration_probe`.
        generator: Whether it is the super-resolution network; a discriminator only gets the memory
            format.

    Raises:
        UserError: if recomputation is on and the network declares no ``checkpoint_blocks``.
    """
    if opt.channels_last is True:
        net.to(memory_format=torch.channels_last)
    if not generator:  # a discriminator changes its mode in every step, which recompiles it
        return
    if opt.checkpointing:
        _recompute_blocks(net)
    if opt.compile not in (None, "auto"):
        net.compile(mode=opt.compile)


def undo_acceleration(net: nn.Module) -> nn.Module:
    """Gives a trained network the memory layout and code of one that is built and loaded.

    Other layouts and compilation change the last bits of its output. Scores must not depend on
    whether a training ended just now or was found finished.

    Returns:
        The network; its weights are changed in place.
    """
    set_compiled_call(net, None)
    for tensor in (*net.parameters(), *net.buffers()):
        # Not .contiguous(), which keeps the strides of channels_last where a size is 1.
        layout = torch.empty_like(tensor, memory_format=torch.contiguous_format)
        if tensor.stride() != layout.stride():
            tensor.data = layout.copy_(tensor.data)
    return net


def compile_fails(networks: dict[str, nn.Module], error: Exception) -> bool:
    """Turns compilation off after an error; returns whether it was on, to repeat the step."""
    compiled = [net for net in networks.values() if compiled_call(net) is not None]
    for net in compiled:
        set_compiled_call(net, None)
    if compiled:
        _log.warning("train.compile: continuing without it (%s)", describe_failure(error))
    return bool(compiled)


def describe_failure(error: Exception) -> str:
    """Returns type and message of an error of torch's compiler in one line.

    The compiler wraps the cause, such as a missing C++ compiler, in a message of many lines.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith("raised:"):
        return lines[1]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _recompute_blocks(net: nn.Module) -> None:
    names = arch_info(net).checkpoint_blocks
    if not names:
        raise UserError(
            f"train.checkpointing: {type(net).__name__} names no blocks to recompute (attribute "
            "checkpoint_blocks of the network); set the option to false"
        )
    for name in names:
        for block in net.get_submodule(name).children():
            block.forward = partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Any], *inputs: Any) -> Any:
    """Runs ``forward``; the backward pass computes its intermediate results again."""
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False)

"""Finds where a non-finite value first appeared, and describes batches in messages."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from srtoolbox.data.base import Batch
from srtoolbox.models.base import Model, sum_losses
from srtoolbox.utils.torch_private import tree_leaves


def find_nonfinite(model: Model, batch: Batch, step: int) -> str:
    """Repeats a step without an update and names the place of the first non-finite value.

    Args:
        model: A model with the weights from before the step.
        batch: The batch of the step, on the device.
        step: Number of the step, from 0.
    """
    memo: dict[str, Any] = {}
    for name, pixels in batch.items():
        if isinstance(pixels, Tensor) and not torch.isfinite(pixels).all():
            return f"the samples' '{name}' is not finite"
    for phase in model.phases:
        found: list[str] = []
        with ExitStack() as hooks:
            for key, net in model.networks.items():
                for name, module in net.named_modules():
                    hook = partial(_record, found, _module(key, name))
                    hooks.enter_context(module.register_forward_hook(hook))
            losses = model.objective(phase, batch, step, memo)
        if found:
            return f"first in the output of {found[0]}"
        for name, loss in losses.items():
            if not torch.isfinite(loss):
                return f"first in the loss {name}; all networks' outputs are finite"
        if losses:
            sum_losses(losses).backward()
        for key, net in model.networks.items():
            for name, parameter in reversed(list(net.named_parameters())):
                if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                    return f"first in the gradient of {_module(key, name)}"
        for net in model.networks.values():
            net.zero_grad(set_to_none=True)
    return "which did not happen again when the step was repeated"


@torch.no_grad()
def nonfinite_weight(networks: Mapping[str, nn.Module]) -> str | None:
    """Returns the name of the first weight that is not finite; None if there is none.

    The host waits for the device once. Buffers may be infinite (masks of attention), but not NaN.

    Args:
        networks: Networks by key; all on one device.
    """
    names: list[str] = []
    faults: list[Tensor] = []
    for key, net in networks.items():
        for test, tensors in (
            (_any_nonfinite, net.named_parameters()),
            (_any_nan, net.named_buffers()),
        ):
            for name, tensor in tensors:
                if tensor.is_floating_point() or tensor.is_complex():
                    names.append(_module(key, name))
                    faults.append(test(tensor))
    if not faults:
        return None
    found = torch.stack([fault.to(faults[0].device) for fault in faults]).tolist()
    return next((name for name, fault in zip(names, found, strict=True) if fault), None)


def _any_nonfinite(tensor: Tensor) -> Tensor:
    return ~torch.isfinite(tensor).all()


def _any_nan(tensor: Tensor) -> Tensor:
    return torch.isnan(tensor).any()


def _record(
    found: list[str], name: str, _: nn.Module, inputs: tuple[Any, ...], output: Any
) -> None:
    """Appends a module to ``found`` if it makes a non-finite output from finite inputs."""
    if not _finite(output) and _finite(inputs):
        found.append(name)


def _finite(value: Any) -> bool:
    tensors = (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
    return all(not t.is_floating_point() or bool(torch.isfinite(t).all()) for t in tensors)


def _module(key: str, name: str) -> str:
    return f"network_{key}.{name}" if name else f"network_{key}"


def describe_batch(batch: Batch, accumulate: int) -> str:
    """Describes the part of a batch that a network gets at a time."""
    lq, gt = batch["lq"], batch["gt"]
    count = max(1, len(lq) // accumulate)
    return f"{count} samples of lq {tuple(lq.shape[1:])} and gt {tuple(gt.shape[1:])}"

"""Why a step failed, in words that help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from srtoolbox.data.stream import Sample


def find_nonfinite(model: Any, batch: Sample, step: int) -> str:
    """Repeats a step without updating anything and says where the first non-finite value arose.

    Args:
        model: With the weights that the step began with.
        batch: What the step was given, on the device.
        step: Its number, from 0.
    """
    for name, pixels in batch.items():
        if isinstance(pixels, Tensor) and not torch.isfinite(pixels).all():
            return f"the samples' '{name}' is not finite"
    for phase in model.phases:
        found: list[str] = []
        with _watched(model.networks, found):
            losses = model.objective(phase, batch, step)
        if found:
            return f"first in the output of {found[0]}"
        for name, loss in losses.items():
            if not torch.isfinite(loss):
                return f"first in the loss {name}; all networks' outputs are finite"
        if losses:
            sum(losses.values()).backward()
        for key, net in model.networks.items():
            for name, parameter in reversed(list(net.named_parameters())):
                if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                    return f"first in the gradient of {_place(key, name)}"
        for net in model.networks.values():
            net.zero_grad(set_to_none=True)
    return "it did not happen again when the step was repeated"


@contextmanager
def _watched(networks: dict[str, nn.Module], found: list[str]) -> Iterator[None]:
    """Notes, in order, the modules inside which non-finite outputs arise from finite inputs."""

    def watch(place: str):
        def hook(_: nn.Module, inputs: tuple, output: Any) -> None:
            if not _finite(output) and _finite(inputs):
                found.append(place)

        return hook

    handles = [
        module.register_forward_hook(watch(_place(key, name)))
        for key, net in networks.items()
        for name, module in net.named_modules()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        value = list(value.values())
    return all(map(_finite, value)) if isinstance(value, list | tuple) else True


def _place(key: str, name: str) -> str:
    return f"network_{key}.{name}" if name else f"network_{key}"


def describe_batch(batch: Sample, accumulate: int) -> str:
    """What goes through a network at a time, in words."""
    lq, gt = batch["lq"], batch["gt"]
    count = max(1, len(lq) // accumulate)
    return f"{count} samples of lq {tuple(lq.shape[1:])} and gt {tuple(gt.shape[1:])}"

"""Optimizers and learning-rate schedules by their torch names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LinearLR, LRScheduler, SequentialLR

from srtoolbox.errors import UserError
from srtoolbox.registry import constructor_parameters
from srtoolbox.schema import build

if TYPE_CHECKING:
    from srtoolbox.engine.trainer import TrainSection


def build_optimizer(spec: dict[str, Any], net: nn.Module, device: torch.device) -> Optimizer:
    """The optimizer of all trainable parameters of ``net``, fused where torch offers it.

    Raises:
        UserError: if the network has nothing to train, or for an optimizer that runs the network
            several times per step.
    """
    if spec["type"] == "LBFGS":
        raise UserError("optimizer LBFGS runs the network several times per step; try Adam or SGD")
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not parameters:
        raise UserError(f"{type(net).__name__} has no parameters to train; use `srtoolbox test`")
    injected: dict[str, Any] = {"params": parameters}
    cls = getattr(torch.optim, spec["type"])
    # foreach and fused exclude each other; a user's word on either comes first.
    if (
        device.type in ("cuda", "cpu")
        and "fused" in constructor_parameters(cls)
        and not {"foreach", "fused"} & spec.keys()
    ):
        injected["fused"] = True
    return build("optimizer", spec, **injected)


def build_scheduler(section: TrainSection, optimizer: Optimizer) -> LRScheduler:
    """The schedule of a run, stepped once per optimizer step, with linear warm-up if asked.

    ``T_max`` (cosine) and ``total_steps`` (one-cycle) default to the steps after the warm-up.

    Raises:
        UserError: for a schedule that depends on scores.
    """
    if section.scheduler is not None and section.scheduler["type"] == "ReduceLROnPlateau":
        raise UserError(
            "scheduler ReduceLROnPlateau depends on scores, not on the step; try CosineAnnealingLR"
        )
    warmup = section.warmup_iter
    if section.scheduler is None:
        main: LRScheduler = ConstantLR(optimizer, factor=1.0, total_iters=0)
    else:
        length = section.total_iter - warmup
        main = build(
            "scheduler", section.scheduler, optimizer=optimizer, T_max=length, total_steps=length
        )
    if not warmup:
        return main
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, main], milestones=[warmup])

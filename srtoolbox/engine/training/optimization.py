"""Builds optimizers, parameter groups and learning rate schedules by their torch names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LinearLR, LRScheduler, SequentialLR

from srtoolbox.archs.base import arch_info
from srtoolbox.config.schema import build
from srtoolbox.errors import UserError
from srtoolbox.registry import constructor_parameters
from srtoolbox.utils.collector import collector_paused

if TYPE_CHECKING:
    from srtoolbox.engine.options import ParamGroup, TrainOptions


def build_optimizer(
    spec: dict[str, Any],
    net: nn.Module,
    device: torch.device,
    groups: Sequence[ParamGroup] = (),
) -> Optimizer:
    """Builds the optimizer of all trainable parameters of ``net``, fused if torch has it.

    Raises:
        UserError: if the network has no trainable parameters, for a group whose pattern matches no
            parameter, or for an optimizer that runs the network several times per step.
    """
    if spec["type"] == "LBFGS":
        raise UserError("optimizer LBFGS runs the network several times per step; try Adam or SGD")
    if not any(p.requires_grad for p in net.parameters()):
        fixed = arch_info(net).weight_option is not None
        advice = "set network_g.trainable: true, or " if fixed else ""
        raise UserError(
            f"{type(net).__name__} has no parameters to train; {advice}use `srtoolbox test`"
        )
    *members, rest = assign_groups(net, groups)
    known = constructor_parameters(getattr(torch.optim, spec["type"]))
    lr: float = spec["lr"] if "lr" in spec else known["lr"].default
    params: list[dict[str, Any]] = [{"params": rest}] if rest else []
    for group, chosen in zip(groups, members, strict=True):
        entry: dict[str, Any] = {"params": chosen, "lr": group.lr_mult * lr}
        if group.weight_decay is not None:
            entry["weight_decay"] = group.weight_decay
        params.append(entry)
    injected: dict[str, Any] = {"params": params if groups else rest}
    # foreach and fused exclude each other; an option of the user for either has priority.
    given = {"foreach", "fused"} & spec.keys()
    if device.type in ("cuda", "cpu") and "fused" in known and not given:
        injected["fused"] = True
    with collector_paused():  # the first optimizer imports the compiler
        return build("optimizer", spec, **injected)


def assign_groups(net: nn.Module, groups: Sequence[ParamGroup]) -> list[list[nn.Parameter]]:
    """Returns the trainable parameters of each group, then those of no group.

    The first matching pattern takes a parameter.

    Raises:
        UserError: for a group without parameters.
    """
    members: list[list[nn.Parameter]] = [[] for _ in range(len(groups) + 1)]
    named = {name: p for name, p in net.named_parameters() if p.requires_grad}
    for name, parameter in named.items():
        matches = (i for i, group in enumerate(groups) if re.search(group.pattern, name))
        members[next(matches, -1)].append(parameter)
    for group, chosen in zip(groups, members, strict=False):
        if not chosen:
            examples = ", ".join(list(named)[:5])
            raise UserError(
                f"train.param_groups: '{group.pattern}' matches no parameter that is left by the "
                f"earlier patterns; there are {examples}, …"
            )
    return members


class ParameterFreezer:
    """Freezes groups of parameters for their first ``frozen_iter`` steps.

    Args:
        net: The network.
        groups: Its parameter groups.

    Raises:
        UserError: if they freeze all parameters.
    """

    def __init__(self, net: nn.Module, groups: Sequence[ParamGroup]) -> None:
        *members, rest = assign_groups(net, groups)
        if not rest and all(group.frozen_iter for group in groups):
            until = min(group.frozen_iter for group in groups)
            raise UserError(
                f"train.param_groups: all parameters are frozen in the first {until} steps; set "
                "frozen_iter to 0 in one of the groups"
            )
        pairs = zip(groups, members, strict=True)
        self._frozen = [(group.frozen_iter, chosen) for group, chosen in pairs if group.frozen_iter]

    def apply(self, step: int) -> None:
        """Sets which parameters are trained in ``step``; this depends on its number only."""
        for frozen_iter, parameters in self._frozen:
            for parameter in parameters:
                parameter.requires_grad_(step >= frozen_iter)


def build_scheduler(opt: TrainOptions, optimizer: Optimizer) -> LRScheduler:
    """Builds the learning rate schedule of a run, with linear warm-up if ``warmup_iter`` is set.

    It is stepped once per optimizer step. ``T_max`` (cosine) and ``total_steps`` (one-cycle)
    default to the number of steps after the warm-up. With ``ReduceLROnPlateau`` it is the warm-up
    alone; `srtoolbox.engine.training.plateau` lowers the rate.
    """
    warmup = opt.warmup_iter
    if opt.scheduler is None or opt.on_plateau:
        main: LRScheduler = ConstantLR(optimizer, factor=1.0, total_iters=0)
    else:
        length = opt.total_iter - warmup
        spec = dict(opt.scheduler)
        if "max_lr" in spec and len(optimizer.param_groups) > 1:
            # One-cycle sets the rate of every group, so it needs the factors of the groups.
            base = optimizer.defaults["lr"]
            spec["max_lr"] = [spec["max_lr"] * g["lr"] / base for g in optimizer.param_groups]
        main = build("scheduler", spec, optimizer=optimizer, T_max=length, total_steps=length)
    if not warmup:
        return main
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, main], milestones=[warmup])


def gradient_norm(parameters: Sequence[nn.Parameter], clip: float | None) -> Tensor:
    """Returns the norm of all gradients; scales them down to ``clip`` if it is exceeded."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return norm

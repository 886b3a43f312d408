"""The contract of models, as the trainer uses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from srtoolbox.data.base import Batch
from srtoolbox.errors import ComponentError
from srtoolbox.utils.own_code import calling, class_of, describe_value, place_of


def sum_losses(losses: Mapping[str, Tensor]) -> Tensor:
    """Adds at least one loss."""
    first, *others = losses.values()
    return sum(others, first)


class Model(Protocol):
    """Runs networks on a batch and computes their losses.

    A model decides which tensors its networks get and which losses their outputs form. The trainer
    and the evaluator handle optimizers, precision, files, logs and validation.

    Attributes:
        phases: Names of the networks that are updated, in this order; each phase has an optimizer
            and makes one step per training step.
        networks: Networks by phase; ``"g"`` is the one that is evaluated.
        losses: Losses by the names under which they are logged.
    """

    phases: tuple[str, ...]
    networks: dict[str, nn.Module]
    losses: Mapping[str, nn.Module]

    def objective(
        self, phase: str, batch: Batch, step: int = 0, memo: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Computes the losses of one phase; the phase minimises their sum.

        Args:
            phase: One of ``phases``.
            batch: ``lq`` (N, T, C, h, w) and ``gt`` (N, C, H, W) or (N, T', C, H, W), float32 in
                [0, 1]; ``flow`` (N, 2, T - 1, 2, h, w) if the dataset has it; ``mask``, bool of
                the shape of ``gt`` with one channel, True for pixels that count, if the dataset
                has it; ``reference``, if the index of the reference frame differs from the
                dataset's.
            step: Number of finished steps.
            memo: Passes values on to later phases: all phases of a step get the same dict for the
                same part of a batch. It is empty in the first phase.

        Returns:
            Scalar losses in float32 by name; empty if this phase makes no step now.

        Raises:
            UserError: if the network's output does not match the ground truth or a loss.
        """
        ...


def check_model(model: Any) -> None:
    """Checks that an object has the attributes of a ``Model``.

    Raises:
        ComponentError: if it lacks some; the message names them.
    """
    cls = class_of(model)
    members = ("phases", "networks", "losses", "objective")
    if missing := [member for member in members if not hasattr(model, member)]:
        raise ComponentError(
            f"{cls.__name__}{place_of(cls, '__init__')} lacks {', '.join(missing)}; a model has "
            "phases (names of the networks that are updated), networks (networks by phase), losses "
            "(losses by name) and objective(phase, batch, step, memo)"
        )
    known = model.networks if isinstance(model.networks, dict) else {}
    if absent := [phase for phase in ("g", *model.phases) if phase not in known]:
        raise ComponentError(
            f"{cls.__name__}{place_of(cls, '__init__')}: networks has no {', '.join(absent)}; it "
            'needs a network for each phase, and "g" for the network that is evaluated'
        )


def compute_losses(
    model: Model, phase: str, batch: Batch, step: int = 0, memo: dict[str, Any] | None = None
) -> dict[str, Tensor]:
    """Calls ``Model.objective`` and checks what it returns.

    Raises:
        UserError: as for ``Model.objective``.
        ComponentError: if it returns no dict of scalars, or if the code of a user's own model
            fails.
    """
    with calling(model, "objective"):
        losses = model.objective(phase, batch, step, memo)
    values = losses.values() if isinstance(losses, dict) else [None]
    if not all(isinstance(value, Tensor) and value.numel() == 1 for value in values):
        found = describe_value(losses)
        if isinstance(losses, dict):
            found = "; ".join(f"{name}: {describe_value(v)}" for name, v in losses.items())
        raise ComponentError(
            f"{type(model).__name__}{place_of(model, 'objective')} returned {found} in phase "
            f"'{phase}'; return a dict of scalar tensors by the names of the losses"
        )
    if losses and torch.is_grad_enabled() and not any(v.requires_grad for v in losses.values()):
        raise ComponentError(
            f"{type(model).__name__}: no loss of phase '{phase}' has a gradient "
            f"({', '.join(losses)}); compute losses with torch, without .detach(), .item(), numpy "
            "or torch.no_grad()"
        )
    return losses

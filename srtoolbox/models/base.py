"""The contract of models, as the trainer uses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from srtoolbox.data.base import Batch


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
                [0, 1]; ``flow`` (N, 2, T - 1, 2, h, w) if the dataset has it; ``reference``, if the
                index of the reference frame differs from the dataset's.
            step: Number of finished steps.
            memo: Passes values on to later phases: all phases of a step get the same dict for the
                same part of a batch. It is empty in the first phase.

        Returns:
            Scalar losses in float32 by name; empty if this phase makes no step now.

        Raises:
            UserError: if the network's output does not match the ground truth or a loss.
        """
        ...

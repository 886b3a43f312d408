"""Lowers learning rates when the training loss or a validation metric stops improving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from srtoolbox.config.schema import build
from srtoolbox.engine.options import TrainOptions
from srtoolbox.errors import RunError


class Plateau:
    """Steps torch's ``ReduceLROnPlateau`` of every optimizer with the value of ``train.monitor``.

    The value is the mean training loss of each epoch, or a metric at each evaluation. Epochs count
    from the end of the warm-up, and evaluations in the warm-up are ignored. All optimizers get the
    same values, so the rates of generator and discriminator fall together.

    Args:
        opt: A ``train`` section with this scheduler.
        optimizers: Optimizers by phase.
        epoch_iter: Steps of an epoch.
        higher_is_better: Whether the higher of two values is better.
        device: Device of the losses.

    Raises:
        UserError: if torch refuses the options of the scheduler.
    """

    def __init__(
        self,
        opt: TrainOptions,
        optimizers: Mapping[str, Optimizer],
        epoch_iter: int,
        higher_is_better: bool,
        device: torch.device,
    ) -> None:
        assert opt.scheduler is not None
        mode = "max" if higher_is_better else "min"
        self._schedulers = {
            phase: build("scheduler", opt.scheduler, optimizer=optimizer, mode=mode)
            for phase, optimizer in optimizers.items()
        }
        self._metric, self._warmup = opt.monitored_metric, opt.warmup_iter
        self.epoch_iter = epoch_iter
        precise = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        self._sum = torch.zeros((), dtype=precise, device=device)
        self._steps = 0

    @property
    def needs_loss(self) -> bool:
        """Whether the training loss is monitored."""
        return self._metric is None

    def add_loss(self, step: int, loss: Tensor) -> None:
        """Adds the loss of a step to the sum of its epoch; it does not wait for the device.

        Args:
            step: Number of finished steps before this one.
            loss: The generator's weighted losses, summed: a scalar, equal in all processes.
        """
        if step >= self._warmup:
            self._sum += loss.detach()
            self._steps += 1

    def end_step(self, step: int) -> None:
        """Updates the rates if an epoch ends with step number ``step``, counted from 1.

        An epoch in which the generator made no step has no loss and is ignored.
        """
        counted = step - self._warmup
        if not self.needs_loss or counted <= 0 or counted % self.epoch_iter:
            return
        if self._steps:
            self._update(float(self._sum) / self._steps)
        self._sum.zero_()
        self._steps = 0

    def end_evaluation(self, step: int, scores: Mapping[str, float | None]) -> None:
        """Updates the rates after an evaluation, if a metric is monitored.

        Args:
            step: Number of finished steps.
            scores: Scores of the first validation dataset by metric.

        Raises:
            RunError: if the metric was unavailable.
        """
        if self._metric is None or step <= self._warmup:
            return
        value = scores[self._metric]
        if value is None:
            raise RunError(
                f"train.monitor: '{self._metric}' could not be computed at step {step} (see the "
                "messages above), but the learning rate depends on it; correct this and continue "
                "with --resume"
            )
        self._update(value)

    def _update(self, value: float) -> None:
        for scheduler in self._schedulers.values():
            scheduler.step(value)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the schedulers and the sum of the epoch that is not finished."""
        schedulers = {phase: item.state_dict() for phase, item in self._schedulers.items()}
        return {"schedulers": schedulers, "sum": self._sum.clone(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a result of ``state_dict``."""
        for phase, scheduler in self._schedulers.items():
            scheduler.load_state_dict(state["schedulers"][phase])
        self._sum.copy_(state["sum"])
        self._steps = state["steps"]

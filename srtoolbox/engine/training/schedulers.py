"""Learning rate schedules that torch lacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from srtoolbox.errors import UserError
from srtoolbox.registry import SCHEDULER_REGISTRY


@SCHEDULER_REGISTRY.register()
class CosineAnnealingRestartLR(LRScheduler):
    """Cosine annealing in periods of any lengths; each starts from its own fraction of the rate.

    In step t of a period of T steps the rate is ``eta_min + weight / 2 * (lr - eta_min) *
    (1 + cos(pi * t / T))``. Step T, with the rate ``eta_min``, still belongs to the period, and
    the next step is t = 1 of the next period; only the first period has a step 0. After the last
    period the rate stays at ``eta_min``. These are the rates of BasicSR's schedule of this name
    (Wang et al., 2018). torch's ``CosineAnnealingWarmRestarts`` differs in one step of each
    restart, which has the full rate there and ``eta_min`` here.

    Args:
        optimizer: The optimizer.
        periods: Steps of each period.
        restart_weights: Factor of the rate in each period; null: 1.
        eta_min: Learning rate at the end of each period.
        start: Steps of the schedule that are skipped, for example those that a warm-up takes.

    Raises:
        UserError: for periods that are not positive, or another number of weights than periods.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        periods: list[int],
        restart_weights: list[float] | None = None,
        eta_min: float = 0.0,
        start: int = 0,
    ) -> None:
        weights: Sequence[float] = [1.0] * len(periods)
        if restart_weights is not None:
            weights = list(restart_weights)
        if not periods or min(periods) < 1:
            raise UserError(
                "train.scheduler.periods: expected the steps of each period, all at least 1, got "
                f"{list(periods)}"
            )
        if len(weights) != len(periods):
            raise UserError(
                f"train.scheduler.restart_weights: {len(weights)} values for {len(periods)} "
                "periods; give one for each period"
            )
        if start < 0:
            raise UserError(f"train.scheduler.start: must not be negative, got {start}")
        self.periods, self.weights = list(periods), list(weights)
        self.ends = list(accumulate(self.periods))
        self.eta_min, self.start = eta_min, start
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Returns the rate of each parameter group in the current step."""
        return self._get_closed_form_lr()

    def _get_closed_form_lr(self) -> list[float]:  # torch's name, for steps out of order
        step = min(self.last_epoch + self.start, self.ends[-1])
        number = next(i for i, end in enumerate(self.ends) if step <= end)
        period = self.periods[number]
        position = (step - self.ends[number] + period) / period
        factor = self.weights[number] * (1 + math.cos(math.pi * position)) / 2
        return [self.eta_min + factor * (float(lr) - self.eta_min) for lr in self.base_lrs]

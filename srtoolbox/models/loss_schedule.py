"""Losses that start, grow or stop during training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from srtoolbox.config.schema import option


@dataclass(frozen=True)
class LossSchedule:
    """Steps in which a loss counts, numbered from 0; in all others it is not computed."""

    start: int = option(default=0, min=0, doc="First step at which the loss counts.")
    warmup: int = option(default=0, min=0, doc="Steps of linear growth to its weight.")
    stop: int | None = option(
        default=None, min=1, doc="First step at which it no longer counts; null: never."
    )

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults as (key, message)."""
        if self.stop is not None and self.stop <= self.start:
            return [("stop", f"must be above start ({self.start})")]
        return []

    def factor(self, step: int) -> float:
        """Returns the factor of the loss at a step, in [0, 1]."""
        if step < self.start or (self.stop is not None and step >= self.stop):
            return 0.0
        return min(1.0, (step - self.start + 1) / self.warmup) if self.warmup else 1.0


def schedule_faults(
    losses: Iterable[str], schedules: Mapping[str, LossSchedule], total_iter: int
) -> list[tuple[str, str]]:
    """Checks the schedules of a training; returns faults as (key, message).

    Args:
        losses: Names of all losses.
        schedules: Schedules by the names of losses; a loss without one always counts.
        total_iter: Steps of the training.
    """
    losses = list(losses)
    faults = [
        (f"loss_schedule.{name}", f"there is no such loss; there are: {', '.join(losses)}")
        for name in schedules
        if name not in losses
    ]
    plans = [schedules.get(name, LossSchedule()) for name in losses]
    # No loss is active only at the start or where a loss stops, so only these steps are checked.
    for step in sorted({0, *(plan.stop for plan in plans if plan.stop is not None)}):
        if step < total_iter and not any(plan.factor(step) for plan in plans):
            faults.append(("loss_schedule", f"no loss is left to train with at step {step}"))
            break
    return faults

"""How a model's losses change in the course of a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from srtoolbox.config.schema import option


@dataclass(frozen=True)
class LossSchedule:
    """When a loss counts. Steps count from 0; outside of them it is not even computed."""

    start: int = option(default=0, min=0, doc="First step at which the loss counts.")
    warmup: int = option(default=0, min=0, doc="Steps in which it grows linearly to its weight.")
    stop: int | None = option(default=None, min=1, doc="First step at which it counts no more.")

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        if self.stop is not None and self.stop <= self.start:
            return [("stop", f"must be above start ({self.start})")]
        return []

    def factor(self, step: int) -> float:
        """The factor on the loss at a step, in [0, 1]."""
        if step < self.start or (self.stop is not None and step >= self.stop):
            return 0.0
        return min(1.0, (step - self.start + 1) / self.warmup) if self.warmup else 1.0


def schedule_faults(
    losses: Iterable[str], schedules: Mapping[str, LossSchedule], total_iter: int
) -> list[tuple[str, str]]:
    """What is wrong with the schedules of a training, as (key, message).

    Args:
        losses: The names of all losses.
        schedules: Those of some of them, by the same names.
        total_iter: Steps of the training.
    """
    losses = list(losses)
    faults = [
        (f"loss_schedule.{name}", f"there is no such loss; there are: {', '.join(losses)}")
        for name in schedules
        if name not in losses
    ]
    plans = [schedules.get(name, LossSchedule()) for name in losses]
    # Losses only ever fall silent at the beginning or where one of them stops.
    for step in sorted({0, *(plan.stop for plan in plans if plan.stop is not None)}):
        if step < total_iter and not any(plan.factor(step) for plan in plans):
            faults.append(("loss_schedule", f"no loss is left to train with at step {step}"))
            break
    return faults

"""Accumulates losses on the device between log points."""

from __future__ import annotations

import torch
from torch import Tensor


class LossMeter:
    """Sums losses and gradient norms, and remembers the first step with a non-finite one.

    Args:
        device: Device of the losses.

    Attributes:
        sums: Sums since the last ``close`` by name; part of checkpoints.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums: dict[str, Tensor] = {}
        self._bad_step = torch.zeros((), dtype=torch.long, device=device)

    def add(self, name: str, value: Tensor) -> None:
        """Adds a scalar to the sum of this name."""
        value = value.detach()
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def check(self, step: int, value: Tensor) -> None:
        """Stores ``step`` if ``value`` is the first non-finite one."""
        first = (self._bad_step == 0) & ~torch.isfinite(value.detach())
        self._bad_step = torch.where(first, step, self._bad_step)

    def found_inf(self) -> Tensor:
        """Returns 1.0 on the device if any checked value was not finite, else 0.0."""
        return (self._bad_step > 0).float()

    @property
    def bad_step(self) -> int:
        """The first step with a non-finite value, 0 if there is none. Waits for the device."""
        return int(self._bad_step)

    def close(self, steps: int) -> dict[str, float]:
        """Returns the means over ``steps`` steps and starts again. Waits for the device."""
        means = {name: float(value) / steps for name, value in self.sums.items()}
        self.sums.clear()
        return means

"""What happened since the last log point: sums of losses, and the first step that went wrong.

All of it stays on the device until it is asked for, because reading a number makes the host wait.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Ledger:
    """Books losses and gradients step by step.

    Args:
        device: Where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums: dict[str, Tensor] = {}
        self._bad_step = torch.zeros((), dtype=torch.long, device=device)

    def add(self, name: str, value: Tensor) -> None:
        """Adds to the sum of a figure."""
        value = value.detach()
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def check(self, step: int, value: Tensor) -> None:
        """Notes ``step`` if ``value`` is the first that is not finite."""
        fresh = (self._bad_step == 0) & ~torch.isfinite(value.detach())
        self._bad_step = torch.where(fresh, step, self._bad_step)

    def spoilt(self) -> Tensor:
        """1.0 on the device once a value was not finite, else 0.0."""
        return (self._bad_step > 0).float()

    @property
    def bad_step(self) -> int:
        """The first step with a non-finite value, 0 if there is none. Waits for the device."""
        return int(self._bad_step)

    def close(self, steps: int) -> dict[str, float]:
        """The means over ``steps`` steps; begins anew. Waits for the device."""
        figures = {name: float(value) / steps for name, value in self.sums.items()}
        self.sums.clear()
        return figures

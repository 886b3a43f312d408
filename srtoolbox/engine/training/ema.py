"""The exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class EMA(AveragedModel):
    """torch's ``AveragedModel``, updated in two kernels and without waiting for the device.

    (The original's update copies its counter to the device each time, for which the host waits.)

    Args:
        net: The network to average.
        decay: Share of the average that each update keeps.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__(net)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Takes in the present weights; the first time, all of them. Buffers are copied."""
        mine, theirs = list(self.module.parameters()), list(model.parameters())
        first = int(self.n_averaged) == 0  # a counter on the CPU, wherever the network is
        torch._foreach_lerp_(mine, theirs, 1.0 if first else 1 - self.decay)
        for average, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
        self.n_averaged += 1

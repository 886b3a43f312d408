"""Exponential moving average of the weights of a network."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from srtoolbox.utils.torch_private import lerp_all


class EMA(AveragedModel):
    """torch's ``AveragedModel`` with an update in two kernels that does not wait for the device.

    (The update of ``AveragedModel`` copies its counter to the device, and the host waits for it.)

    Args:
        net: The network to average.
        decay: Factor of the average in each update, in [0, 1).
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__(net)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Updates the average; the first update copies the weights. Buffers are always copied."""
        ours, theirs = list(self.module.parameters()), list(model.parameters())
        first = int(self.n_averaged) == 0  # this counter is always on the CPU
        lerp_all(ours, theirs, 1.0 if first else 1 - self.decay)
        for average, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
        self.n_averaged += 1

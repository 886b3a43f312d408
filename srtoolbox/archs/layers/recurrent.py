"""Recurrent layers over the frames of a clip or burst."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvGRU(nn.Module):
    """Convolutional gated recurrent unit (Ballas et al., "Delving Deeper into Convolutional
    Networks for Learning Video Representations", ICLR 2016).

    One convolution reads the inputs of all frames at once; only the path through the state runs
    frame after frame.

    Args:
        num_feat: Channels of the inputs and of the state.
        kernel_size: Of its convolutions; 1 will do for frames that are aligned and embedded.
    """

    def __init__(self, num_feat: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.input = nn.Conv2d(num_feat, 3 * num_feat, kernel_size, padding=kernel_size // 2)
        self.state = nn.Conv2d(num_feat, 3 * num_feat, kernel_size, padding=kernel_size // 2)

    def forward(self, frames: Tensor, orders: list[list[int]]) -> list[Tensor]:
        """Reads the frames once for each order.

        Args:
            frames: (N, T, C, h, w).
            orders: Frame indices in the order of reading.

        Returns:
            The state (N, C, h, w) after the last frame, for each order.
        """
        inputs = self.input(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        gates = [gate.unbind(1) for gate in inputs.chunk(3, 2)]
        states = []
        for order in orders:
            state = torch.zeros_like(gates[0][0])
            for i in order:
                update, reset, candidate = self.state(state).chunk(3, 1)
                update = torch.sigmoid(gates[0][i] + update)
                reset = torch.sigmoid(gates[1][i] + reset)
                candidate = torch.tanh(gates[2][i] + reset * candidate)
                state = torch.lerp(state, candidate, update)
            states.append(state)
        return states

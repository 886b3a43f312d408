"""Recurrent layer over the frames of a clip or burst."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvGRU(nn.Module):
    """Convolutional gated recurrent unit (Ballas et al., "Delving Deeper into Convolutional
    Networks for Learning Video Representations", ICLR 2016).

    One convolution processes the inputs of all frames at once; only the convolution of the state
    runs frame by frame.

    Args:
        num_feat: Channels of the inputs and of the state.
        kernel_size: Kernel size of the convolutions; 1 is enough for aligned, embedded frames.
    """

    def __init__(self, num_feat: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.input = nn.Conv2d(num_feat, 3 * num_feat, kernel_size, padding=kernel_size // 2)
        self.state = nn.Conv2d(num_feat, 3 * num_feat, kernel_size, padding=kernel_size // 2)

    def forward(self, frames: Tensor, orders: list[list[int]]) -> list[Tensor]:
        """Processes the frames once in each of the given orders.

        Args:
            frames: (N, T, C, h, w).
            orders: For each pass, frame indices in the order of processing.

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

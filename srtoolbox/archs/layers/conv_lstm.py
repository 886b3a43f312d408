"""Convolutional LSTM with convolutions as peepholes, and a backward pass of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight


class ConvLSTM(nn.Module):
    """Convolutional LSTM over the frames of a burst, in their order (Shi et al., NeurIPS 2015).

    From the frame x, the previous hidden state h⁻ and the previous cell state c⁻, which are zero
    before the first frame, it computes::

        i = σ(W_xi x + W_hi h⁻ + W_ci c⁻ + b_i)
        f = σ(W_xf x + W_hf h⁻ + W_cf c⁻ + b_f)
        c = f · c⁻ + i · tanh(W_xc x + W_hc h⁻ + b_c)
        o = σ(W_xo x + W_ho h⁻ + W_co c + b_o)
        h = o · tanh(c)

    Every W is a convolution with its own parameters, but the convolutions of the same input run as
    one: those of x for all frames at once, those of h and those of c once per frame.

    Args:
        num_feat: Channels C of frames and states.
        kernel_size: Size of all kernels, odd.
    """

    def __init__(self, num_feat: int, kernel_size: int) -> None:
        super().__init__()
        self.padding = kernel_size // 2
        conv = partial(nn.Conv2d, num_feat, num_feat, kernel_size, padding=self.padding)
        bias = partial(torch.zeros, 1, num_feat, 1, 1)
        self.b_i, self.b_f = nn.Parameter(bias()), nn.Parameter(bias())
        self.b_c, self.b_o = nn.Parameter(bias()), nn.Parameter(bias())
        self.W_xi, self.W_hi, self.W_ci = conv(), conv(), conv()
        self.W_xf, self.W_hf, self.W_cf = conv(), conv(), conv()
        self.W_xc, self.W_hc = conv(), conv()
        self.W_xo, self.W_ho, self.W_co = conv(), conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        """Maps frames (N, T, C, h, w) to the hidden states h (N, T, C, h, w)."""
        by_frame = self._by_frame(x, self._weights("x", "oifc"), self._biases("oifc"))
        by_hidden = self._weights("h", "oifc").to(by_frame.dtype)
        by_cell = self._weights("c", "oif").to(by_frame.dtype)
        hidden: Any = _Recurrence.apply(by_frame, by_hidden, by_cell)
        return hidden.transpose(0, 1)

    def states(self, x: Tensor, num_frame: int) -> Iterator[Tensor]:
        """Yields h (N, C, h, w) of each frame of ``x``; for inference, since it keeps little.

        Args:
            x: Frames (N, T, C, h, w).
            num_frame: Number of frames whose convolutions run as one.
        """
        weight, bias = self._weights("x", "oifc"), self._biases("oifc")
        by_frame = (
            gates
            for part in x.split(num_frame, 1)
            for gates in self._by_frame(part, weight, bias).unbind()
        )
        steps = _steps(by_frame, self._weights("h", "oifc"), self._weights("c", "oif"))
        return (hidden for *_, hidden in steps)

    def _by_frame(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        gates = F.conv2d(x.flatten(0, 1), weight, bias, padding=self.padding)
        return gates.unflatten(0, x.shape[:2]).transpose(0, 1)

    def _convolutions(self, inputs: str, gate: str) -> list[nn.Conv2d]:
        """Returns those of a gate, of the ``inputs`` x, h and c (which c̃ does not have)."""
        names = [f"W_{source}{gate}" for source in inputs if source + gate != "cc"]
        return [cast(nn.Conv2d, self.get_submodule(name)) for name in names]

    def _weights(self, source: str, gates: str) -> Tensor:
        convs = [conv for gate in gates for conv in self._convolutions(source, gate)]
        return torch.cat([conv.weight for conv in convs])

    def _biases(self, gates: str) -> Tensor:
        """Returns the sum of all biases of each gate: all of them are added to it."""
        return torch.cat([self._bias(gate) for gate in gates])

    def _bias(self, gate: str) -> Tensor:
        total = self.get_parameter(f"b_{gate}").flatten()
        for conv in self._convolutions("xhc", gate):
            total = total + cast(Tensor, conv.bias)
        return total


_Step: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Results for one frame: the activated gates o, i beside f, and c̃; the states c and h."""


def _steps(by_frame: Iterable[Tensor], by_hidden: Tensor, by_cell: Tensor) -> Iterator[_Step]:
    """Runs the recurrence frame by frame.

    Args:
        by_frame: For each frame, its share and all biases in the gates o, i, f and c̃ before their
            activation, (N, 4C, h, w).
        by_hidden: Weights (4C, C, k, k) of h⁻ in these gates.
        by_cell: Weights (3C, C, k, k) of c in o, and of c⁻ in i and f.
    """
    c, padding = by_hidden.shape[1], by_hidden.shape[-1] // 2
    state: tuple[Tensor, Tensor, Tensor] | None = None  # h, c, and the convolutions of c
    for gates in by_frame:
        if state is not None:
            gates = gates + F.conv2d(state[0], by_hidden, padding=padding)
            gates[:, c : 3 * c] += state[2][:, c:]
        out, in_forget, new = gates.split((c, 2 * c, c), 1)
        in_forget, new = torch.sigmoid(in_forget), torch.tanh(new)
        cell = in_forget[:, :c] * new
        if state is not None:
            cell = cell.addcmul(in_forget[:, c:], state[1])
        by_state = F.conv2d(cell, by_cell, padding=padding)
        out = torch.sigmoid(out + by_state[:, :c])
        hidden = out * torch.tanh(cell)
        state = hidden, cell, by_state
        yield out, in_forget, new, cell, hidden


class _Recurrence(Function):
    """The part of `ConvLSTM` that runs frame by frame, for training.

    In automatic differentiation, every frame would add its share to the gradients of all weights.
    Here the gradients of the gates of all frames are collected, and one convolution computes the
    gradient of a weight. Six maps are kept for each frame, instead of twelve.
    """

    @staticmethod
    def forward(ctx: Any, by_frame: Tensor, by_hidden: Tensor, by_cell: Tensor) -> Tensor:
        """Maps the arguments of `_steps`, ``by_frame`` as (T, N, 4C, h, w), to h (T, N, C, h, w).

        All tensors have the same type, also under autocast.
        """
        with torch.autocast(by_frame.device.type, enabled=False):
            steps = list(_steps(by_frame.unbind(), by_hidden, by_cell))
        hidden = torch.stack([step[4] for step in steps])
        kept = [tensor for step in steps for tensor in step[:4]]
        ctx.save_for_backward(by_hidden, by_cell, hidden, *kept)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the gradients of the arguments of `forward`."""
        by_hidden, by_cell, hidden, *kept = ctx.saved_tensors
        (grad_hidden,) = grad_outputs
        num_frame, c, padding = len(hidden), hidden.shape[2], by_hidden.shape[-1] // 2
        cells = kept[3::4]
        # The gradient of a convolution's input is a convolution with the mirrored kernel.
        to_hidden, to_cell = (
            weight.transpose(0, 1).flip(2, 3).contiguous() for weight in (by_hidden, by_cell)
        )
        grads: list[Tensor] = []  # of the gates, from the last frame to the first
        grads_seen: list[Tensor] = []  # of the convolution of the cell state
        grad_cell = next_forget = None
        for t in reversed(range(num_frame)):
            out, in_forget, new, cell = kept[4 * t : 4 * t + 4]
            grad = grad_hidden[t]
            if grads:
                grad = grad + F.conv2d(grads[-1], to_hidden, padding=padding)
            bent = torch.tanh(cell)
            grad_out = _of_sigmoid(grad * bent, out)
            later = grads[-1][:, c : 3 * c] if grads else torch.zeros_like(in_forget)
            seen = torch.cat((grad_out, later), 1)
            total = F.conv2d(seen, to_cell, padding=padding)
            total += _of_tanh(grad * out, bent)
            if grad_cell is not None and next_forget is not None:
                total.addcmul_(grad_cell, next_forget)
            before = cells[t - 1] if t > 0 else torch.zeros_like(new)
            both = total.repeat(1, 2, 1, 1) * torch.cat((new, before), 1)
            grad_in_forget = _of_sigmoid(both, in_forget)
            grad_new = _of_tanh(total * in_forget[:, :c], new)
            grads.append(torch.cat((grad_out, grad_in_forget, grad_new), 1))
            grads_seen.append(seen)
            grad_cell, next_forget = total, in_forget[:, c:]

        by_frame = torch.stack(grads[::-1])
        grad_by_hidden = torch.zeros_like(by_hidden)
        if num_frame > 1:
            grad_by_hidden = conv2d_weight(
                hidden[:-1].flatten(0, 1), by_hidden.shape, by_frame[1:].flatten(0, 1), 1, padding
            )
        grad_by_cell = conv2d_weight(
            torch.cat(cells), by_cell.shape, torch.cat(grads_seen[::-1]), 1, padding
        )
        return by_frame, grad_by_hidden, grad_by_cell


def _of_sigmoid(grad: Tensor, value: Tensor) -> Tensor:
    """Returns the gradient before a sigmoid, from that after it and its value."""
    return torch.ops.aten.sigmoid_backward(grad, value)


def _of_tanh(grad: Tensor, value: Tensor) -> Tensor:
    """Returns the gradient before a tanh, from that after it and its value."""
    return torch.ops.aten.tanh_backward(grad, value)

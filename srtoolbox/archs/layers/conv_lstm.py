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

from srtoolbox.archs.layers.winograd import TiledConvolution, Tiling, tiling


class ConvLSTM(nn.Module):
    """Convolutional LSTM over the frames of a burst, in their order (Shi et al., NeurIPS 2015).

    From the frame x, the previous hidden state h⁻ and the previous cell state c⁻, which are zero
    before the first frame, it computes::

        i = σ(W_xi x + W_hi h⁻ + W_ci c⁻ + b_i)
        f = σ(W_xf x + W_hf h⁻ + W_cf c⁻ + b_f)
        c = f · c⁻ + i · tanh(W_xc x + W_hc h⁻ + b_c)
        o = σ(W_xo x + W_ho h⁻ + W_co c + b_o)
        h = o · tanh(c)

    Every W is a convolution with its own parameters, but for each frame, those of x and h⁻ run as
    one, and those of c run as one. On a CPU, they run in tiles where that is faster, see
    `srtoolbox.archs.layers.winograd`.

    Args:
        num_feat: Channels C of frames and states.
        kernel_size: Size of all kernels, odd.
    """

    def __init__(self, num_feat: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        conv = partial(nn.Conv2d, num_feat, num_feat, kernel_size, padding=kernel_size // 2)
        bias = partial(torch.zeros, 1, num_feat, 1, 1)
        self.b_i, self.b_f = nn.Parameter(bias()), nn.Parameter(bias())
        self.b_c, self.b_o = nn.Parameter(bias()), nn.Parameter(bias())
        self.W_xi, self.W_hi, self.W_ci = conv(), conv(), conv()
        self.W_xf, self.W_hf, self.W_cf = conv(), conv(), conv()
        self.W_xc, self.W_hc = conv(), conv()
        self.W_xo, self.W_ho, self.W_co = conv(), conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        """Maps frames (N, T, C, h, w) to the hidden states h (N, T, C, h, w)."""
        tiles, frames = self._tiling(x), x.transpose(0, 1)
        if tiles is not None:
            frames = tiles.divide(frames)
        hidden: Any = _Recurrence.apply(frames, *self._weights(x.dtype, tiles), tiles)
        return (hidden if tiles is None else tiles.join(hidden)).transpose(0, 1)

    def states(self, x: Tensor) -> Iterator[Tensor]:
        """Yields h (N, C, h, w) of each frame of ``x``; for inference, since it keeps little."""
        tiles, frames = self._tiling(x), iter(x.unbind(1))
        if tiles is not None:
            frames = (tiles.divide(frame[None])[0] for frame in frames)
        for *_, hidden in _steps(frames, *_start(*self._weights(x.dtype, tiles), tiles)):
            yield hidden if tiles is None else tiles.join(hidden[None])[0]

    def _tiling(self, x: Tensor) -> Tiling | None:
        return tiling(x[:, 0], x.shape[2], self.kernel_size)

    def _weights(self, dtype: torch.dtype, tiles: Tiling | None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns weights and bias of the convolution of x and h⁻, and the weights of that of c."""
        of_frame, of_hidden = self._stack("x", "oifc"), self._stack("h", "oifc")
        both, by_cell = torch.cat((of_frame, of_hidden), 1), self._stack("c", "oif")
        if tiles is not None:
            both, by_cell = tiles.kernels(both), tiles.kernels(by_cell)
        bias = torch.cat([self._bias(gate) for gate in "oifc"])
        return both.to(dtype), bias.to(dtype), by_cell.to(dtype)

    def _convolutions(self, inputs: str, gate: str) -> list[nn.Conv2d]:
        """Returns those of a gate, of the ``inputs`` x, h and c (which c̃ does not have)."""
        names = [f"W_{source}{gate}" for source in inputs if source + gate != "cc"]
        return [cast(nn.Conv2d, self.get_submodule(name)) for name in names]

    def _stack(self, source: str, gates: str) -> Tensor:
        """Returns the weights (gates · C, C, k, k) of the convolutions of x, h or c."""
        convs = [conv for gate in gates for conv in self._convolutions(source, gate)]
        return torch.cat([conv.weight for conv in convs])

    def _bias(self, gate: str) -> Tensor:
        """Returns the sum of all biases of a gate: all of them are added to it."""
        total = self.get_parameter(f"b_{gate}").flatten()
        for conv in self._convolutions("xhc", gate):
            total = total + cast(Tensor, conv.bias)
        return total


class _Convolution:
    """A convolution of maps (N, C, h, w), with weights (O, C, k, k)."""

    def __init__(self, weight: Tensor) -> None:
        self._weight, self._padding = weight, weight.shape[-1] // 2
        self._mirrored: Tensor | None = None
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self._weight, padding=self._padding)

    def backward(self, grad: Tensor, x: Tensor) -> Tensor:
        """Returns the gradient of the input ``x``, and keeps both for that of the weights."""
        if self._mirrored is None:
            # The gradient of the input is a convolution with the mirrored kernel.
            self._mirrored = self._weight.transpose(0, 1).flip(2, 3).contiguous()
        self._pairs.append((grad, x))
        return F.conv2d(grad, self._mirrored, padding=self._padding)

    def kernels_grad(self) -> Tensor:
        """Returns the gradient of the weights: the sum of all calls of `backward`."""
        if not self._pairs:
            return torch.zeros_like(self._weight)
        grad, x = (torch.cat(maps) for maps in zip(*self._pairs[::-1], strict=True))
        return conv2d_weight(x, self._weight.shape, grad, 1, self._padding)


class _Gates:
    """The gates before their activation, without c: a convolution of the frame and h⁻."""

    def __init__(self, weight: Tensor, bias: Tensor, tiles: Tiling | None) -> None:
        self._channels = 1 if tiles is None else 2  # their dimension in the weights
        own = weight.chunk(2, self._channels)[0].contiguous()
        self._of_both, self._of_frame = _convolution(weight, tiles), _convolution(own, tiles)
        self._bias = bias.detach()[:, None, None]
        wide = torch.promote_types(bias.dtype, torch.float32)  # for sums over all frames
        self._bias_grad = torch.zeros_like(bias, dtype=wide)

    def forward(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        """Maps x and h⁻, which is None before the first frame, to the gates o, i, f and c̃."""
        if hidden is None:
            return self._of_frame.forward(x).add_(self._bias)
        return self._of_both.forward(torch.cat((x, hidden), 1)).add_(self._bias)

    def backward(
        self, grad: Tensor, x: Tensor, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the gradients of x and h⁻, and adds to those of weights and bias."""
        self._bias_grad += grad.sum((0, 2, 3))
        if hidden is None:
            return self._of_frame.backward(grad, x), None
        of_frame, of_hidden = self._of_both.backward(grad, torch.cat((x, hidden), 1)).chunk(2, 1)
        return of_frame, of_hidden

    def weights_grad(self) -> tuple[Tensor, Tensor]:
        """Returns the gradients of weights and bias."""
        both = self._of_both.kernels_grad()
        both.chunk(2, self._channels)[0].add_(self._of_frame.kernels_grad())
        return both, self._bias_grad.to(both.dtype)


def _convolution(weight: Tensor, tiles: Tiling | None) -> _Convolution | TiledConvolution:
    return _Convolution(weight) if tiles is None else tiles.start(weight)


def _start(
    weight: Tensor, bias: Tensor, by_cell: Tensor, tiles: Tiling | None
) -> tuple[_Gates, _Convolution | TiledConvolution]:
    """Returns the convolutions of `_steps`, from `ConvLSTM._weights`."""
    return _Gates(weight, bias, tiles), _convolution(by_cell, tiles)


_Step: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Results for one frame: the activated gates o, i beside f, and c̃; the states c and h."""


def _steps(
    frames: Iterable[Tensor],
    of_gates: _Gates,
    of_cell: _Convolution | TiledConvolution,
) -> Iterator[_Step]:
    """Runs the recurrence frame by frame.

    Args:
        frames: The frames (N, C, h, w), or their tiles (m², C, rows, columns).
        of_gates: Convolution of x and h⁻ for the gates o, i, f and c̃.
        of_cell: Convolution of c for o, and of c⁻ for i and f.
    """
    hidden = cell = by_state = None
    for frame in frames:
        gates = of_gates.forward(frame, hidden)
        c = gates.shape[1] // 4
        if by_state is not None:
            gates[:, c : 3 * c] += by_state[:, c:]
        out, in_forget, new = gates.split((c, 2 * c, c), 1)
        in_forget, new = torch.sigmoid(in_forget), _tanh(new)
        before, cell = cell, in_forget[:, :c] * new
        if before is not None:
            cell = cell.addcmul(in_forget[:, c:], before)
        by_state = of_cell.forward(cell)
        out = torch.sigmoid(out + by_state[:, :c])
        hidden = out * _tanh(cell)
        yield out, in_forget, new, cell, hidden


class _Recurrence(Function):
    """The part of `ConvLSTM` that runs frame by frame, for training.

    In automatic differentiation, every frame would add its share to the gradients of all weights.
    Here the gradients of the gates of all frames are collected, and one convolution computes the
    gradient of a weight. Six maps are kept for each frame, instead of twelve.
    """

    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        weight: Tensor,
        bias: Tensor,
        by_cell: Tensor,
        tiles: Tiling | None,
    ) -> Tensor:
        """Returns all h, (T, N, C, h, w) or tiles.

        All tensors have the same type, also under autocast.

        Args:
            ctx: Context of the function.
            frames: As in `_steps`, in one tensor.
            weight: Weights of the gates.
            bias: Their bias.
            by_cell: Weights of c in o, and of c⁻ in i and f.
            tiles: Division of all maps; None for plain convolutions.
        """
        with torch.autocast(frames.device.type, enabled=False):
            steps = list(_steps(frames.unbind(), *_start(weight, bias, by_cell, tiles)))
        hidden = torch.stack([step[4] for step in steps])
        kept = [tensor for step in steps for tensor in step[:4]]
        ctx.save_for_backward(frames, weight, bias, by_cell, hidden, *kept)
        ctx.tiles = tiles
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        """Returns the gradients of the arguments of `forward`."""
        frames, weight, bias, by_cell, hidden, *kept = ctx.saved_tensors
        (grad_hidden,) = grad_outputs
        num_frame, c = len(hidden), hidden.shape[2]
        cells = kept[3::4]
        of_gates, of_cell = _start(weight, bias, by_cell, ctx.tiles)
        grad_frames: list[Tensor] = []  # from the last one to the first
        grad_gates = grad_next = grad_cell = next_forget = None
        for t in reversed(range(num_frame)):
            out, in_forget, new, cell = kept[4 * t : 4 * t + 4]
            grad = grad_hidden[t]
            if grad_next is not None:
                grad = grad + grad_next
            bent = _tanh(cell)
            grad_out = _of_sigmoid(grad * bent, out)
            later = torch.zeros_like(in_forget)
            if grad_gates is not None:
                later = grad_gates[:, c : 3 * c]
            seen = torch.cat((grad_out, later), 1)
            total = of_cell.backward(seen, cell)
            total += _of_tanh(grad * out, bent)
            if grad_cell is not None and next_forget is not None:
                total.addcmul_(grad_cell, next_forget)
            before = cells[t - 1] if t > 0 else torch.zeros_like(new)
            both = total.repeat(1, 2, 1, 1) * torch.cat((new, before), 1)
            grad_in_forget = _of_sigmoid(both, in_forget)
            grad_new = _of_tanh(total * in_forget[:, :c], new)
            grad_gates = torch.cat((grad_out, grad_in_forget, grad_new), 1)
            of_frame, grad_next = of_gates.backward(
                grad_gates, frames[t], hidden[t - 1] if t > 0 else None
            )
            grad_frames.append(of_frame)
            grad_cell, next_forget = total, in_forget[:, c:]

        of_weights = of_gates.weights_grad()
        return torch.stack(grad_frames[::-1]), *of_weights, of_cell.kernels_grad(), None


def _tanh(x: Tensor) -> Tensor:
    """Returns the tangens hyperbolicus; on a CPU, the sigmoid is several times faster."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return torch.tanh(x)
    return torch.sigmoid(2 * x).mul_(2).sub_(1)


def _of_sigmoid(grad: Tensor, value: Tensor) -> Tensor:
    """Returns the gradient before a sigmoid, from that after it and its value."""
    return torch.ops.aten.sigmoid_backward(grad, value)


def _of_tanh(grad: Tensor, value: Tensor) -> Tensor:
    """Returns the gradient before a tanh, from that after it and its value."""
    return torch.ops.aten.tanh_backward(grad, value)

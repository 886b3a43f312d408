from __future__ import annotations

import torch

from srtoolbox.archs.layers.recurrent import ConvGRU


def test_follows_the_equations_in_each_order():
    torch.manual_seed(0)
    gru = ConvGRU(4)
    frames = torch.randn(2, 3, 4, 5, 6)
    orders = [[2, 1, 0], [1, 2, 0]]
    for order, state in zip(orders, gru(frames, orders), strict=True):
        expected = torch.zeros(2, 4, 5, 6)
        for i in order:
            a, b = gru.input(frames[:, i]).chunk(3, 1), gru.state(expected).chunk(3, 1)
            z, r = (a[0] + b[0]).sigmoid(), (a[1] + b[1]).sigmoid()
            expected = (1 - z) * expected + z * (a[2] + r * b[2]).tanh()
        torch.testing.assert_close(state, expected)


def test_does_not_look_beyond_its_kernel():
    gru = ConvGRU(2, kernel_size=1)
    frames = torch.zeros(1, 2, 2, 5, 5, requires_grad=True)
    gru(frames, [[0, 1]])[0][0, :, 2, 2].sum().backward()
    assert frames.grad.abs().sum((0, 1, 2)).nonzero().tolist() == [[2, 2]]

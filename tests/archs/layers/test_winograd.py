from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import Function

from srtoolbox.archs.layers import winograd
from srtoolbox.archs.layers.conv_lstm import ConvLSTM
from srtoolbox.archs.layers.winograd import Tiling, direct_convolutions, tiling
from srtoolbox.engine.profiling import count_flops

SIZES = [(2, 8, 12), (1, 9, 7), (3, 10, 13), (2, 4, 4), (1, 1, 1), (1, 3, 30)]


class Convolve(Function):
    """Convolves (N, C, h, w), as N images below each other, without a bias."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.tiles = tiles = Tiling(weight.shape[-1], *x[:, 0].shape)
        with torch.enable_grad():
            ctx.weight = weight.detach().requires_grad_()
            ctx.kernels = tiles.kernels(ctx.weight)
        ctx.maps = tiles.divide(x[None])[0]
        return tiles.join(tiles.start(ctx.kernels).forward(ctx.maps)[None])[0]

    @staticmethod
    def backward(ctx, *grads):
        convolution = ctx.tiles.start(ctx.kernels)
        back = convolution.backward(ctx.tiles.divide(grads[0][None])[0], ctx.maps)
        (weight,) = torch.autograd.grad(ctx.kernels, ctx.weight, convolution.kernels_grad())
        return ctx.tiles.join(back[None])[0], weight


@pytest.mark.parametrize("band", [1, 3, 1000])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", SIZES)
def test_agrees_with_the_convolution(monkeypatch, size, kernel, band):
    monkeypatch.setattr(winograd, "_BAND_TILES", band)
    torch.manual_seed(0)
    n, h, w = size
    x = torch.randn(n, 5, h, w, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 5, kernel, kernel, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(x, weight, padding=kernel // 2)
    grad = torch.randn_like(expected)
    out = Convolve.apply(x, weight)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-11)
    gradients = (torch.autograd.grad(result, (x, weight), grad) for result in (out, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("kernel", "limit"), [(3, 2e-6), (5, 8e-6)])
def test_rounding_errors_are_small(kernel, limit):
    torch.manual_seed(0)
    x = torch.randn(1, 64, 24, 24, requires_grad=True)
    weight = (torch.randn(64, 64, kernel, kernel) / (8 * kernel)).requires_grad_()
    exact_x, exact_weight = (t.detach().double().requires_grad_() for t in (x, weight))
    expected = F.conv2d(exact_x, exact_weight, padding=kernel // 2)
    out = Convolve.apply(x, weight)
    grad = torch.randn_like(out)
    pairs = zip(
        (out, *torch.autograd.grad(out, (x, weight), grad)),
        (expected, *torch.autograd.grad(expected, (exact_x, exact_weight), grad.double())),
        strict=True,
    )
    for ours, exact in pairs:
        assert (ours - exact).norm() < limit * exact.norm()


def test_is_used_where_it_is_faster():
    x = torch.zeros(1, 32, 24, 24)
    assert tiling(x, 32, 3) is not None
    assert tiling(x, 32, 5) is not None
    assert tiling(x, 32, 1) is None
    assert tiling(x, 16, 3) is None
    assert tiling(x[..., :8, :8], 32, 5) is None
    assert tiling(x.double(), 32, 5) is None
    assert tiling(x.to("meta"), 32, 5) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert tiling(x, 32, 5) is None
    with direct_convolutions():
        assert tiling(x, 32, 5) is None
    assert tiling(x, 32, 5) is not None


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [3, 5])
def test_recurrence_in_tiles_agrees_with_convolutions(kernel):
    torch.manual_seed(0)
    lstm = ConvLSTM(32, kernel)
    x = torch.randn(2, 3, 32, 25, 22)
    other, exact_x = copy.deepcopy(lstm).double(), x.double().requires_grad_()
    x.requires_grad_()
    assert tiling(x[:, 0], 32, kernel) is not None
    assert tiling(exact_x[:, 0], 32, kernel) is None
    out, expected = lstm(x), other(exact_x)
    torch.testing.assert_close(out, expected.float(), rtol=0, atol=1e-5)
    with torch.no_grad():
        states = torch.stack(list(lstm.states(x)), 1)
    torch.testing.assert_close(states, out, rtol=0, atol=1e-6)
    out.square().sum().backward()
    expected.square().sum().backward()
    pairs = [(x, exact_x), *zip(lstm.parameters(), other.parameters(), strict=True)]
    for ours, exact in pairs:
        assert ours.grad is not None and exact.grad is not None
        assert (ours.grad - exact.grad).norm() < 1e-5 * exact.grad.norm()


def test_flops_are_those_of_the_definition():
    lstm, x = ConvLSTM(32, 3), torch.zeros(1, 1, 32, 24, 24)
    with torch.no_grad():
        flops, uncounted = count_flops(lambda: list(lstm.states(x)))
    # The hidden state of the frame before the first one is zero and needs no convolution.
    assert (flops, uncounted) == (2 * (4 + 3) * 32 * 32 * 9 * 24 * 24, [])

"""Costs against values that can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs import EDSR
from srtoolbox.archs.layers.deform import deform_conv2d
from srtoolbox.engine.profiling import count_flops, measure_inference, peak_memory

CPU = torch.device("cpu")
MIB = 2**20


def test_peak_memory_counts_what_is_alive_at_once() -> None:
    side = 512  # 1 MiB per float32 image

    def chain() -> None:
        a = torch.zeros(side, side)  # 1
        b = a + 1  # 2
        del a  # 1
        c = b * 2  # 2
        torch.stack([b, c])  # 4

    assert peak_memory(chain, CPU) == pytest.approx(4)


def test_weights_inputs_and_views_are_not_counted() -> None:
    weight = torch.zeros(MIB // 4)

    def work() -> None:
        weight.view(2, -1).t()

    assert peak_memory(work, CPU) == 0


def test_the_backward_pass_is_counted() -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    batch = torch.zeros(MIB // 256, 64)  # 1 MiB
    with torch.no_grad():
        forward = peak_memory(lambda: net(batch), CPU)
    both = peak_memory(lambda: net(batch).sum().backward(), CPU)
    assert both > forward >= 2


def test_costs_of_edsr() -> None:
    net = EDSR(scale=2, num_feat=8, num_block=1)
    cost = measure_inference(net.train(), torch.rand(1, 3, 3, 10, 12), reference=0)
    assert cost["params"] == sum(p.numel() for p in net.parameters())
    pixels = 10 * 12
    body = 3 * 8 + 8 * 8 * 3  # first, two of the block, one after the body
    macs = 9 * pixels * (body + 8 * 32 + 4 * 8 * 3)  # upsampling conv, last conv on 4× pixels
    assert cost["flops"] == 2 * macs
    assert 0 < cost["latency"] <= cost["latency_p95"] and cost["memory"] > 0
    assert cost["runs"] >= 7
    assert (cost["input"], cost["precision"]) == ([1, 3, 3, 10, 12], "fp32")
    assert cost["uncounted"] == []
    assert net.training


@pytest.mark.parametrize("mode", [("nearest", 0), ("bilinear", 4), ("bicubic", 16)])
def test_flops_of_sampling(mode: tuple[str, int]) -> None:
    name, taps = mode
    x, grid = torch.rand(2, 3, 6, 7), torch.rand(2, 4, 5, 2)
    flops, _ = count_flops(lambda: F.grid_sample(x, grid, mode=name, align_corners=False))
    assert flops == 2 * taps * 2 * 3 * 4 * 5


@pytest.mark.parametrize("antialias", [False, True])
def test_flops_of_interpolation(antialias: bool) -> None:
    x = torch.rand(1, 3, 8, 6)
    options = {"mode": "bicubic", "antialias": antialias}
    flops, _ = count_flops(lambda: F.interpolate(x, size=(16, 12), **options))
    assert flops == 2 * 16 * 3 * 16 * 12


@pytest.mark.parametrize("backend", ["grid_sample", "torchvision"])
@pytest.mark.parametrize("masked", [False, True])
def test_deformable_convolution_costs_the_same_by_whatever_operator(
    backend: str, masked: bool
) -> None:
    pytest.importorskip("torchvision")
    n, channels, out, groups, h, w = 2, 8, 6, 2, 5, 7
    x, weight = torch.rand(n, channels, h, w), torch.rand(out, channels, 3, 3)
    offset = torch.rand(n, 2 * groups * 9, h, w)
    mask = torch.rand(n, groups * 9, h, w) if masked else None
    flops, uncounted = count_flops(
        lambda: deform_conv2d(x, offset, weight, torch.rand(out), mask, backend=backend)
    )
    sampled, weighted = n * channels * 9 * h * w, n * out * channels * 9 * h * w
    assert flops == 8 * sampled + 2 * weighted
    assert uncounted == []


def test_flops_of_attention() -> None:
    query, key = torch.rand(2, 3, 10, 4), torch.rand(2, 3, 20, 4)
    flops, _ = count_flops(lambda: F.scaled_dot_product_attention(query, key, key))
    assert flops == 2 * (2 * 2 * 3 * 10 * 20 * 4)


def test_an_operator_of_another_package_is_named() -> None:
    @torch.library.custom_op("srtoolbox_test::twice", mutates_args=())
    def twice(x: Tensor) -> Tensor:
        return 2 * x

    flops, uncounted = count_flops(lambda: twice(torch.rand(3)))
    assert (flops, uncounted) == (0, ["srtoolbox_test.twice"])

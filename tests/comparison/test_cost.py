"""Costs against values that can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from srtoolbox.archs import EDSR
from srtoolbox.comparison.cost import measure_inference, peak_memory

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
    assert cost["latency"] > 0 and cost["memory"] > 0
    assert net.training

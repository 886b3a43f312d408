"""Every network computes on a GPU what it computes on a CPU."""

from __future__ import annotations

import copy

import pytest
import torch
from support.networks import NAMES, SMALL, outputs
from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.engine.device.precision import autocast
from srtoolbox.registry import ARCH_REGISTRY


def build(name: str) -> nn.Module:
    """Returns a small network with random weights, so that no sample is at a whole pixel."""
    torch.manual_seed(0)
    net = ARCH_REGISTRY.get(name)(**SMALL.get(name, {})).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return net


def run(net: nn.Module, lq: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the SR images and all gradients of their mean square in one vector, on the CPU."""
    with autocast(lq.device, "fp32"):
        sr = outputs(net, lq)["sr"]
    if sr.requires_grad:
        sr.square().mean().backward()
    gradients = [p.grad.flatten().cpu() for p in net.parameters() if p.grad is not None]
    return sr.detach().cpu(), torch.cat([torch.zeros(1), *gradients])


@pytest.mark.cuda
@pytest.mark.parametrize("name", NAMES)
def test_devices_agree(name: str) -> None:
    net = build(name)
    info = arch_info(net)
    size = -(-16 // info.size_multiple) * info.size_multiple
    frames = () if info.num_frame == 1 else (info.num_frame or 3,)
    lq = torch.rand(2, *frames, info.channels, size, size)
    sr, gradients = run(net, lq)
    sr_there, gradients_there = run(copy.deepcopy(net).cuda(), lq.cuda())
    assert (sr - sr_there).norm() <= 1e-3 * sr.norm()
    assert len(gradients) == len(gradients_there)
    # A sample between two pixels may be on the other side of one of them.
    assert (gradients - gradients_there).norm() <= 0.02 * gradients.norm()

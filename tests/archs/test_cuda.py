"""Every network computes on a GPU what it computes on a CPU."""

from __future__ import annotations

import copy

import pytest
import torch
from support.networks import NAMES, SMALL, outputs

from srtoolbox.archs.base import arch_info
from srtoolbox.engine.device.precision import autocast
from srtoolbox.registry import ARCH_REGISTRY


def run(net: torch.nn.Module, lq: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Returns the SR images and the gradients of their mean square, on the CPU."""
    with autocast(lq.device, "fp32"):
        sr = outputs(net, lq)["sr"]
    if sr.requires_grad:
        sr.square().mean().backward()
    found = [p.grad.cpu() for p in net.parameters() if p.grad is not None]
    return sr.detach().cpu(), found


@pytest.mark.cuda
@pytest.mark.parametrize("name", NAMES)
def test_devices_agree(name: str, device: str = "cuda") -> None:
    torch.manual_seed(0)
    net = ARCH_REGISTRY.get(name)(**SMALL.get(name, {})).eval()
    info = arch_info(net)
    size = -(-16 // info.size_multiple) * info.size_multiple
    frames = () if info.num_frame == 1 else (info.num_frame or 3,)
    lq = torch.rand(2, *frames, info.channels, size, size)
    here, there = run(net, lq), run(copy.deepcopy(net).to(device), lq.to(device))
    assert len(here[1]) == len(there[1])
    for ours, theirs in ((here[0], there[0]), *zip(here[1], there[1], strict=True)):
        assert (ours - theirs).norm() <= 1e-3 * ours.norm() + 1e-6

"""The usual forms of burst networks have the outputs and gradients of the networks."""

from __future__ import annotations

import pytest
import torch
from support.networks import SMALL
from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.archs.layers.deform import reference_path
from srtoolbox.bench.straightforward import straightforward
from srtoolbox.registry import ARCH_REGISTRY

CASES = [
    ("Burstormer", {}),
    ("Burstormer", {"num_feat": 16, "fusion": "real", "scale": 8}),
    ("Burstormer", {"skip": True}),
    ("BIPNet", {}),
    ("BIPNet", {"skip": True, "scale": 2}),
    ("FBANet", {}),
    ("FBANet", {"window_size": 3}),
]


def gradients(net: nn.Module, lq: Tensor) -> Tensor:
    """Returns the gradients of all parameters and of the frames, as one vector."""
    net.zero_grad(set_to_none=True)
    lq = lq.clone().requires_grad_()
    net(lq).square().mean().backward()
    grads = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in (*net.parameters(), lq)]
    return torch.cat([grad.flatten() for grad in grads])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES)
def test_agrees_with_the_straightforward_form(name: str, options: dict) -> None:
    torch.manual_seed(0)
    net = ARCH_REGISTRY.get(name)(**{**SMALL[name], **options}).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    other = straightforward(net)
    assert other is not net
    assert {id(p) for p in other.parameters()} == {id(p) for p in net.parameters()}
    multiple = arch_info(net).size_multiple
    lq = torch.rand(2, arch_info(net).num_frame or 3, 3, 2 * multiple, 3 * multiple)
    with torch.no_grad():
        ours = net(lq)
        with reference_path():
            theirs = other(lq)
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()

    net, lq = net.double(), lq.double()
    other = straightforward(net)
    ours = gradients(net, lq)
    with reference_path():
        theirs = gradients(other, lq)
    assert (ours - theirs).norm() <= 1e-9 * theirs.norm()

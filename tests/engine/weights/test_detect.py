"""Tests the recognition of archs by the names of tensors."""

from __future__ import annotations

import pytest
import torch

from srtoolbox.archs.base import arch_info
from srtoolbox.engine.weights.detect import closest_arch
from srtoolbox.registry import ARCH_REGISTRY
from srtoolbox.utils.meta import without_memory

OPTIONS = {
    "DSTCSRNet": {"num_feat": 16},
    "DSTCSRNetPlus": {"num_feat": 16, "num_block": 3},
    "EDSR": {"num_feat": 8, "num_block": 3},
    "EDVR": {"num_feat": 16, "num_extract_block": 1, "num_reconstruct_block": 2},
    "ISR_RDN": {"num_block": 10, "num_layer": 3},
    "RDN": {"num_block": 3},
    "RRDBNet": {"num_block": 2},
}


OWN = [n for n in ARCH_REGISTRY if n != "Bicubic" and arch_info(ARCH_REGISTRY.get(n)).own_weights]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_arch_is_recognised_in_other_sizes(name: str, prefix: str) -> None:
    arch = ARCH_REGISTRY.get(name)
    with without_memory():
        net = arch(scale=arch.scales[-1], **OPTIONS.get(name, {}))
    assert closest_arch({prefix + key: value for key, value in net.state_dict().items()}) == name


def test_unknown_tensors() -> None:
    assert closest_arch({}) is None
    assert closest_arch({"layer1.0.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}) is None


def test_faulty_archs_of_plugins_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {**ARCH_REGISTRY._entries, "NoScales": type("NoScales", (torch.nn.Module,), {})}
    monkeypatch.setattr(ARCH_REGISTRY, "_entries", entries)
    net = ARCH_REGISTRY.get("EDSR")(scale=4, num_feat=8, num_block=3)
    assert closest_arch(net.state_dict()) == "EDSR"

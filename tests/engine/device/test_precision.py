"""Devices by name, and the number format of the forward pass."""

from __future__ import annotations

import pytest
import torch

from srtoolbox.engine.device.precision import autocast, pick_device, synchronize
from srtoolbox.errors import UserError

CPU = torch.device("cpu")


def test_auto_is_a_device_that_works() -> None:
    device = pick_device()
    assert torch.zeros(2, device=device).sum().item() == 0
    synchronize(device)


def test_by_name() -> None:
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, "must be auto, cpu, cuda") for name in ("gpu", "cpu:x", "")),
        ("cuda:99", "not available here; there are: auto, cpu"),
    ],
)
def test_unknown_or_absent(name: str, words: str) -> None:
    with pytest.raises(UserError, match=f"--device {name}: {words}"):
        pick_device(name)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_autocast(precision: str, dtype: torch.dtype) -> None:
    with autocast(CPU, precision):
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype
    assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.float32

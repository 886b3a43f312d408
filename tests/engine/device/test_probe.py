"""The warning about number formats that are slow on a CPU."""

from __future__ import annotations

import pytest
import torch

from srtoolbox.engine.device import probe
from srtoolbox.engine.device.precision import resolve

CPU = torch.device("cpu")


@pytest.mark.parametrize(("ratio", "warned"), [(13.2, True), (0.6, False)])
def test_a_slow_format_is_named_with_its_ratio(monkeypatch, ratio, warned) -> None:
    monkeypatch.setattr(probe, "cpu_slowdown", lambda _: ratio)
    text = probe.slow_format(CPU, "bf16")
    assert (text is not None and "bf16: a convolution takes 13.2 times" in text) is warned


@pytest.mark.parametrize("precision", ["auto", "fp32", "tf32"])
def test_other_formats_are_not_measured(monkeypatch, precision) -> None:
    monkeypatch.setattr(probe, "cpu_slowdown", None)
    assert resolve(precision, CPU) != "bf16"
    assert probe.slow_format(CPU, precision) is None
    assert probe.slow_format(torch.device("meta"), "bf16") is None


@pytest.mark.slow
def test_the_measurement_changes_no_random_state() -> None:
    before = torch.get_rng_state()
    with torch.no_grad():
        assert probe.cpu_slowdown("bf16") > 0
    assert torch.equal(torch.get_rng_state(), before)

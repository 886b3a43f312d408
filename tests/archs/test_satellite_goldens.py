"""MSDTGP, LGTD, MSTT-STVSR and MDSR agree with outputs of the authors' code."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.goldens import load_golden, normal_of_name
from torch import Tensor, nn

from srtoolbox.archs.lgtd import LGTD
from srtoolbox.archs.mdsr import MDSR
from srtoolbox.archs.msdtgp import MSDTGP
from srtoolbox.archs.msttstvsr import MSTTSTVSR


def make_weights(net: nn.Module, entry: dict[str, Any]) -> nn.Module:
    """Sets the weights that the reference network had: values that follow from their names."""
    state = {}
    for name, tensor in net.state_dict().items():
        state[name] = tensor if not tensor.is_floating_point() else made(name, tensor, entry)
    net.load_state_dict(state)
    return net.eval()


def made(name: str, like: Tensor, entry: dict[str, Any]) -> Tensor:
    z = normal_of_name(name, tuple(like.shape), entry["seed"])
    if "bias_table" in name:
        values = 0.2 * z
    elif like.ndim >= 2:
        gain = entry["gain"] * (entry["off_gain"] if "conv_offset_mask" in name else 1)
        values = gain / math.sqrt(math.prod(like.shape[1:])) * z
    elif name.endswith("act.weight"):
        values = 0.25 + 0.05 * z
    elif "norm" in name and name.endswith("weight"):
        values = 1 + 0.1 * z
    else:
        values = 0.05 * z
    return torch.from_numpy(np.asarray(values, np.float32))


def assert_agrees(output: Tensor, expected: Tensor) -> None:
    tolerance = max(1e-4, 2e-5 * expected.abs().max().item())
    torch.testing.assert_close(output, expected, rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("msdtgp_x4_24x20_b1", MSDTGP),
        ("msdtgp_x2_18x23_b1", MSDTGP),
        ("lgtd_A_conv_legacy", LGTD),
        ("lgtd_C_hat5_legacy", LGTD),
        ("lgtd_C_hat5_intended", LGTD),
    ],
)
def test_one_frame_agrees_with_the_authors(reference: Path, name: str, arch: type) -> None:
    entry, arrays = load_golden(reference, "satellite", name)
    net = make_weights(arch(**entry["config"]), entry)
    assert sum(parameter.numel() for parameter in net.parameters()) == entry["params"]
    with torch.no_grad():
        assert_agrees(net(arrays["input"]), arrays["output"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mstt_20_legacy", "mstt_20_intended"])
def test_space_and_time_agree_with_the_authors(reference: Path, name: str) -> None:
    entry, arrays = load_golden(reference, "satellite", name)
    net = make_weights(MSTTSTVSR(**entry["config"]), entry)
    assert sum(parameter.numel() for parameter in net.parameters()) == entry["params"]
    with torch.no_grad():
        output = net(arrays["input"], arrays["flow"])
    assert_agrees(output[..., ::4, ::4], arrays["output_every4"])


@pytest.mark.parametrize(
    "name", [pytest.param("mdsr_64f_16b", marks=pytest.mark.slow), "mdsr_16f_3b"]
)
def test_every_scale_of_mdsr_agrees_with_the_authors(reference: Path, name: str) -> None:
    entry, arrays = load_golden(reference, "satellite", name)
    net = make_weights(MDSR(**entry["config"]), entry)
    assert sum(parameter.numel() for parameter in net.parameters()) == entry["params"]
    for scale in MDSR.scales:
        with torch.no_grad():
            assert_agrees(net(arrays["input"], scale), arrays[f"output_x{scale}"])

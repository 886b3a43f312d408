"""RCAN, SwinIR and SRVGGNetCompact agree with outputs of BasicSR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.goldens import hash_of_names, load_golden, set_weights_by_rules
from torch import nn

from srtoolbox.config.schema import build
from srtoolbox.inference.padding import run_padded

NAMES = {"rcan": "RCAN", "swinir": "SwinIR", "srvgg": "SRVGGNetCompact"}
KEYS = {"upscale": "scale", "in_chans": "num_in_ch"}  # their names here


def make_net(entry: dict[str, Any]) -> nn.Module:
    """Builds the network with the weights of the reference, which follow from their names."""
    options = {KEYS.get(key, key): value for key, value in entry["config"].items()}
    net = build("arch", {"type": NAMES[entry["kind"]], **options})
    return set_weights_by_rules(net, entry)


def check(reference: Path, name: str) -> None:
    entry, arrays = load_golden(reference, "video", name)
    net = make_net(entry)
    assert sum(parameter.numel() for parameter in net.parameters()) == entry["params"]
    assert len(net.state_dict()) == entry["tensors"]
    assert hash_of_names(net) == entry["state_dict_hash"]
    with torch.no_grad():
        output = run_padded(net, arrays["input"]) if entry["protocol"] else net(arrays["input"])
    stride, facts = entry["output"]["stride"], entry["output"]
    assert list(output.shape) == facts["full_shape"]
    assert output.double().abs().sum().item() == pytest.approx(facts["abs_sum"], rel=1e-4)
    tolerance = max(1e-4, 10 * facts["ref_fp32_noise"])
    strided = output[..., ::stride, ::stride]
    torch.testing.assert_close(strided, arrays["output"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["rcan_x2_small", "rcan_x3_small", "srvgg_x2_small_lrelu"])
def test_small_networks_agree(reference: Path, name: str) -> None:
    check(reference, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rcan_x4_default", "srvgg_x4_default"])
def test_published_networks_agree(reference: Path, name: str) -> None:
    check(reference, name)


@pytest.mark.parametrize(
    "name",
    [
        "swinir_classical_x3_small_storedmask",
        "swinir_classical_x4_small_othersize",
        "swinir_real_x4_small_3conv",
        "swinir_light_x2_small_noshift",
        "swinir_light_x3_padded",
    ],
)
def test_small_swinirs_agree(reference: Path, name: str) -> None:
    check(reference, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["swinir_classical_x2_default", "swinir_light_x4_default", "swinir_real_x4_default"]
)
def test_published_swinirs_agree(reference: Path, name: str) -> None:
    check(reference, name)

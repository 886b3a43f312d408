"""RCAN, SwinIR and SRVGGNetCompact agree with outputs of BasicSR."""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from srtoolbox.config.schema import build
from srtoolbox.inference.padding import run_padded

NAMES = {"rcan": "RCAN", "swinir": "SwinIR", "srvgg": "SRVGGNetCompact"}
KEYS = {"upscale": "scale", "in_chans": "num_in_ch"}  # their names here


def load(reference: Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns description and arrays of a reference network."""
    folder = reference / "goldens" / "video"
    if not (folder / f"{name}.npz").is_file():
        pytest.skip(f"no reference outputs at {folder / name}.npz")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    with np.load(folder / f"{name}.npz") as file:
        return manifest[name], {key: torch.from_numpy(file[key]) for key in file.files}


def make_net(entry: dict[str, Any]) -> nn.Module:
    """Builds the network with the weights of the reference, which follow from their names."""
    options = {KEYS.get(key, key): value for key, value in entry["config"].items()}
    net = build("arch", {"type": NAMES[entry["kind"]], **options})
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(made(name, tuple(parameter.shape), entry))
    return net.eval()


def made(name: str, shape: tuple[int, ...], entry: dict[str, Any]) -> Tensor:
    base, scale, mode = next(rest for rule, *rest in entry["weights"] if re.search(rule, name))
    seed = (zlib.crc32(name.encode()) + entry["seed"]) % 2**32
    std = scale / math.sqrt(math.prod(shape[1:])) if mode == "fan" else scale
    values = base + std * np.random.RandomState(seed).standard_normal(shape)
    return torch.from_numpy(np.asarray(values, np.float32))


def hash_of_names(net: nn.Module) -> str:
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in net.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def check(reference: Path, name: str) -> None:
    entry, arrays = load(reference, name)
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

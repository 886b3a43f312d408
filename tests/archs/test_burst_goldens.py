"""Burstormer, FBANet and BIPNet agree with outputs of the authors' code."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.goldens import normal_of_name
from torch import Tensor, nn

from srtoolbox.registry import ARCH_REGISTRY
from srtoolbox.utils.meta import without_memory

RAW = {"scale": 8, "num_in_ch": 4, "num_out_ch": 3}
OPTIONS: dict[str, dict[str, Any]] = {
    "burstormer_raw_b8": {"type": "Burstormer", **RAW},
    "burstormer_raw_b14": {"type": "Burstormer", **RAW},
    "burstormer_real_b8": {"type": "Burstormer", **RAW, "fusion": "real"},
    "burstormer_rgbx4_b14": {"type": "Burstormer"},
    "bipnet_raw_b14": {"type": "BIPNet", **RAW},
    "bipnet_rgbx4_b14": {"type": "BIPNet"},
    "fbanet_default_14f": {"type": "FBANet"},
    "fbanet_small_14f": {"type": "FBANet", "num_feat": 16, "window_size": 5},
}
KEYS = {
    "burstormer_raw": "burstormer_raw_b14",
    "burstormer_real": "burstormer_real_b8",
    "bipnet_raw": "bipnet_raw_b14",
    "fbanet_default": "fbanet_default_14f",
}


def build(name: str) -> nn.Module:
    """Returns the network that made a golden, without weights."""
    options = dict(OPTIONS[name])
    return ARCH_REGISTRY.get(options.pop("type"))(**options)


def manifest(reference: Path) -> dict[str, Any]:
    path = reference / "goldens" / "burst" / "manifest.json"
    if not path.is_file():
        pytest.skip(f"no reference outputs at {path.parent}")
    return json.loads(path.read_text(encoding="utf-8"))


def arrays(reference: Path, name: str) -> dict[str, Tensor]:
    with np.load(reference / "goldens" / "burst" / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def make_weights(net: nn.Module, entry: dict[str, Any], rules: list[tuple[str, float]]) -> None:
    """Sets the weights of the reference network: values that follow from their names."""
    state = net.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = made(name, tensor, entry["seed"], rules)
    net.load_state_dict(state)


def made(name: str, like: Tensor, seed: int, rules: list[tuple[str, float]]) -> Tensor:
    z = normal_of_name(name, tuple(like.shape), seed)
    if name.endswith("temperature"):
        z = 8 + z
    elif name.endswith(".bias"):
        z = 0.05 * z
    elif like.ndim == 1:
        z = 1 + 0.1 * z
    elif not name.endswith("relative_position_bias_table"):
        gain = next(gain for text, gain in rules if text in name)
        z = gain / math.sqrt(math.prod(like.shape[1:])) * z
    return torch.from_numpy(np.asarray(z, np.float32))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "fbanet_default_14f" else name
        for name in OPTIONS
    ],
)
def test_outputs_agree_with_the_authors(reference: Path, name: str) -> None:
    described = manifest(reference)
    entry, stored = described[name], arrays(reference, name)
    net = build(name).eval()
    assert sum(parameter.numel() for parameter in net.parameters()) == entry["params"]
    assert len(net.state_dict()) == entry["tensors"]
    make_weights(net, entry, described["gain_rules"][entry["family"]])
    with torch.no_grad():
        output = net(stored["input_u8"].float() / 255)
    tolerance = max(1e-4, 10 * entry["ref_fp32_noise"])
    views = {
        "output": output,
        "output_s3": output[..., ::3, ::3],
        "output_crop": output[..., :32, -32:],
    }
    compared = [key for key in views if key in stored]
    assert compared
    for key in compared:
        torch.testing.assert_close(views[key], stored[key], rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", KEYS)
def test_names_and_shapes_are_those_of_the_authors(reference: Path, kind: str) -> None:
    with without_memory():
        net = build(KEYS[kind])
    own = {key: list(value.shape) for key, value in net.state_dict().items()}
    assert own == manifest(reference)["_keys"][kind]


def test_weights_of_fbanets_frames_agree_with_the_authors(reference: Path) -> None:
    described, name = manifest(reference), "fbanet_small_14f"
    net, stored = build(name).eval(), arrays(reference, name)
    make_weights(net, described[name], described["gain_rules"]["fbanet"])
    lq = stored["input_u8"].float() / 255
    with torch.no_grad():
        weights = net.fusion.weights(net.body(net.head(lq.flatten(0, 1))).unflatten(0, (1, 14)))
    torch.testing.assert_close(weights, stored["frame_weights"], rtol=0, atol=1e-4)

"""SpyNet, BasicVSR and BasicVSR++ agree with outputs of the published code, and their traps."""

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

from srtoolbox.archs.basicvsr import BasicVSR
from srtoolbox.archs.basicvsrpp import BasicVSRPlusPlus
from srtoolbox.archs.layers.video import spynet as spynet_module
from srtoolbox.archs.layers.video.spynet import SpyNet
from srtoolbox.errors import UserError

OPTIONS = {  # names of options in the published code
    "mid_channels": "num_feat",
    "num_blocks": "num_block",
    "max_residue_magnitude": "max_residue",
}
MODERN = ("basicvsrpp_default", "basicvsr_default")
SMALL: dict[str, Any] = {"num_feat": 8, "num_block": 1, "num_flow_level": 3, "num_flow_feat": 4}
SMALL_PP: dict[str, Any] = {**SMALL, "num_extract_block": 1, "num_reconstruct_block": 1}


def load(reference: Path, name: str) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Returns the description, the input and the output of a reference network."""
    folder = reference / "goldens" / "video"
    if not (folder / f"{name}.npz").is_file():
        pytest.skip(f"no reference outputs at {folder / name}.npz")
    entry = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))[name]
    made = np.random.RandomState(entry["seed"] + 7).rand(*entry["input_shape"])
    with np.load(folder / f"{name}.npz") as file:
        output = torch.from_numpy(file["output"])
    return entry, torch.from_numpy(made.astype(np.float32)), output


def build(entry: dict[str, Any]) -> nn.Module:
    """Builds a reference network with its weights, which follow from their names."""
    options = {OPTIONS.get(key, key): value for key, value in entry["config"].items()}
    if not options.pop("is_low_res_input", True):
        options["scale"] = 1
    arch = {"spynet": SpyNet, "basicvsr": BasicVSR, "basicvsrpp": BasicVSRPlusPlus}[entry["kind"]]
    net = arch(**options)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            base, scale, mode = next(
                rule for pattern, *rule in entry["weights"] if re.search(pattern, name)
            )
            seed = (zlib.crc32(name.encode()) + entry["seed"]) % 2**32
            z = np.random.RandomState(seed).standard_normal(tuple(parameter.shape))
            std = scale / math.sqrt(math.prod(parameter.shape[1:])) if mode == "fan" else scale
            parameter.copy_(torch.from_numpy((base + std * z).astype(np.float32)))
    return net.eval()


@torch.no_grad()
def run(net: nn.Module, entry: dict[str, Any], lq: Tensor) -> Tensor:
    """Runs a network as the reference was run."""
    if entry["kind"] == "spynet":
        return net(lq[0], lq[1])
    if entry["protocol"] is None:
        return net(lq)
    output = net(torch.cat([lq, lq.flip(1)], 1))
    if entry["protocol"] == "mirror":
        return output
    assert entry["protocol"] == "flip_seq"
    first, second = output.chunk(2, 1)
    return (first + second.flip(1)) / 2


def number_of_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "spynet_70x40",
        "basicvsr_small",
        "basicvsr_small_1frame",
        "basicvsr_small_flipseq",
        pytest.param("basicvsr_default", marks=pytest.mark.slow),
        "basicvsrpp_small",
        "basicvsrpp_small_1frame",
        "basicvsrpp_small_mirror",
        "basicvsrpp_samesize_small",
        pytest.param("basicvsrpp_default", marks=pytest.mark.slow),
    ],
)
def test_agrees_with_the_published_code(reference: Path, name: str) -> None:
    entry, lq, expected = load(reference, name)
    net = build(entry)
    assert number_of_parameters(net) == entry["params"]
    names = sorted(f"{key} {tuple(value.shape)}" for key, value in net.state_dict().items())
    assert hashlib.sha256("\n".join(names).encode()).hexdigest()[:16] == entry["state_dict_hash"]
    output = run(net, entry, lq)
    assert list(output.shape) == entry["output"]["full_shape"]
    step = entry["output"]["stride"]
    tolerance = 2e-4 if entry["kind"] == "spynet" else 1e-4
    torch.testing.assert_close(output[..., ::step, ::step], expected, rtol=0, atol=tolerance)

"""Reference outputs of published networks, and weights that follow from the names of tensors."""

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
from torch import nn


def load_golden(reference: Path, folder: str, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns description and arrays of a reference network; skips the test without them."""
    path = reference / "goldens" / folder / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no reference outputs at {path}")
    manifest = json.loads((path.parent / "manifest.json").read_text(encoding="utf-8"))
    with np.load(path) as file:
        return manifest[name], {key: torch.from_numpy(file[key]) for key in file.files}


def normal_of_name(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Returns standard normal values that depend on the name of a tensor and a seed."""
    random = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    return random.standard_normal(shape)


@torch.no_grad()
def set_weights_by_rules(net: nn.Module, entry: dict[str, Any]) -> nn.Module:
    """Sets parameters by the rules (pattern, mean, deviation, mode) of a description."""
    for name, parameter in net.named_parameters():
        mean, scale, mode = next(rest for rule, *rest in entry["weights"] if re.search(rule, name))
        fan = math.sqrt(math.prod(parameter.shape[1:])) if mode == "fan" else 1
        values = mean + scale / fan * normal_of_name(name, tuple(parameter.shape), entry["seed"])
        parameter.copy_(torch.from_numpy(np.asarray(values, np.float32)))
    return net.eval()


def hash_of_names(net: nn.Module) -> str:
    """Returns the hash of the names and shapes of a network's tensors."""
    lines = sorted(f"{key} {tuple(value.shape)}" for key, value in net.state_dict().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

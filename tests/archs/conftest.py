"""Reference outputs of published networks: arrays, weights and configuration by name."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn


@dataclass
class Golden:
    """A reference network: options, input, outputs and weights."""

    entry: dict[str, Any]
    arrays: dict[str, Tensor]

    def load(self, net: nn.Module) -> nn.Module:
        """Loads the reference's weights into ``net`` (all keys must match) and sets eval mode."""
        state = {k[6:]: v for k, v in self.arrays.items() if k.startswith("param/")}
        if self.entry["weights"] != "stored":
            state = {name: self._made(name, tensor) for name, tensor in net.state_dict().items()}
        net.load_state_dict(state)
        return net.eval()

    def _made(self, name: str, like: Tensor) -> Tensor:
        if ".shifter." in name:  # constants, not weights
            return like
        seed = (zlib.crc32(name.encode()) + self.entry["seed"]) % 2**32
        values = np.random.RandomState(seed).standard_normal(tuple(like.shape))
        return torch.from_numpy(np.asarray(self._std(name) * values, np.float32))

    def _std(self, name: str) -> float:
        """Returns the standard deviation of a weight."""
        if "conv_offset" in name or "off2d" in name:
            return self.entry["offset_conv_std"]
        if name.startswith("alpha_predictor.spatial_encoder"):
            return 4 * self.entry["std"]
        if name.startswith("alpha_predictor"):
            return 1.5 * self.entry["wide_std"]
        is_wide = any(part in name for part in self.entry.get("wide_names", ()))
        return self.entry["wide_std" if is_wide else "std"]


@pytest.fixture
def golden(reference: Path) -> Callable[[str], Golden]:
    """Returns a function that loads a reference network by its name."""

    def find(name: str) -> Golden:
        manifest = json.loads((reference / "goldens/manifest.json").read_text(encoding="utf-8"))
        with np.load(reference / f"goldens/{name}.npz") as file:
            arrays = {key: torch.from_numpy(file[key]) for key in file.files}
        return Golden(manifest[name], arrays)

    return find

"""An Upscaler, and a weight file of a user."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.networks import SMALL
from support.upscaling import small_network
from torch import nn

from srtoolbox.engine.weights.load import save_weights
from srtoolbox.upscaling.options import upscale_options
from srtoolbox.upscaling.upscaler import Upscaler


@pytest.fixture
def upscaler() -> Callable[..., Upscaler]:
    """Makes an Upscaler of networks, by default of Bicubic, with options by keyword."""

    def make(*nets: nn.Module, **options: object) -> Upscaler:
        return Upscaler(nets or [small_network("Bicubic")], upscale_options(options))

    return make


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weight file of a small EDSR for x2 that contains its arch."""
    path = tmp_path / "weights" / "edsr.safetensors"
    save_weights(path, {"type": "EDSR", **SMALL["EDSR"], "scale": 2}, small_network())
    return path

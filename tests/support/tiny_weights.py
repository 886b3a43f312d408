"""Weight files of tiny networks, for tests that need files of networks."""

from __future__ import annotations

from pathlib import Path

import torch

from srtoolbox.archs.edsr import EDSR
from srtoolbox.engine.weights.load import save_weights


def tiny_edsr(path: Path, scale: int = 2, seed: int = 0) -> Path:
    """Writes an EDSR with 4 features and random weights whose results vary with the input."""
    torch.manual_seed(seed)
    options = {"scale": scale, "num_feat": 4, "num_block": 1}
    net = EDSR(**options)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 2.5
    save_weights(path, {"type": "EDSR", **options}, net)
    return path

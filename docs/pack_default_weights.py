"""Packs trained weights into the package, as float16 with their arch, licence and origin.

Run ``python docs/pack_default_weights.py FILE`` with the ``net_g_latest.pth`` of a training by
``options/train/EDSR/default_x2.yml``, ``default_x3.yml`` or ``default_x4.yml``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import safetensors.torch
import torch

import srtoolbox
from srtoolbox.upscaling.weights import path_of
from srtoolbox.utils.files import write_atomic

LICENCE = "Apache-2.0"
TRAINING_DATA = (
    "Photographs of scikit-image in the public domain (astronaut: NASA) or CC0 (chelsea, coffee, "
    "camera, brick, grass, gravel), and dead-leaves images made from them by "
    "docs/default_weights_data.py of srtoolbox; LR images by MATLAB's bicubic"
)


def main(source: Path) -> None:
    """Writes the weights of ``source`` (of the moving average) into the folder of the package."""
    net, arch = srtoolbox.load(source)
    tensors = {name: value.to(torch.float16) for name, value in net.state_dict().items()}
    metadata = {
        "format": "pt",
        "arch": json.dumps(arch),
        "srtoolbox": srtoolbox.__version__,
        "licence": LICENCE,
        "training_data": TRAINING_DATA,
    }
    target = path_of(arch["scale"])
    write_atomic(target, safetensors.torch.save(tensors, metadata))
    print(f"wrote {target}: {target.stat().st_size} bytes, {arch}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python docs/pack_default_weights.py FILE")
    main(Path(sys.argv[1]))

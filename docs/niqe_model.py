"""Computes srtoolbox's own model of natural images for the metric NIQE.

Run ``python docs/niqe_model.py srtoolbox/metrics/niqe_model.npz``. The model depends only on this
file, on the features of `srtoolbox.metrics.niqe`, and on photographs of scikit-image that are CC0
or in the public domain. It is computed as in the paper (Mittal et al., SPL 2013): the mean and the
covariance of the features of sharp blocks. There are fewer photographs here, so blocks overlap, and
each photograph is used in several sizes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skimage
import torch

from srtoolbox.data.files.reader import read_image
from srtoolbox.data.resize.array import imresize
from srtoolbox.metrics import Protocol
from srtoolbox.metrics.niqe import BLOCK, as_blocks, block_features, normalize

COLOUR = ("astronaut.png", "chelsea.png", "coffee.png")  # NASA, public domain; CC0; CC0
GREY = ("camera.png", "brick.png", "grass.png", "gravel.png")  # all CC0
FACTORS = (1.0, 0.85, 0.7, 0.55)
STEP = 32  # pixels from one block to the next
SHARPNESS = 0.75  # least mean of the local deviation, relative to the sharpest block of the image


def main(out: Path) -> None:
    """Writes the model: ``mu`` (36,) and ``cov`` (36, 36)."""
    features = np.concatenate(
        [
            sharp_features(luma(image if factor == 1 else imresize(image, factor)))
            for image in map(photograph, (*COLOUR, *GREY))
            for factor in FACTORS
        ]
    )
    np.savez(out, mu=features.mean(0), cov=np.cov(features, rowvar=False))
    print(f"{out}: model of {len(features)} blocks")


def photograph(name: str) -> np.ndarray:
    """Returns a photograph of scikit-image, uint8 (H, W, C)."""
    return read_image(Path(skimage.__file__).parent / "data" / name).transpose(1, 2, 0)


def luma(image: np.ndarray) -> np.ndarray:
    """Returns the values (H, W) that NIQE is computed from."""
    pixels = torch.tensor(image).permute(2, 0, 1).double()
    return (pixels if len(pixels) == 1 else Protocol.luma(pixels))[0].round().numpy()


def sharp_features(values: np.ndarray) -> np.ndarray:
    """Returns the features (n, 36) of the sharp blocks of an image (H, W)."""
    features, sharpness = [], []
    for top in range(0, BLOCK, STEP):
        for left in range(0, BLOCK, STEP):
            part = values[top:, left:]
            rows, columns = (length // BLOCK * BLOCK for length in part.shape)
            if rows and columns:
                part = part[:rows, :columns]
                _, deviation = normalize(part.astype(np.float32))
                features.append(block_features(part))
                sharpness.append(as_blocks(deviation, BLOCK).mean((1, 2)))
    found, sharp = np.concatenate(features), np.concatenate(sharpness)
    return found[sharp > SHARPNESS * sharp.max()]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python docs/niqe_model.py FILE")
    main(Path(sys.argv[1]))

"""Recognises networks that training left at a trivial output."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.archs.layers.upsample import bicubic_upsample

ENLARGED = "output equals its enlarged frame"
CONSTANT = "output is one constant colour"

# Energy of the output around a trivial one, relative to that of the ground truth. On the embedded
# bursts it is below 0.01 for networks that did not leave their starting point, and above 0.06 for
# networks that gain 0.1 dB over bicubic enlargement.
_MAX_ENERGY = 0.02


def degenerate_output(frames: Iterable[tuple[Tensor, Tensor, Tensor]]) -> str | None:
    """Returns what a network's outputs amount to if they are trivial; otherwise None.

    The output is trivial if it is one colour per image, or equals the enlarged LR frame (nearest,
    bilinear or bicubic) up to a constant, and the ground truth is not.

    Args:
        frames: LR frames (C, h, w), SR images (C', H, W) and ground truths (C', H, W), in [0, 1].
    """
    energies: dict[str, tuple[float, float]] = {}  # of output and ground truth, by trivial output
    for lq, sr, gt in frames:
        for name, image in _trivial_outputs(lq, gt).items():
            found, full = energies.get(name, (0.0, 0.0))
            energies[name] = found + _energy(sr - image), full + _energy(gt - image)
    for name, (found, full) in energies.items():
        if found < _MAX_ENERGY * full:
            return CONSTANT if name == "constant" else ENLARGED
    return None


def _trivial_outputs(lq: Tensor, gt: Tensor) -> dict[str, Tensor]:
    images = {"constant": torch.zeros_like(gt)}
    scale = gt.shape[-1] // lq.shape[-1]
    if len(lq) == len(gt) and lq.shape[-1] * scale == gt.shape[-1]:
        images["nearest"] = F.interpolate(lq[None], gt.shape[-2:], mode="nearest")[0]
        images["bilinear"] = F.interpolate(lq[None], gt.shape[-2:], mode="bilinear")[0]
        images["bicubic"] = bicubic_upsample(lq[None], scale)[0]
    return images


def _energy(image: Tensor) -> float:
    """Returns the sum of squares around the mean of each channel."""
    return float((image - image.mean((-2, -1), keepdim=True)).square().sum())

"""Iterative back-projection: SR images corrected until they shrink to the LR ones."""

from __future__ import annotations

import torch
from torch import Tensor

from srtoolbox.archs.layers.upsample import bicubic_upsample
from srtoolbox.data.resize import Edge, weight_blocks


class Downscale:
    """MATLAB's ``imresize(…, 1 / scale)`` for tensors, of the weights of ``data.resize.imresize``.

    Args:
        like: Images (..., H, W) of the size, type and device of those to come.
        scale: Whole-number factor; divides H and W.
        edge: What lies beyond the border: the image mirrored or its last pixel.
    """

    def __init__(self, like: Tensor, scale: int, edge: Edge = "replicate") -> None:
        self._tables = []
        for length in like.shape[-2:]:
            blocks = weight_blocks(length, length // scale, 1 / scale, edge)
            self._tables.append([(b.first, b.last, like.new_tensor(b.weights)) for b in blocks])

    def __call__(self, x: Tensor) -> Tensor:
        """Maps (..., H, W) to (..., H / scale, W / scale); neither rounded nor clipped."""
        rows, columns = self._tables
        x = torch.cat([weights @ x[..., first:last, :] for first, last, weights in rows], -2)
        return torch.cat([x[..., first:last] @ weights.T for first, last, weights in columns], -1)


def back_project(
    sr: Tensor, lq: Tensor, scale: int, iterations: int, edge: Edge = "replicate"
) -> Tensor:
    """Corrects SR images so that their bicubic downscale comes closer to ``lq``.

    Each iteration adds the bicubic enlargement of what is missing: sr + up(lq − down(sr))
    (Irani and Peleg, CVGIP 1991; for learned SR: Timofte et al., CVPR 2016). What is missing
    shrinks to at most 0.78 of its norm every time, for the factors 2 to 4. It helps where ``lq``
    was made by this very downscale; noise and blur of other origin are written into the result.

    Args:
        sr: (N, C, h·scale, w·scale).
        lq: The reference frames (N, C, h, w).
        scale: Factor of the super-resolution.
        iterations: How often; 0 changes nothing.
        edge: Border rule by which the LR images were made.

    Returns:
        As ``sr``, at least float32, not clipped.
    """
    with torch.autocast(sr.device.type, enabled=False):  # a correction is small: full precision
        dtype = torch.promote_types(sr.dtype, torch.float32)
        sr, lq = sr.to(dtype), lq.to(dtype)
        down = Downscale(sr, scale, edge)
        for _ in range(iterations):
            sr = sr + bicubic_upsample(lq - down(sr), scale)
    return sr

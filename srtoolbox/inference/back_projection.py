"""Iterative back-projection: SR images corrected until they shrink to the LR ones."""

from __future__ import annotations

import torch
from torch import Tensor

from srtoolbox.archs.layers.upsample import bicubic_upsample
from srtoolbox.data.resize.array import Edge
from srtoolbox.data.resize.tensor import imresize_tensor


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
    # A correction is small: full precision, also under autocast.
    dtype = torch.promote_types(sr.dtype, torch.float32)
    sr, lq = sr.to(dtype), lq.to(dtype)
    for _ in range(iterations):
        sr = sr + bicubic_upsample(lq - imresize_tensor(sr, 1 / scale, edge=edge), scale)
    return sr

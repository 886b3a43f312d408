"""Enlargement: the learned sub-pixel upsampler, and MATLAB's bicubic interpolation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.errors import UserError

MARGIN = 2  # reach of the cubic kernel beyond the border, in pixels


def check_scale(net: nn.Module, scale: int) -> int:
    """Returns ``scale`` if it is one of the network's ``scales``.

    Raises:
        UserError: if it is not; the message names the available scales.
    """
    scales = arch_info(net).scales
    if scale not in scales:
        known = ", ".join(map(str, scales))
        raise UserError(
            f"{type(net).__name__}: scale {scale!r} is not available; use one of {known}"
        )
    return scale


class Upsample(nn.Sequential):
    """Sub-pixel upsampler (Shi et al., CVPR 2016): a convolution and a pixel shuffle for each step.

    A step enlarges by 2 or 3. The convolutions have the indices 0, 2, 4, ….

    Args:
        scale: A power of two, or 3.
        num_feat: Channels in and out.
    """

    def __init__(self, scale: int, num_feat: int = 64) -> None:
        if scale == 3:
            steps = [3]
        elif scale >= 1 and scale & (scale - 1) == 0:
            steps = [2] * (scale.bit_length() - 1)
        else:
            raise UserError(f"Upsample: scale must be 3 or a power of two, got {scale}")
        layers: list[nn.Module] = []
        for step in steps:
            layers += [nn.Conv2d(num_feat, num_feat * step**2, 3, padding=1), nn.PixelShuffle(step)]
        super().__init__(*layers)


def bicubic_upsample(x: Tensor, scale: int) -> Tensor:
    """Enlarges images like MATLAB's ``imresize(…, 'bicubic')``; differentiable.

    Keys' cubic kernel with a = −0.5 (Keys, IEEE TASSP 1981), pixel centres at half integers,
    borders mirrored with the edge pixel repeated. Computed in at least float32, also under
    autocast; values are not clipped.

    Args:
        x: (..., h, w), of any floating type and of any size ≥ 1.
        scale: Integer factor ≥ 1.

    Returns:
        (..., h * scale, w * scale), of the type of ``x``.
    """
    height, width = x.shape[-2:]
    planes = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(-1, 1, height, width)
    planes = _mirror(_mirror(planes, 2), 3)
    # Only the variant with antialiasing has a = −0.5 (the other has −0.75); it does not blur when
    # it enlarges. It truncates the kernel at the border, which affects only the mirrored margin.
    # A convolution has the same result, but GPUs round its inputs to TF32 by default, and autocast
    # to half precision.
    size = (planes.shape[2] * scale, planes.shape[3] * scale)
    large = F.interpolate(planes, size, mode="bicubic", antialias=True)
    margin = MARGIN * scale
    large = large[..., margin : margin + height * scale, margin : margin + width * scale]
    return large.to(x.dtype).reshape(*x.shape[:-2], height * scale, width * scale)


def _mirror(x: Tensor, dim: int) -> Tensor:
    """Adds MARGIN rows or columns on both sides, mirrored at the edge (… 1 0 | 0 1 2 …)."""
    size = x.shape[dim]
    index = torch.arange(-MARGIN, size + MARGIN, device=x.device)
    index = torch.maximum(index, -1 - index)  # a modulo of a free size cannot be exported to ONNX
    return x.index_select(dim, torch.minimum(index, 2 * size - 1 - index).clamp_min(0))

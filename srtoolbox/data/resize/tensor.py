"""MATLAB's ``imresize`` for tensors: on any device, in batches, and differentiable.

The weights are those of ``data.resize.array``. In float64, and for integer images, the results
agree with it; float32 is for training, where speed matters more than an error of 1e-6.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from srtoolbox.data.resize.array import (
    BLOCK,
    TIE,
    Block,
    Edge,
    check_size,
    line_factors,
    weight_blocks,
)
from srtoolbox.errors import UserError

_GPU_BLOCK = 64  # on a GPU, multiplying zeros is cheaper than starting more kernels


class Line(NamedTuple):
    """The weights of one axis: input and output length, and all blocks with their weights."""

    length: int
    out_length: int
    blocks: tuple[tuple[Block, Tensor], ...]


def imresize_tensor(
    x: Tensor,
    scale: float | None,
    *,
    edge: Edge = "symmetric",
    antialias: bool = True,
    round_between_passes: bool = False,
    out_size: tuple[int, int] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Resizes images bicubically, height first; differentiable any number of times.

    Autocast and TF32 settings have no effect, because GPUs multiply in float64.

    Args:
        x: (..., H, W); floats, uint8, uint16 or int16.
        scale: Output size divided by input size, e.g. ``1 / 4`` or ``4``. None: computed from
            ``out_size`` for each axis.
        edge: Border rule: ``"symmetric"`` mirrors the image, ``"replicate"`` repeats its outermost
            pixels.
        antialias: Widen the kernel when shrinking.
        round_between_passes: Round and clip after the pass over the height too (integers only).
        out_size: Output (height, width); default ``ceil(H * scale), ceil(W * scale)``.
        dtype: Floating type to convert ``x`` to first: float32 or float64. Default: integers are
            computed in float64 and rounded at the end; floats keep their type.

    Returns:
        (..., height, width). Without ``dtype``, it has the type of ``x``: integers are rounded half
        up and clipped, floats are not. With ``dtype``, it has that type and is neither rounded nor
        clipped.

    Raises:
        UserError: for another shape or type, an empty image, or an impossible size.
    """
    is_integer = dtype is None and x.dtype in (torch.uint8, torch.uint16, torch.int16)
    _check(x, dtype, round_between_passes, is_integer)
    check_size("imresize_tensor", scale, edge, out_size)
    out_dtype = dtype or x.dtype
    work = torch.float64 if is_integer else torch.promote_types(out_dtype, torch.float32)
    size = x.shape[-2:]
    rows, columns = (
        _line(*axis, edge, antialias, work, x.device)
        for axis in line_factors(size, scale, out_size)
    )
    planes = x.to(work).reshape(-1, *size)
    if is_integer:
        planes = _resize(planes, rows, -2)
        if round_between_passes:
            planes = _round(planes, x.dtype)
        planes = _round(_resize(planes, columns, -1), x.dtype)
    else:
        planes = _Resize.apply(planes, (rows, columns), False)
    return planes.to(out_dtype).reshape(*x.shape[:-2], rows.out_length, columns.out_length)


class _Resize(torch.autograd.Function):
    """Both passes, or their adjoint: each is the derivative of the other, and no tensor is stored.

    With plain autograd, every block would allocate a gradient of the size of the whole image.
    """

    @staticmethod
    def forward(ctx: Any, planes: Tensor, lines: tuple[Line, Line], adjoint: bool) -> Tensor:
        ctx.lines, ctx.adjoint = lines, adjoint
        rows, columns = lines
        with torch.autocast(planes.device.type, enabled=False):
            if adjoint:
                out = _adjoint(_adjoint(planes, columns, -1), rows, -2)
            else:
                out = _resize(_resize(planes, rows, -2), columns, -1)
        return out.to(planes.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Resize.apply(grad, ctx.lines, not ctx.adjoint), None, None


def _resize(planes: Tensor, line: Line, dim: int) -> Tensor:
    """Resizes one axis (-2 or -1) of (N, H, W); the result has the type of the weights."""
    parts = [
        _product(weights, planes.narrow(dim, block.first, block.last - block.first), dim)
        for block, weights in line.blocks
    ]
    return torch.cat(parts, dim)


def _adjoint(planes: Tensor, line: Line, dim: int) -> Tensor:
    """Applies the adjoint of :func:`_resize`, which propagates gradients back."""
    shape = list(planes.shape)
    shape[dim] = line.length
    out = planes.new_zeros(shape, dtype=line.blocks[0][1].dtype)
    for block, weights in line.blocks:
        part = _product(weights.mT, planes.narrow(dim, block.start, block.stop - block.start), dim)
        out.narrow(dim, block.first, block.last - block.first).add_(part)
    return out


def _product(weights: Tensor, planes: Tensor, dim: int) -> Tensor:
    planes = planes.to(weights.dtype)
    return weights @ planes if dim == -2 else planes @ weights.mT


def _round(planes: Tensor, dtype: torch.dtype) -> Tensor:
    limits = torch.iinfo(dtype)
    return (planes + (0.5 + TIE)).floor_().clamp_(limits.min, limits.max)


@lru_cache(maxsize=128)
def _line(
    length: int,
    out_length: int,
    factor: float,
    edge: Edge,
    antialias: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Line:
    gpu = device.type == "cuda"
    block_size = _GPU_BLOCK if gpu else BLOCK
    dtype = torch.float64 if gpu else dtype  # TF32 never replaces float64
    with torch.inference_mode(False):  # cached weights are also used outside of inference mode
        blocks = tuple(
            (block, torch.tensor(block.weights, dtype=dtype, device=device))
            for block in weight_blocks(length, 0, out_length, factor, edge, antialias, block_size)
        )
    return Line(length, out_length, blocks)


def _check(
    x: Tensor, dtype: torch.dtype | None, round_between_passes: bool, is_integer: bool
) -> None:
    if x.ndim < 2 or 0 in x.shape[-2:]:
        raise UserError(f"imresize_tensor: expects images (..., H, W), got shape {tuple(x.shape)}")
    if dtype not in (None, torch.float32, torch.float64):
        raise UserError(
            f"imresize_tensor: dtype must be torch.float32 or torch.float64, got {dtype}"
        )
    if not is_integer and dtype is None and not x.is_floating_point():
        raise UserError(
            f"imresize_tensor: expects floats, uint8, uint16 or int16, got {x.dtype}; "
            "convert it first or give a dtype"
        )
    if round_between_passes and not is_integer:
        raise UserError(
            "imresize_tensor: round_between_passes is for integer images without a dtype, "
            f"got {x.dtype} and dtype {dtype}"
        )

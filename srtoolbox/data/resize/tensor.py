"""MATLAB's ``imresize`` for tensors: on any device, in batches, and differentiable.

The weights are those of ``data.resize``. In float64, and for integer images, the results are its
results; float32 is for training, where 1e-6 does not matter and speed does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from srtoolbox.data.resize.array import BLOCK, TIE, Edge, check_size, line_factors, weight_blocks
from srtoolbox.errors import UserError

_GPU_BLOCK = 64  # a GPU would rather multiply zeros than start more kernels


class Line(NamedTuple):
    """How one axis is resized: ``parts`` are (start, stop, first, last, weights) of each block."""

    length: int
    wanted: int
    parts: tuple[tuple[int, int, int, int, Tensor], ...]


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
    """Resizes images bicubically, height first; differentiable as often as wanted.

    Autocast and the permission to use TF32 change nothing: GPUs multiply in float64.

    Args:
        x: (..., H, W); floats, uint8 or uint16.
        scale: Output size over input size, e.g. ``1 / 4`` or ``4``. ``None`` takes it from
            ``out_size``, for each axis its own.
        edge: What lies beyond the border: the image mirrored or its last pixel.
        antialias: Widen the kernel when shrinking.
        round_between_passes: Round and clip after the pass over the height too (integers only).
        out_size: Output (height, width); default ``ceil(H * scale), ceil(W * scale)``.
        dtype: Floating type to convert ``x`` to first, at least float32. Default: float64 for
            integers, which are rounded at the end; for floats their own type.

    Returns:
        (..., height, width). Without ``dtype`` of the type of ``x``: integers rounded half up and
        clipped, floats neither. With ``dtype`` of that type, neither rounded nor clipped.

    Raises:
        UserError: for another shape or type, an empty image, or an impossible size.
    """
    whole = dtype is None and x.dtype in (torch.uint8, torch.uint16)
    _check(x, dtype, round_between_passes, whole)
    check_size("imresize_tensor", scale, edge, out_size)
    kept = dtype or x.dtype
    work = torch.float64 if whole else torch.promote_types(kept, torch.float32)
    size = x.shape[-2:]
    rows, columns = (
        _line(length, wanted, factor, edge, antialias, work, x.device)
        for length, (wanted, factor) in zip(size, line_factors(size, scale, out_size), strict=True)
    )
    planes = x.to(work).reshape(-1, *size)
    if whole:
        planes = _resize(planes, rows, -2)
        if round_between_passes:
            planes = _round(planes, x.dtype)
        planes = _round(_resize(planes, columns, -1), x.dtype)
    else:
        planes = _Resize.apply(planes, (rows, columns), False)
    return planes.to(kept).reshape(*x.shape[:-2], rows.wanted, columns.wanted)


class _Resize(torch.autograd.Function):
    """Both passes, or their adjoint: each is the derivative of the other, and no tensor is kept.

    Left to autograd, every block would fill a gradient of the size of the whole image.
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
    """Resizes one axis (-2 or -1) of (N, H, W); of the type of the weights."""
    blocks = [
        _product(weights, planes.narrow(dim, first, last - first), dim)
        for _, _, first, last, weights in line.parts
    ]
    return torch.cat(blocks, dim)


def _adjoint(planes: Tensor, line: Line, dim: int) -> Tensor:
    """The adjoint of :func:`_resize`, by which gradients go back."""
    shape = list(planes.shape)
    shape[dim] = line.length
    out = planes.new_zeros(shape, dtype=line.parts[0][-1].dtype)
    for start, stop, first, last, weights in line.parts:
        block = _product(weights.mT, planes.narrow(dim, start, stop - start), dim)
        out.narrow(dim, first, last - first).add_(block)
    return out


def _product(weights: Tensor, planes: Tensor, dim: int) -> Tensor:
    planes = planes.to(weights.dtype)
    return weights @ planes if dim == -2 else planes @ weights.mT


def _round(planes: Tensor, dtype: torch.dtype) -> Tensor:
    return (planes + (0.5 + TIE)).floor_().clamp_(0, torch.iinfo(dtype).max)


@lru_cache(maxsize=128)
def _line(
    length: int,
    wanted: int,
    factor: float,
    edge: Edge,
    antialias: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Line:
    gpu = device.type == "cuda"
    block = _GPU_BLOCK if gpu else BLOCK
    dtype = torch.float64 if gpu else dtype  # which TF32 never replaces, whatever is permitted
    with torch.inference_mode(False):  # the weights are kept for calls outside of it too
        parts = tuple(
            (*place, torch.tensor(weights, dtype=dtype, device=device))
            for *place, weights in weight_blocks(length, 0, wanted, factor, edge, antialias, block)
        )
    return Line(length, wanted, parts)


def _check(x: Tensor, dtype: torch.dtype | None, round_between_passes: bool, whole: bool) -> None:
    if x.ndim < 2 or 0 in x.shape[-2:]:
        raise UserError(f"imresize_tensor: expects images (..., H, W), got shape {tuple(x.shape)}")
    if dtype not in (None, torch.float32, torch.float64):
        raise UserError(f"imresize_tensor: dtype is torch.float32 or torch.float64, got {dtype}")
    if not whole and dtype is None and not x.is_floating_point():
        raise UserError(
            f"imresize_tensor: expects floats, uint8 or uint16, got {x.dtype}; "
            "convert it first or give a dtype"
        )
    if round_between_passes and not whole:
        raise UserError(
            "imresize_tensor: round_between_passes is for integer images without a dtype, "
            f"got {x.dtype} and dtype {dtype}"
        )

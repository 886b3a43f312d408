"""Deformable convolution in pure PyTorch, with torchvision's operator behind the same function;
alignment of clips by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import repeat
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.errors import RunError, UserError

Backend = Literal["auto", "grid_sample", "torchvision"]

# How many sampled values the pure backend holds at a time. On a CPU, pieces that stay in the cache
# run twice as fast as one large call; a GPU wants few launches.
CHUNK = {"cpu": 2**20, "cuda": 2**27}

# On a CPU all frames are aligned as one batch while they have at most so many pixels together, and
# one by one above: what is worked on then stays in the cache. A GPU always takes them as one batch.
CPU_BATCH_PIXELS = 2**14

_on_reference_path = False


@contextmanager
def reference_path() -> Iterator[bool]:
    """Inside, clips are aligned frame by frame and "auto" means torchvision's operator.

    So do the programs that these networks were published with. The results are the same; the path
    is there to be compared with, in value and in speed. Holds for all threads.

    Yields:
        Whether torchvision's operator is used; where it cannot be, the pure one is.
    """
    global _on_reference_path
    before, _on_reference_path = _on_reference_path, True
    try:
        yield not isinstance(_torchvision_op(), Exception)
    finally:
        _on_reference_path = before


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Deformable convolution (v1; v2 with ``mask``), stride 1, output as large as the input.

    Dai et al., ICCV 2017; Zhu et al., CVPR 2019. Conventions are those of
    ``torchvision.ops.deform_conv2d``: outside of the image is zero, and values fade to it over one
    pixel. Sampling positions are computed in at least float32, also under autocast.

    Args:
        x: (N, C, h, w).
        offset: (N, 2 * G * k * k, h, w), in pixels: for each of the G groups of channels and each
            kernel point a pair (dy, dx). G follows from the number of channels and divides C.
        weight: (O, C, k, k), k odd.
        bias: (O,).
        mask: (N, G * k * k, h, w), factors on the sampled values.
        backend: "grid_sample" is pure PyTorch; "torchvision" its operator; "auto" takes the first
            on a CPU (where it is several times faster) and the second on a GPU if it is there; see
            `reference_path`.

    Returns:
        (N, O, h, w), of the type of ``x`` (under autocast: of its type).

    Raises:
        UserError: unknown backend.
        RunError: torchvision's operator is asked for and cannot be used.
    """
    if backend == "auto":
        wanted = _on_reference_path or x.device.type == "cuda"
        there = wanted and not isinstance(_torchvision_op(), Exception)
        backend = "torchvision" if there else "grid_sample"
    if backend == "grid_sample":
        return _by_grid_sample(x, offset, weight, bias, mask)
    if backend == "torchvision":
        return _by_torchvision(x, offset, weight, bias, mask)
    raise UserError(
        f"deform_conv2d: unknown backend {backend!r}; use auto, grid_sample or torchvision"
    )


def align_frames(
    align: Callable[[list[Tensor], list[Tensor]], Tensor],
    moving: list[Tensor],
    fixed: list[Tensor],
) -> Tensor:
    """Aligns every frame of each clip with one frame, all at once or one by one by their size.

    Args:
        align: Maps the features of M images and of M others that they are to be aligned with, each
            a list of (M, C, h, w), one for each level of a pyramid, to (M, C', h, w).
        moving: Features of the frames, (N, T, C, h, w) each, the largest level first.
        fixed: Features of what they are aligned with, (N, C, h, w) each.

    Returns:
        (N, T, C', h, w).
    """
    n, frames, _, height, width = moving[0].shape
    large = moving[0].device.type == "cpu" and n * frames * height * width > CPU_BATCH_PIXELS
    if large or _on_reference_path:
        aligned = [align([level[:, t] for level in moving], fixed) for t in range(frames)]
        return torch.stack(aligned, dim=1)
    spread = [
        one[:, None].expand_as(many).flatten(0, 1) for one, many in zip(fixed, moving, strict=True)
    ]
    aligned = align([level.flatten(0, 1) for level in moving], spread)
    return aligned.unflatten(0, (n, frames))


class DeformConv(nn.Module):
    """Deformable convolution whose offsets come from outside; no mask.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd side of the kernel.
        deformable_groups: Groups of input channels with offsets of their own.
        bias: Whether to add a bias (zero at the start).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        deformable_groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if in_channels % deformable_groups:
            raise UserError(
                f"deformable_groups ({deformable_groups}) must divide the features ({in_channels})"
            )
        self.offset_channels = 2 * deformable_groups * kernel_size**2
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels * kernel_size**2)
        nn.init.uniform_(self.weight, -bound, bound)
        # Mean |offset| in pixels at the latest forward, kept on the device: see offset_magnitudes.
        self.register_buffer("mean_offset", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps x (N, in_channels, h, w) to (N, out_channels, h, w); see `deform_conv2d`."""
        self.mean_offset.copy_(offset.detach().abs().mean())
        return deform_conv2d(x, offset, self.weight, self.bias, mask)


class ModulatedDeformConvPack(DeformConv):
    """DCNv2 (Zhu et al., CVPR 2019) that makes its offsets and mask from a guiding feature.

    ``conv_offset`` starts at zero: at first the layer is a convolution with halved weights.

    Args:
        in_channels: Channels of the input and of the guidance.
        out_channels: Channels of the output.
        kernel_size: Odd side of the kernel.
        deformable_groups: Groups of input channels with offsets and masks of their own.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        deformable_groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, deformable_groups)
        self.conv_offset = nn.Conv2d(
            in_channels, self.offset_channels * 3 // 2, kernel_size, padding=kernel_size // 2
        )
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """Maps x and guidance, both (N, in_channels, h, w), to (N, out_channels, h, w)."""
        made = self.conv_offset(guidance)
        offset, mask = made.split([self.offset_channels, self.offset_channels // 2], dim=1)
        return super().forward(x, offset, torch.sigmoid(mask))


def offset_magnitudes(net: nn.Module) -> dict[str, Tensor]:
    """Mean |offset| in pixels of each deformable layer at its latest forward, by layer name.

    Offsets that explode are how these networks fail: above some 50 pixels a layer sees nothing
    but border. The values are 0-dim tensors on the device, so that only who reads them waits.
    """
    return {
        name: layer.mean_offset
        for name, layer in net.named_modules()
        if isinstance(layer, DeformConv)
    }


def _by_grid_sample(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None
) -> Tensor:
    """Samples all kernel points with ``grid_sample``, then multiplies by the weights.

    The groups are folded into the batch, the kernel points into the rows of the sampling grid.
    What is sampled then lies in memory as (N, C * k * k, pixels), ready for one matrix product.
    """
    (n, channels, height, width), kernel_size = x.shape, weight.shape[-1]
    points, pixels = kernel_size**2, height * width
    groups = offset.shape[1] // (2 * points)
    # Under autocast offsets come in bfloat16, whose steps are a pixel wide from 128 on: positions
    # must not be computed in it.
    precise = torch.promote_types(x.dtype, torch.float32)
    base_y, base_x = _base_grid(height, width, kernel_size, x.device, precise)
    # In the channels_last format, neighbours would lie apart and every step below would be slow.
    x = x.contiguous()
    offset = offset.contiguous().view(n, groups, points, 2, pixels)
    mask = None if mask is None else mask.contiguous().view(n, groups, 1, points, pixels)
    matrix = weight.reshape(len(weight), -1)

    def convolve(x: Tensor, offset: Tensor, mask: Tensor | None, part: slice) -> Tensor:
        move_y, move_x = offset[..., part].flatten(0, 1).to(precise).unbind(2)
        grid_y = torch.add(base_y[:, part], move_y, alpha=2 / height)
        grid_x = torch.add(base_x[:, part], move_x, alpha=2 / width)
        folded = x.to(precise).reshape(-1, channels // groups, height, width)
        grid = torch.stack((grid_x, grid_y), dim=-1)
        columns = F.grid_sample(folded, grid, align_corners=False).to(x.dtype)
        columns = columns.unflatten(0, (-1, groups))
        if mask is not None:
            columns = columns * mask[..., part]
        return matrix @ columns.reshape(len(columns), channels * points, -1)

    chunk = max(1, CHUNK.get(x.device.type, CHUNK["cuda"]) // (channels * points))
    many = max(1, chunk // pixels)  # images at a time
    # A single image is cut into parts only where no gradient has to be gathered from them.
    part = pixels if torch.is_grad_enabled() else min(pixels, chunk)
    masks = repeat(None) if mask is None else mask.split(many)
    rows = [
        torch.cat([convolve(*images, slice(p, p + part)) for p in range(0, pixels, part)], 2)
        for images in zip(x.split(many), offset.split(many), masks, strict=False)
    ]
    out = torch.cat(rows).reshape(n, len(weight), height, width)
    return out if bias is None else out + bias.to(out.dtype).view(-1, 1, 1)


def _base_grid(
    height: int, width: int, kernel_size: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Undisplaced positions of all kernel points, as ``grid_sample`` counts them: y and x.

    Each is (k * k, height * width). ``align_corners=False`` puts pixel i of n at (2i + 1)/n − 1,
    which is defined for n = 1 too.
    """
    reach = torch.arange(kernel_size, device=device) - kernel_size // 2
    y = torch.arange(height, device=device).view(-1, 1) + reach.view(-1, 1, 1, 1)
    x = torch.arange(width, device=device) + reach.view(-1, 1, 1)
    shape = (kernel_size, kernel_size, height, width)
    y, x = y.expand(shape).reshape(kernel_size**2, -1), x.expand(shape).reshape(kernel_size**2, -1)
    return ((2 * y + 1).to(dtype) / height - 1), ((2 * x + 1).to(dtype) / width - 1)


def _by_torchvision(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None
) -> Tensor:
    operator = _torchvision_op()
    if isinstance(operator, Exception):
        raise RunError(
            f"deform_conv2d: torchvision cannot be used ({operator}); install the torchvision that "
            "goes with this torch, or use backend 'grid_sample'"
        ) from operator
    # The operator wants all of one type, and positions must not be in half precision.
    precise = torch.promote_types(x.dtype, torch.float32)
    x32, offset, weight = x.to(precise), offset.to(precise), weight.to(precise)
    bias = None if bias is None else bias.to(precise)
    mask = None if mask is None else mask.to(precise)
    padding = weight.shape[-1] // 2
    return operator(x32, offset, weight, bias, padding=padding, mask=mask).to(x.dtype)


@lru_cache(maxsize=1)
def _torchvision_op() -> Callable[..., Tensor] | Exception:
    """torchvision's operator, or what went wrong on importing it (loaded on first use: slow)."""
    try:
        from torchvision.ops import deform_conv2d as operator
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # absent or mismatched
        return error
    return operator

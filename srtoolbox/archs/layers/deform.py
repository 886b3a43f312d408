"""Deformable convolution, in pure PyTorch and by torchvision's operator; alignment of clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import repeat
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.basic import conv3, is_exporting
from srtoolbox.errors import RunError, UserError

Backend = Literal["auto", "grid_sample", "torchvision"]

# Number of sampled values that the pure backend computes at a time. On a CPU, chunks that fit the
# cache run twice as fast as one large call; on a GPU, few launches are faster.
CHUNK = {"cpu": 2**20, "cuda": 2**27}

# On a CPU, frames with at most this number of pixels in total are aligned as one batch, larger ones
# one by one, which keeps the data in the cache. A GPU always aligns them as one batch.
CPU_BATCH_PIXELS = 2**14

_on_reference_path = False


@contextmanager
def reference_path() -> Iterator[bool]:
    """Inside, clips are aligned frame by frame and "auto" means torchvision's operator.

    The published programs of these networks work like this. Results are the same; the path serves
    comparisons of values and of speed. It applies to all threads.

    Yields:
        Whether torchvision's operator is used; if it is unavailable, the pure backend is used.
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
    dilation: int = 1,
    backend: Backend = "auto",
) -> Tensor:
    """Deformable convolution (v1; v2 with ``mask``), stride 1, output as large as the input.

    Dai et al., ICCV 2017; Zhu et al., CVPR 2019. The conventions are those of
    ``torchvision.ops.deform_conv2d``: pixels outside of the image are zero, and values fade to zero
    over one pixel. Sampling positions are computed in at least float32, also under autocast.

    Args:
        x: (N, C, h, w).
        offset: (N, 2 * G * k * k, h, w), in pixels: for each of the G groups of channels and each
            kernel point a pair (dy, dx). G divides C and follows from the shape of ``offset``.
        weight: (O, C / W, k, k), k odd. It has W groups, as in a grouped convolution; W divides C
            and O and follows from the shapes. It need not equal G.
        bias: (O,).
        mask: (N, G * k * k, h, w), factors on the sampled values.
        dilation: Distance of neighbouring kernel points, in pixels.
        backend: "grid_sample" is pure PyTorch, "torchvision" is torchvision's operator. "auto" is
            "grid_sample" on a CPU, where it is several times faster, and "torchvision" on a GPU if
            it is available; see also `reference_path`.

    Returns:
        (N, O, h, w), of the type of ``x`` (under autocast: of autocast's type).

    Raises:
        UserError: if the backend is unknown.
        RunError: if ``backend`` is "torchvision" and its operator cannot be used.
    """
    if backend == "auto":
        preferred = _on_reference_path or x.device.type == "cuda"
        available = preferred and not isinstance(_torchvision_op(), Exception)
        backend = "torchvision" if available else "grid_sample"
    if backend == "grid_sample":
        return _by_grid_sample(x, offset, weight, bias, mask, dilation)
    if backend == "torchvision":
        return _by_torchvision(x, offset, weight, bias, mask, dilation)
    raise UserError(
        f"deform_conv2d: unknown backend {backend!r}; use auto, grid_sample or torchvision"
    )


def align_frames(
    align: Callable[[list[Tensor], list[Tensor]], Tensor],
    moving: list[Tensor],
    fixed: list[Tensor],
) -> Tensor:
    """Aligns every frame of each clip to one frame, as one batch or one by one (by their size).

    Args:
        align: Maps the features of M frames and of M reference frames, each a list of
            (M, C, h, w), one for each level of a pyramid, to aligned features (M, C', h, w).
        moving: Features of the frames, (N, T, C, h, w) for each level, the largest first.
        fixed: Features of the reference frame, (N, C, h, w) for each level.

    Returns:
        (N, T, C', h, w).
    """
    n, frames, _, height, width = moving[0].shape
    if _on_reference_path:
        one_by_one = True
    else:
        on_cpu = moving[0].device.type == "cpu" and not is_exporting()
        one_by_one = on_cpu and n * frames * height * width > CPU_BATCH_PIXELS
    if one_by_one:
        aligned = [align([level[:, t] for level in moving], fixed) for t in range(frames)]
        return torch.stack(aligned, dim=1)
    repeated = [
        reference[:, None].expand_as(frames_of_level).flatten(0, 1)
        for reference, frames_of_level in zip(fixed, moving, strict=True)
    ]
    aligned = align([level.flatten(0, 1) for level in moving], repeated)
    return aligned.unflatten(0, (n, frames))


class DeformConv(nn.Module):
    """Deformable 3×3 convolution with offsets from another layer.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        deformable_groups: Groups of input channels, each with its own offsets.
        bias: Whether to add a bias; it starts at zero.
        groups: Groups of the weights, as in a grouped convolution.
        dilation: Distance of neighbouring kernel points, in pixels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        deformable_groups: int = 1,
        bias: bool = True,
        groups: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        if in_channels % deformable_groups:
            raise UserError(
                f"deformable_groups ({deformable_groups}) must divide the features ({in_channels})"
            )
        if in_channels % groups or out_channels % groups:
            raise UserError(
                f"groups ({groups}) must divide the features ({in_channels} and {out_channels})"
            )
        self.offset_channels = 2 * deformable_groups * 9  # two for each of 9 kernel points
        self.dilation = dilation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels // groups * 9)
        nn.init.uniform_(self.weight, -bound, bound)
        self.on_offset: Callable[[Tensor], None] | None = None  # set by offset_magnitudes

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps x (N, in_channels, h, w) to (N, out_channels, h, w); see `deform_conv2d`."""
        if self.on_offset is not None:
            self.on_offset(offset)
        return deform_conv2d(x, offset, self.weight, self.bias, mask, dilation=self.dilation)


class ModulatedDeformConvPack(DeformConv):
    """DCNv2 (Zhu et al., CVPR 2019): computes its offsets and mask from guidance features.

    The convolution that computes them starts at zero, so that the layer starts as a convolution
    with halved weights.

    Class attributes:
        offset_name: Name of that convolution, a part of keys of weight files.

    Args:
        in_channels: Channels of the input and of the guidance.
        out_channels: Channels of the output.
        deformable_groups: Groups of input channels, each with its own offsets and mask.
    """

    offset_name = "conv_offset"

    def __init__(self, in_channels: int, out_channels: int, deformable_groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, deformable_groups)
        conv = conv3(in_channels, self.offset_channels * 3 // 2)
        for parameter in conv.parameters():
            nn.init.zeros_(parameter)
        self.add_module(self.offset_name, conv)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """Maps x and guidance, both (N, in_channels, h, w), to (N, out_channels, h, w)."""
        both = getattr(self, self.offset_name)(guidance)
        offset, mask = both.split([self.offset_channels, self.offset_channels // 2], dim=1)
        return super().forward(x, offset, torch.sigmoid(mask))


@contextmanager
def offset_magnitudes(net: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Measures the mean |offset| in pixels of each deformable layer, at every call inside.

    Exploding offsets are the usual failure of these networks: above about 50 pixels a layer samples
    only pixels beyond the border. For example::

        with offset_magnitudes(net) as magnitudes:
            net(lq)

    Yields:
        For each layer that was called, its name and the value of its latest call: a 0-dim tensor
        on the device, so that measuring does not make a GPU wait.
    """
    magnitudes: dict[str, Tensor] = {}
    layers = {n: layer for n, layer in net.named_modules() if isinstance(layer, DeformConv)}

    def measure(name: str, offset: Tensor) -> None:
        magnitudes[name] = offset.detach().abs().mean()

    for name, layer in layers.items():
        layer.on_offset = partial(measure, name)
    try:
        yield magnitudes
    finally:
        for layer in layers.values():
            layer.on_offset = None


def _by_grid_sample(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    dilation: int,
) -> Tensor:
    """Samples all kernel points with ``grid_sample``, then multiplies by the weights.

    The groups are folded into the batch, the kernel points into the rows of the sampling grid. The
    sampled values then have the memory layout (N, C * k * k, pixels) of one matrix product.
    """
    (n, channels, height, width), kernel_size = x.shape, weight.shape[-1]
    points, pixels = kernel_size**2, height * width
    groups = offset.shape[1] // (2 * points)
    # Under autocast offsets are bfloat16, which has steps of one pixel from 128 on: too coarse for
    # positions.
    precise = torch.promote_types(x.dtype, torch.float32)
    base_y, base_x = _base_grid(height, width, kernel_size, dilation, x.device, precise)
    # In channels_last format, neighbouring pixels are far apart in memory and all steps are slow.
    x = x.contiguous()
    offset = offset.contiguous().view(n, groups, points, 2, pixels)
    mask = None if mask is None else mask.contiguous().view(n, groups, 1, points, pixels)
    weight_groups = channels // weight.shape[1]
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
            factors = mask[..., part]
            in_place = not torch.is_grad_enabled() and factors.dtype == columns.dtype
            columns = columns.mul_(factors) if in_place else columns * factors
        if weight_groups == 1:
            return matrix @ columns.reshape(len(columns), channels * points, -1)
        columns = columns.reshape(len(columns), weight_groups, matrix.shape[1], -1)
        return (matrix.unflatten(0, (weight_groups, -1)) @ columns).flatten(1, 2)

    if is_exporting():  # the parts would depend on the size
        out = convolve(x, offset, mask, slice(None)).reshape(n, len(weight), height, width)
        return out if bias is None else out + bias.to(out.dtype).view(-1, 1, 1)
    chunk = max(1, CHUNK.get(x.device.type, CHUNK["cuda"]) // (channels * points))
    num_image = max(1, chunk // pixels)  # images at a time
    # A single image is divided only without gradients, which would have to be summed over parts.
    part = pixels if torch.is_grad_enabled() else min(pixels, chunk)
    masks = repeat(None) if mask is None else mask.split(num_image)
    rows = [
        torch.cat([convolve(*images, slice(p, p + part)) for p in range(0, pixels, part)], 2)
        for images in zip(x.split(num_image), offset.split(num_image), masks, strict=False)
    ]
    out = torch.cat(rows).reshape(n, len(weight), height, width)
    return out if bias is None else out + bias.to(out.dtype).view(-1, 1, 1)


def _base_grid(
    height: int,
    width: int,
    kernel_size: int,
    dilation: int,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Returns y and x of all kernel points without offset, in the units of ``grid_sample``.

    Both are (k * k, height * width). With ``align_corners=False`` pixel i of n is at
    (2i + 1)/n − 1, which is also defined for n = 1.
    """
    reach = (torch.arange(kernel_size, device=device) - kernel_size // 2) * dilation
    y = torch.arange(height, device=device).view(-1, 1) + reach.view(-1, 1, 1, 1)
    x = torch.arange(width, device=device) + reach.view(-1, 1, 1)
    shape = (kernel_size, kernel_size, height, width)
    y, x = y.expand(shape).reshape(kernel_size**2, -1), x.expand(shape).reshape(kernel_size**2, -1)
    return ((2 * y + 1).to(dtype) / height - 1), ((2 * x + 1).to(dtype) / width - 1)


def _by_torchvision(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    dilation: int,
) -> Tensor:
    operator = _torchvision_op()
    if isinstance(operator, Exception):
        raise RunError(
            f"deform_conv2d: torchvision cannot be used ({operator}); install the torchvision "
            "version for this torch, or use backend 'grid_sample'"
        ) from operator
    # The operator needs one type for all tensors, and half precision is too coarse for positions.
    precise = torch.promote_types(x.dtype, torch.float32)
    x32, offset, weight = x.to(precise), offset.to(precise), weight.to(precise)
    bias = None if bias is None else bias.to(precise)
    mask = None if mask is None else mask.to(precise)
    padding = weight.shape[-1] // 2 * dilation
    place = {"padding": padding, "dilation": dilation}
    return operator(x32, offset, weight, bias, mask=mask, **place).to(x.dtype)


@lru_cache(maxsize=1)
def _torchvision_op() -> Callable[..., Tensor] | Exception:
    """Returns torchvision's operator, or the error of its import, which is slow and done once."""
    try:
        from torchvision.ops import deform_conv2d as operator
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # absent or mismatched
        return error
    return operator

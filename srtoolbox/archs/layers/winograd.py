"""Convolutions with fewer multiplications on a CPU, by the algorithm of Winograd, Toom and Cook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 4
"""Height and width m of the outputs of a tile."""

_POINTS = {
    3: (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2)),
    5: tuple(map(Fraction, ("0", "1", "-1", "1/2", "-1/2", "2", "-2"))),
}
"""Interpolation points beside infinity, by kernel size. Of the usual points, these have the
smallest rounding errors: 1e-6 (3×3) and 4e-6 (5×5) of the standard deviation of the outputs."""

_MIN_CHANNELS, _MIN_TILES = 32, {3: 36, 5: 16}
"""Smallest number of channels, and by kernel size of tiles, from which on it is faster."""

_BAND_TILES = 144
"""Largest number of tiles that are processed at once, so that all buffers stay in the cache."""

_direct = False


@contextmanager
def direct_convolutions() -> Iterator[None]:
    """Inside, `tiling` returns None, so that networks run plain convolutions, in all threads.

    Counts of FLOPs are those of a network's definition, which does not name an algorithm.
    """
    global _direct
    before, _direct = _direct, True
    try:
        yield
    finally:
        _direct = before


def tiling(x: Tensor, channels: int, kernel_size: int) -> Tiling | None:
    """Returns how to divide maps into tiles, or None where plain convolutions are to be used.

    The rule is the same in training and inference: tiles are used on a CPU, in float32 without
    autocast and outside of compiled programs, for 3×3 and 5×5 kernels, from 32 channels and from
    36 tiles (3×3) or 16 tiles (5×5) on.

    Args:
        x: Maps (…, N, C, h, w).
        channels: The smallest number of channels of all convolutions.
        kernel_size: Size of the kernels.
    """
    images, _, height, width = x.shape[-4:]
    if _direct or kernel_size not in _POINTS or channels < _MIN_CHANNELS:
        return None
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return None
    if torch.compiler.is_compiling():
        return None
    maps = Tiling(kernel_size, images, height, width)
    return maps if maps.rows * maps.columns >= _MIN_TILES[kernel_size] else None


class Tiling:
    """Stride-1 convolutions, with zeros around the image, of maps that are divided into tiles.

    Lavin and Gray, CVPR 2016, with the points of Toom and Cook. Each m×m outputs depend on n×n
    inputs, n = m + k − 1. A linear map (``analysis``) turns the inputs into n² values, which are
    multiplied by the n² values of the transformed kernel; another one (``synthesis``) turns the
    products into the outputs. So a tile needs n² instead of m²k² multiplications for each pair of
    channels: 36 instead of 144 for 3×3 kernels, 64 instead of 400 for 5×5 kernels.

    In between, the maps stay divided: (m², C, rows, columns) has in its first dimension the
    position inside of the tile. Channels are the second dimension as usual, so that element-wise
    layers need not know about tiles. Pixels beyond the image, if tiles do not fit, have any value.

    Args:
        kernel_size: Size k of the kernels, 3 or 5.
        images: Number N of images that are processed at once, below each other.
        height: Height h of the images.
        width: Width w of the images.
    """

    def __init__(self, kernel_size: int, images: int, height: int, width: int) -> None:
        self.kernel_size, self.images = kernel_size, images
        self.height, self.width = height, width
        self.padding, self.reach = kernel_size // 2, TILE + kernel_size - 1  # the latter is n
        self.image_rows, self.columns = -(-height // TILE), -(-width // TILE)
        self.rows = images * self.image_rows
        size = max(1, min(self.rows, _BAND_TILES // self.columns))
        self.bands = [(r, min(r + size, self.rows)) for r in range(0, self.rows, size)]

    def divide(self, x: Tensor) -> Tensor:
        """Maps (T, N, C, h, w) to tiles (T, m², C, rows, columns)."""
        below, right = -self.height % TILE, -self.width % TILE
        if below or right:
            x = F.pad(x, (0, right, 0, below))
        x = x.unflatten(4, (self.columns, TILE)).unflatten(3, (self.image_rows, TILE))
        x = x.permute(0, 4, 6, 2, 1, 3, 5)
        return x.reshape(len(x), TILE**2, -1, self.rows, self.columns)

    def join(self, x: Tensor) -> Tensor:
        """Maps tiles (T, m², C, rows, columns) to (T, N, C, h, w)."""
        x = x.unflatten(3, (self.images, self.image_rows)).unflatten(1, (TILE, TILE))
        x = x.permute(0, 4, 3, 5, 1, 6, 2).flatten(5, 6).flatten(3, 4)
        return x[..., : self.height, : self.width]

    def kernels(self, weight: Tensor) -> Tensor:
        """Transforms weights (O, C, k, k) into (n², O, C); differentiable."""
        matrix = _matrices(self.kernel_size, weight.dtype)[1]
        out, channels = weight.shape[:2]
        flat = weight.permute(2, 3, 0, 1).reshape(-1, out * channels)
        return (matrix @ flat).view(-1, out, channels)

    def start(self, kernels: Tensor) -> TiledConvolution:
        """Returns a convolution with these kernels that keeps its buffers."""
        return TiledConvolution(self, kernels)


class TiledConvolution:
    """One convolution of a `Tiling`, outside of automatic differentiation.

    Args:
        tiling: The division of the maps.
        kernels: Transformed weights (n², O, C).
    """

    def __init__(self, tiling: Tiling, kernels: Tensor) -> None:
        self._tiling, self._kernels = tiling, kernels.detach()
        self._analysis, _, self._synthesis = _matrices(tiling.kernel_size, kernels.dtype)
        self._grad: Tensor | None = None
        self._buffers: dict[tuple[str | int, ...], Tensor] = {}
        self._parts: dict[tuple[int, int], list[tuple[Tensor, tuple[slice, ...]]]] = {}
        self._inside: Tensor | None = None
        if tiling.height % TILE or tiling.width % TILE:
            ones = kernels.new_ones(1, tiling.images, 1, tiling.height, tiling.width)
            self._inside = tiling.divide(ones)[0]

    def forward(self, x: Tensor) -> Tensor:
        """Maps tiles (m², C, rows, columns) to (m², O, rows, columns)."""
        out = x.new_empty(TILE**2, self._kernels.shape[1], *x.shape[2:])
        x = self._flat(x)
        for first, last in self._tiling.bands:
            values = self._analyse(x, first, last)
            size = (*self._kernels.shape[:2], values.shape[2])
            products = torch.bmm(self._kernels, values, out=self._buffer("products", *size))
            part = out[:, :, first:last]
            if part.is_contiguous():
                torch.mm(self._synthesis, products.flatten(1), out=part.flatten(1))
            else:
                part.copy_((self._synthesis @ products.flatten(1)).view(part.shape))
        return out

    def backward(self, grad: Tensor, x: Tensor) -> Tensor:
        """Returns the gradient (m², C, rows, columns) of an input ``x`` from that of its output.

        It also adds to the gradient of the kernels.
        """
        if self._grad is None:
            self._grad = torch.zeros_like(self._kernels)
        result, x, shape = torch.zeros_like(x), self._flat(x), x.shape
        flat = result.view(TILE, TILE, shape[1], -1)
        for first, last in self._tiling.bands:
            values = self._analyse(x, first, last)
            part = grad[:, :, first:last]
            products = self._buffer("products", *self._kernels.shape[:2], values.shape[2])
            torch.mm(self._synthesis.t(), part.reshape(TILE**2, -1), out=products.flatten(1))
            self._grad.baddbmm_(products, values.transpose(1, 2))
            back = self._buffer("back", *values.shape)
            torch.bmm(self._kernels.transpose(1, 2), products, out=back)
            inputs = self._buffer("inputs", *values.shape)
            torch.mm(self._analysis.t(), back.flatten(1), out=inputs.flatten(1))
            self._clear(inputs, first, last)
            for there, here in self._blocks(inputs, flat, first, last):
                here += there
        return result if self._inside is None else result.mul_(self._inside)

    def kernels_grad(self) -> Tensor:
        """Returns the gradient (n², O, C) of the kernels: the sum of all calls of `backward`."""
        return torch.zeros_like(self._kernels) if self._grad is None else self._grad

    def _buffer(self, name: str, *shape: int) -> Tensor:
        key = name, *shape
        if key not in self._buffers:
            self._buffers[key] = self._kernels.new_empty(shape)
        return self._buffers[key]

    def _flat(self, x: Tensor) -> Tensor:
        """Returns (m, m, C, rows · columns) with zeros beyond the images."""
        x = x if self._inside is None else x * self._inside
        return x.reshape(TILE, TILE, x.shape[1], -1)

    def _analyse(self, x: Tensor, first: int, last: int) -> Tensor:
        """Transforms the inputs of rows of tiles, from `_flat`, into (n², C, tiles)."""
        tiling = self._tiling
        size = (tiling.reach**2, x.shape[2], (last - first) * tiling.columns)
        inputs, values = self._buffer("inputs", *size), self._buffer("values", *size)
        for there, here in self._blocks(inputs, x, first, last):
            there.copy_(here)
        self._clear(inputs, first, last)
        torch.mm(self._analysis, inputs.flatten(1), out=values.flatten(1))
        return values

    def _blocks(
        self, inputs: Tensor, x: Tensor, first: int, last: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields corresponding parts of the inputs (n², C, tiles) and of the maps (m, m, C, …).

        The n×n inputs of a tile are a part of each of the 3×3 tiles around it. In memory, the same
        part of all tiles is one block, and a neighbour is a shift.
        """
        key = first, inputs.shape[1]
        if key not in self._parts:
            self._parts[key] = list(self._find_blocks(inputs, x.shape[3], first, last))
        for part, index in self._parts[key]:
            yield part, x[index]

    def _find_blocks(
        self, inputs: Tensor, total: int, first: int, last: int
    ) -> Iterator[tuple[Tensor, tuple[slice, ...]]]:
        n, p, columns = self._tiling.reach, self._tiling.padding, self._tiling.columns
        inputs = inputs.unflatten(0, (n, n))
        parts = ((-1, 0, TILE - p, p), (0, p, 0, TILE), (1, p + TILE, 0, p))
        start, stop = first * columns, last * columns
        for down, y, own_y, height in parts:
            for right, z, own_z, width in parts:
                shift = down * columns + right
                a = min(max(start + shift, 0), total)
                b = max(min(stop + shift, total), a)
                window = slice(a - shift - start, b - shift - start)
                part = inputs[y : y + height, z : z + width, :, window]
                own = slice(own_y, own_y + height), slice(own_z, own_z + width)
                yield part, (*own, slice(None), slice(a, b))

    def _clear(self, inputs: Tensor, first: int, last: int) -> None:
        """Sets inputs that lie outside of the image to zero."""
        n, p, tiling = self._tiling.reach, self._tiling.padding, self._tiling
        inputs = inputs.view(n, n, -1, last - first, tiling.columns)
        inputs[:, :p, ..., 0] = 0
        inputs[:, p + TILE :, ..., -1] = 0
        inputs[:p, :, :, -first % tiling.image_rows :: tiling.image_rows] = 0
        inputs[p + TILE :, :, :, (-first - 1) % tiling.image_rows :: tiling.image_rows] = 0


@lru_cache(maxsize=8)
def _matrices(kernel_size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Returns analysis (n², n²), transformation of kernels (n², k²) and synthesis (m², n²).

    The product of two polynomials follows from its values at n points. The transposed of this
    algorithm is the convolution: multiplications of values stay, and the interpolation, an inverse
    Vandermonde matrix, becomes the analysis. Infinity stands for the leading coefficient.
    """
    points = _POINTS[kernel_size]

    def powers(count: int) -> Tensor:
        rows = [[point**i for i in range(count)] for point in points]
        rows.append([Fraction(i == count - 1) for i in range(count)])
        return torch.tensor([[float(x) for x in row] for row in rows], dtype=torch.float64)

    analysis = torch.linalg.inv(powers(TILE + kernel_size - 1)).t()
    both = (analysis, powers(kernel_size), powers(TILE).t())
    transform, kernels, synthesis = (torch.kron(m, m).to(dtype) for m in both)
    return transform, kernels, synthesis

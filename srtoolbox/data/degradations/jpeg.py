"""JPEG compression of tensors, as libjpeg does it, in batches with one quality per image.

ITU-T T.81 (JPEG) and JFIF, with the choices of libjpeg that Pillow and OpenCV use: its table
scaling, 4:2:0 chroma, interpolated chroma when decoding, rounding to 8 bits after each colour
conversion. The only difference is the cosine transform: libjpeg's has integer factors, this one is
computed in float64. A coefficient next to a half therefore rarely gets the neighbouring level.
Entropy coding loses nothing and is left out.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.data.resize.array import TIE

# Annex K of the standard: quantization of luma and chroma at quality 50.
_LUMA = """
16 11 10 16  24  40  51  61   12 12 14 19  26  58  60  55
14 13 16 24  40  57  69  56   14 17 22 29  51  87  80  62
18 22 37 56  68 109 103  77   24 35 55 64  81 104 113  92
49 64 78 87 103 121 120 101   72 92 95 98 112 100 103  99
"""
_CHROMA = """
17 18 24 47 99 99 99 99   18 21 26 66 99 99 99 99
24 26 56 99 99 99 99 99   47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99   99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99   99 99 99 99 99 99 99 99
"""
_BASE = [np.array(table.split(), dtype=np.int64).reshape(8, 8) for table in (_LUMA, _CHROMA)]
_FREQUENCY, _PLACE = np.mgrid[:8, :8]
# The orthonormal matrix of the cosine transform (DCT-II).
_COSINES = 0.5 * np.cos((2 * _PLACE + 1) * _FREQUENCY * math.pi / 16)
_COSINES[0] /= math.sqrt(2)


def quantization_table(quality: int, chroma: bool = False) -> np.ndarray:
    """Returns libjpeg's quantization table (8, 8), int64, for a quality from 1 to 100."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((_BASE[chroma] * percent + 50) // 100).clip(1, 255)


def compress(images: Tensor, quality: list[int]) -> Tensor:
    """Compresses images and decompresses them.

    Three channels are RGB, with chroma of half the size. Other numbers of channels have no colours:
    each channel is compressed as a grey image.

    Args:
        images: (N, C, H, W) float64 levels; rounded and clipped to 0, …, 255 first.
        quality: N integers from 1 to 100, as in libjpeg.

    Returns:
        (N, C, H, W) float64, whole levels from 0 to 255.
    """
    levels = round_levels(images)
    if levels.shape[1] != 3:
        return _code(levels, _tables(quality, False, images.device))
    y, cb, cr = to_ycc(levels)
    luma, chroma = (_tables(quality, kind, images.device) for kind in (False, True))
    y = _code(y[:, None], luma)
    small = _code(shrink_chroma(torch.stack([cb, cr], 1)), chroma)
    return to_rgb(y[:, 0], *enlarge_chroma(small, images.shape[-2:]).unbind(1))


def round_levels(images: Tensor, top: int = 255) -> Tensor:
    """Rounds to whole levels from 0 to ``top``; an exact half rounds up on every device."""
    return (images + (0.5 + TIE)).floor_().clamp_(0, top)


def to_ycc(levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Converts RGB (N, 3, H, W) to whole levels of Y, Cb and Cr (N, H, W) (JFIF, full range)."""
    red, green, blue = levels.unbind(1)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb = 128 - 0.168735892 * red - 0.331264108 * green + 0.5 * blue
    cr = 128 + 0.5 * red - 0.418687589 * green - 0.081312411 * blue
    y, cb, cr = (round_levels(plane) for plane in (y, cb, cr))
    return y, cb, cr


def to_rgb(y: Tensor, cb: Tensor, cr: Tensor) -> Tensor:
    """Converts Y, Cb and Cr (N, H, W) to whole levels of RGB (N, 3, H, W)."""
    cb, cr = cb - 128, cr - 128
    planes = y + 1.402 * cr, y - 0.344136286 * cb - 0.714136286 * cr, y + 1.772 * cb
    return round_levels(torch.stack(planes, 1))


def shrink_chroma(planes: Tensor) -> Tensor:
    """Averages 2 × 2 pixels of whole levels (..., H, W); halves are rounded down and up in turn.

    The result has ⌈H / 2⌉ rows and columns to a multiple of 8, which repeat the last pixel.
    """
    height, width = planes.shape[-2:]
    planes = F.pad(planes, (0, -width % 16, 0, height % 2), mode="replicate")
    quad = planes[..., ::2, :] + planes[..., 1::2, :]
    quad = quad[..., ::2] + quad[..., 1::2]
    bias = torch.arange(quad.shape[-1], device=quad.device) % 2 + 1
    return ((quad + bias) / 4).floor_()


def enlarge_chroma(planes: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Doubles the height and width of whole levels by weights of 3/4 and 1/4, as libjpeg does.

    Args:
        planes: (..., h, w); pixels beyond half of ``size`` are not used.
        size: Height and width of the result.
    """
    height, width = (math.ceil(side / 2) for side in size)
    planes = planes[..., :height, :width]
    for dim in (-2, -1):
        length = planes.shape[dim]
        near = torch.arange(length, device=planes.device)
        before, after = (near - 1).clamp(min=0), (near + 1).clamp(max=length - 1)
        pair = [3 * planes + planes.index_select(dim, other) for other in (before, after)]
        planes = torch.stack(pair, dim).flatten(dim - 1, dim)
    bias = 8 - torch.arange(planes.shape[-1], device=planes.device) % 2
    return ((planes + bias) / 16).floor_()[..., : size[0], : size[1]]


def _code(planes: Tensor, tables: Tensor) -> Tensor:
    """Transforms and quantizes planes of whole levels in blocks of 8 × 8, and transforms back.

    Args:
        planes: (N, C, H, W).
        tables: (N, 8, 8).
    """
    height, width = planes.shape[-2:]
    padded = F.pad(planes, (0, -width % 8, 0, -height % 8), mode="replicate") - 128
    blocks = padded.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)
    table = tables[:, None, None, None]
    levels = _both_axes(blocks, _COSINES) / table
    levels = levels.sign() * (levels.abs() + (0.5 + TIE)).floor() * table
    pixels = _both_axes(levels, _COSINES.T).transpose(-3, -2).flatten(-4, -3).flatten(-2)
    return round_levels(pixels[..., :height, :width] + 128)


def _both_axes(blocks: Tensor, matrix: np.ndarray) -> Tensor:
    """Returns M B Mᵀ of blocks B (..., 8, 8), in float64, so that no device rounds to TF32."""
    turned = torch.from_numpy(np.ascontiguousarray(matrix.T)).to(blocks.device)
    return ((blocks @ turned).transpose(-2, -1) @ turned).transpose(-2, -1)


def _tables(quality: list[int], chroma: bool, device: torch.device) -> Tensor:
    tables = np.stack([quantization_table(number, chroma) for number in quality])
    return torch.from_numpy(tables).to(device, torch.float64)

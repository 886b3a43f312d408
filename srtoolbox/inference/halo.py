"""Measures how many pixels around a tile a network needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.inference.padding import run_padded

LIMIT = 64
"""Largest halo in LR pixels that is tried."""

TOLERANCE = 1e-5
"""Largest change of a pixel of [0, 1] that counts as none: 1/400 of a level of 8 bits."""

_ROWS = 32  # of the test images


@dataclass(frozen=True)
class Halo:
    """The pixels around a tile that the network must see.

    Attributes:
        pixels: LR pixels, a multiple of the network's ``size_multiple``.
        error: The largest change beyond it, for values in [0, 1].
    """

    pixels: int
    error: float

    @property
    def is_exact(self) -> bool:
        """Whether tiles with this halo give the result of the whole image."""
        return self.error <= TOLERANCE


@torch.no_grad()
def measure_halo(net: nn.Module, num_frame: int, device: torch.device) -> Halo:
    """Cuts test images and returns the distance from the cut at which results no longer change.

    This is what happens to a network in tiles, so nothing of its structure needs to be known. It
    runs twice on each of two images of about 32×192 pixels, cut on the left and on the right.

    Args:
        net: A registered arch in eval mode on ``device``.
        num_frame: Number of frames of its input.
        device: Device of the network.

    Returns:
        The halo; ``LIMIT`` with its error if the change never falls below the tolerance, as for
        networks that use the whole image.
    """
    info = arch_info(net)
    multiple, scale = info.size_multiple, cast(int, net.scale)
    rows = -(-max(_ROWS, info.min_size) // multiple) * multiple
    cut = -(-max(LIMIT // 2, info.min_size) // multiple) * multiple
    limit = -(-LIMIT // multiple) * multiple
    width = cut + max(limit, -(-info.min_size // multiple) * multiple) + multiple
    change = torch.zeros(width - cut)
    for number in range(2):
        whole = _test_image(number, num_frame, info.channels, rows, width).to(device)
        if info.num_frame == 1:
            whole = whole[:, 0]
        # One of the images is cut on its left, the other on its right.
        part = whole[..., cut:] if number == 0 else whole[..., : width - cut]
        full, own = run_padded(net, whole).float(), run_padded(net, part.contiguous()).float()
        same = full[..., cut * scale :] if number == 0 else full[..., : (width - cut) * scale]
        largest = (same - own).abs().cpu().reshape(-1, own.shape[-1]).amax(0)
        by_column = largest.view(width - cut, scale).amax(1)
        change = torch.maximum(change, by_column if number == 0 else by_column.flip(0))
    beyond = change.flip(0).cummax(0).values.flip(0)  # the largest change from each distance on
    for pixels in range(0, limit, multiple):
        if beyond[pixels] <= TOLERANCE:
            return Halo(pixels, float(beyond[pixels]))
    return Halo(limit, float(beyond[limit]))


def _test_image(number: int, num_frame: int, channels: int, rows: int, columns: int) -> Tensor:
    """Returns a moving texture (1, T, C, rows, columns) in [0, 1] with coarse and fine details."""
    draw = torch.Generator().manual_seed(number)
    sizes = [(rows // 8 + 1, columns // 8 + 1), (rows, columns)]
    coarse, fine = (torch.rand(1, channels, *size, generator=draw) for size in sizes)
    image = 0.6 * F.interpolate(coarse, (rows, columns), mode="bilinear") + 0.4 * fine
    return torch.stack([image.roll((t, t), (-2, -1)) for t in range(num_frame)], dim=1)

"""The number of bands of images: checks, and the mean colour that only RGB images have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srtoolbox.errors import UserError

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of the DIV2K training images, RGB in [0, 1]."""


def check_bands(
    net: nn.Module, num_in_ch: int, num_out_ch: int | None, equal: bool = False
) -> tuple[int, int]:
    """Returns the bands of input and output, for ``channels`` and ``out_channels`` of a network.

    Args:
        net: The network, for messages.
        num_in_ch: Bands of the input, at least 1.
        num_out_ch: Bands of the output, at least 1; None: as many as the input.
        equal: Whether both must be equal, because the network adds its result to the input.

    Raises:
        UserError: for numbers below 1, or different ones where they must be equal.
    """
    name, out = type(net).__name__, num_in_ch if num_out_ch is None else num_out_ch
    for option, number in (("num_in_ch", num_in_ch), ("num_out_ch", out)):
        if number < 1:
            raise UserError(f"{name}: {option} must be at least 1, got {number}")
    if equal and num_in_ch != out:
        raise UserError(
            f"{name}: num_out_ch is {out} but num_in_ch is {num_in_ch}; it adds its result to the "
            "input and needs equal numbers: leave num_out_ch out, or choose bands of the data "
            "(bands_gt)"
        )
    return num_in_ch, out


def mean_of_bands(num: int) -> Tensor:
    """Returns the mean that a network subtracts from images of ``num`` bands, (1, num, 1, 1).

    It is `RGB_MEAN` for 3 bands. For other numbers it is zero: nothing is known about the bands.
    """
    mean = torch.tensor(RGB_MEAN) if num == 3 else torch.zeros(num)
    return mean.view(1, num, 1, 1)

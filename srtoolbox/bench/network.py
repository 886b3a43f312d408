"""Networks to be measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from srtoolbox.config.schema import build
from srtoolbox.errors import UserError
from srtoolbox.inference.padding import accepts_size
from srtoolbox.models.frames import arrange_frames

SEED = 0


def build_net(
    key: str,
    spec: dict[str, Any],
    lq: tuple[int, int, int, int],
    reference: int = 0,
    scale: int | None = None,
) -> nn.Module:
    """A network as it starts training.

    Args:
        key: Where the option file has ``spec``, for messages.
        spec: The arch and its options.
        lq: Frames, channels, height and width of what it is given.
        reference: Index of the reference frame.
        scale: Factor of the data; None lets the arch choose.

    Raises:
        UserError: if it does not take such data or has nothing to learn.
    """
    torch.manual_seed(SEED)
    net = build("arch", spec, **({} if scale is None else {"scale": scale}))
    frames, channels, height, width = lq
    try:
        arrange_frames(net, torch.empty(1, frames, channels, 1, 1), reference)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    if scale not in (None, net.scale):
        raise UserError(f"{key}: its scale is {net.scale}, that of the data {scale}")
    if not (accepts_size(net, height) and accepts_size(net, width)):
        raise UserError(
            f"{key}: takes sizes from {net.min_size} on in multiples of {net.size_multiple}, but "
            f"is given {height}×{width}"
        )
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise UserError(f"{key}: has nothing to learn, so there is no training step to measure")
    return net

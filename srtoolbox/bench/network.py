"""Builds the networks of a benchmark."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from srtoolbox.archs.base import arch_info, check_network
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
    """Builds a network as it starts training.

    Args:
        key: Key of ``spec`` in the option file, for messages.
        spec: The arch and its options.
        lq: Frames, channels, height and width of its input.
        reference: Index of the reference frame.
        scale: Super-resolution factor of the data; None: the arch's default.

    Raises:
        UserError: if it does not accept such data or has no parameters to train.
    """
    torch.manual_seed(SEED)
    net = build("arch", spec, **({} if scale is None else {"scale": scale}))
    frames, channels, height, width = lq
    try:
        check_network(net)
        arrange_frames(net, torch.empty(1, frames, channels, 1, 1), reference)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    if scale not in (None, net.scale):
        raise UserError(f"{key}: its scale is {net.scale}, the scale of the data is {scale}")
    info = arch_info(net)
    if info.channels != channels:
        raise UserError(
            f"{key}: takes {info.channels} channels, but is given {channels}; set num_in_ch of the "
            "network, or the channels of the input"
        )
    if not (accepts_size(net, height) and accepts_size(net, width)):
        raise UserError(
            f"{key}: takes sizes from {info.min_size} on in multiples of {info.size_multiple}, but "
            f"is given {height}×{width}"
        )
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise UserError(f"{key}: has nothing to learn, so there is no training step to measure")
    return net

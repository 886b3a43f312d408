"""What a network declares about itself: plain attributes of its class, with defaults."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any

from torch import nn

from srtoolbox.errors import UserError


@dataclass(frozen=True)
class ArchInfo:
    """The attributes that the toolbox reads from a registered network.

    A network sets those that differ from the defaults, on its class or, where they depend on its
    options, on the instance. It need not inherit from anything but ``nn.Module``.

    Attributes:
        scales: Super-resolution factors that it can be built for.
        num_frame: 1: it takes single images (N, C, h, w). An integer above 1: exactly that many
            frames (N, T, C, h, w). None: any number of frames.
        reference: Index at which it expects the reference frame; frames are reordered for it.
        size_multiple: Height and width of its input must be multiples of this; the toolbox pads
            inputs and crops outputs.
        min_size: Smallest height and width of its input.
        channels: Channels of a frame: 3 for RGB, 4 for packed RAW.
        restores_all: Whether it returns all frames (N, T, C, H, W) instead of the reference.
        time_scale: Frame rate of the output divided by that of the input.
        needs_flow: Registered optical-flow estimator whose result is its second input; None: none.
        own_weights: Whether its tensors have names by which the type of a weight file can be
            recognised.
        checkpoint_blocks: Modules whose children ``train.checkpointing`` recomputes.
        dead_parameters: Prefixes of parameters that no gradient reaches, by design of the paper.
        paper: One line for tables: authors, title, venue, year.
    """

    scales: tuple[int, ...]
    num_frame: int | None = 1
    reference: int = 0
    size_multiple: int = 1
    min_size: int = 1
    channels: int = 3
    restores_all: bool = False
    time_scale: int = 1
    needs_flow: str | None = None
    own_weights: bool = True
    checkpoint_blocks: tuple[str, ...] = ()
    dead_parameters: tuple[str, ...] = ()
    paper: str = ""


_HINTS = typing.get_type_hints(ArchInfo)


def arch_info(net: nn.Module | type[nn.Module]) -> ArchInfo:
    """Returns what a network, or its class, declares, with defaults for the rest.

    Raises:
        UserError: if ``scales`` is missing, or an attribute has a value of another type; the
            message names class and attribute.
    """
    declared: dict[str, Any] = {}
    for field in dataclasses.fields(ArchInfo):
        value = getattr(net, field.name, field.default)
        if isinstance(value, property):  # of a class: only its instances know
            value = field.default
        if value is dataclasses.MISSING:
            raise UserError(
                f"{_name(net)}: the attribute '{field.name}' is missing; state the factors that "
                "the network can be built for, e.g. scales = (2, 3, 4)"
            )
        if isinstance(value, list):
            value = tuple(value)
        if not _is_instance(value, _HINTS[field.name]):
            raise UserError(
                f"{_name(net)}: the attribute '{field.name}' must be "
                f"{field.type}, got {value!r} ({type(value).__name__})"
            )
        declared[field.name] = value
    return ArchInfo(**declared)


def _is_instance(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is tuple:
        entry = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(_is_instance(item, entry) for item in value)
    if isinstance(value, bool) and hint is not bool:
        return False
    return isinstance(value, hint)


def _name(net: nn.Module | type[nn.Module]) -> str:
    return net.__name__ if isinstance(net, type) else type(net).__name__

"""The attributes by which a network declares its requirements, with their defaults."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any

from torch import nn

from srtoolbox.errors import ComponentError, UserError
from srtoolbox.utils.own_code import place_of

PAD_MODES = ("replicate", "reflect")


@dataclass(frozen=True)
class ArchInfo:
    """The attributes that the toolbox reads from a registered network.

    A network sets only ``scales`` and the attributes that differ from their defaults: on the class
    or, if they depend on options, on the instance. The instance also has ``scale``, its factor. The
    only base class that it needs is ``nn.Module``.

    Attributes:
        scales: Super-resolution factors that it can be built for.
        num_frame: 1: its input is an image (N, C, h, w). An integer above 1: its input is this
            number of frames (N, T, C, h, w). None: any number of frames.
        reference: Index of the reference frame in its input; the toolbox reorders frames for it.
        size_multiple: Height and width of its input must be multiples of this; the toolbox pads
            inputs and crops outputs.
        min_size: Minimum height and width of its input.
        pad_mode: How the toolbox extends smaller inputs at the right and bottom: ``"replicate"``
            repeats the edge pixel, ``"reflect"`` mirrors the image without repeating it.
        input_size: Height and width that its input must have, for an exported program of a fixed
            size; `run_tiled` runs it on larger images. None: any.
        square: Whether height and width of its input must be equal.
        channels: Channels of a frame: its bands, 3 for RGB; 4 for packed RAW.
        out_channels: Channels of its output. None: not declared; then they are those of its input,
            or 3, as RAW becomes RGB.
        restores_all: Whether it returns all frames (N, T, C, H, W) instead of the reference.
        time_scale: Frame rate of the output divided by that of the input.
        takes_scale: Whether its ``forward`` has a parameter ``scale``, one of ``scales``, so that
            one training can have several.
        needs_flow: Name of the optical-flow estimator whose result is its second input, or None.
        own_weights: Whether the names of its tensors identify the arch of a weight file.
        weight_option: The option that names the weight file from which it is built, weights
            included; such an arch has no defaults. None: weights are loaded later.
        origin: Where its weights and its code come from, for the notes of tables; only of such a
            network.
        checkpoint_blocks: Modules whose children ``train.checkpointing`` recomputes.
        dead_parameters: Prefixes of parameters that no gradient reaches, by design of the paper.
        paper: One line for tables: authors, title, venue, year.
    """

    scales: tuple[int, ...]
    num_frame: int | None = 1
    reference: int = 0
    size_multiple: int = 1
    min_size: int = 1
    pad_mode: str = "replicate"
    input_size: tuple[int, int] | None = None
    square: bool = False
    channels: int = 3
    out_channels: int | None = None
    restores_all: bool = False
    time_scale: int = 1
    takes_scale: bool = False
    needs_flow: str | None = None
    own_weights: bool = True
    weight_option: str | None = None
    origin: str = ""
    checkpoint_blocks: tuple[str, ...] = ()
    dead_parameters: tuple[str, ...] = ()
    paper: str = ""

    def frames_returned(self, num_frame: int) -> int:
        """Returns how many frames a network that restores all returns for ``num_frame`` of them."""
        return (num_frame - 1) * self.time_scale + 1


_HINTS = typing.get_type_hints(ArchInfo)


def arch_info(net: nn.Module | type[nn.Module]) -> ArchInfo:
    """Returns the declarations of a network or of its class, with defaults for missing attributes.

    For a class, attributes that are properties have their defaults; lists become tuples.

    Raises:
        UserError: if ``scales`` is missing or empty, or if an attribute has a wrong type; the
            message names class and attribute.
    """
    declared: dict[str, Any] = {}
    for field in dataclasses.fields(ArchInfo):
        value = getattr(net, field.name, field.default)
        if isinstance(value, property):  # net is a class; only its instances have the value
            value = field.default
        if value is dataclasses.MISSING or (field.name == "scales" and value in ((), [])):
            raise UserError(
                f"{_name(net)}: the attribute 'scales' is missing; set it to the factors that the "
                "network can be built for, e.g. scales = (2, 3, 4)"
            )
        declared[field.name] = tuple(value) if isinstance(value, list) else value
        if not _is_instance(declared[field.name], _HINTS[field.name]):
            raise UserError(
                f"{_name(net)}: the attribute '{field.name}' must be {field.type}, "
                f"got {value!r} ({type(value).__name__})"
            )
    info = ArchInfo(**declared)
    _check_values(net, info)
    return info


def channels_text(net: nn.Module) -> str:
    """Returns the channels of input and output in words: ``"3"``, or ``"4 in, 3 out"``."""
    info = arch_info(net)
    if info.out_channels in (None, info.channels):
        return str(info.channels)
    return f"{info.channels} in, {info.out_channels} out"


def check_network(net: Any) -> None:
    """Checks that an object is a network with valid declarations and its own ``scale``.

    Raises:
        ComponentError: if it is no ``nn.Module`` or does not set ``scale``.
        UserError: as for ``arch_info``.
    """
    name = f"{_name(net)}{place_of(net, '__init__')}"
    if not isinstance(net, nn.Module):
        raise ComponentError(f"{name} must derive from torch.nn.Module")
    arch_info(net)
    if not hasattr(net, "scale"):
        raise ComponentError(f"{name} does not set its scale; add self.scale = scale")
    if isinstance(net.scale, bool) or not isinstance(net.scale, int):
        raise ComponentError(
            f"{name}: self.scale must be an integer, got {net.scale!r} ({type(net.scale).__name__})"
        )


def _check_values(net: nn.Module | type[nn.Module], info: ArchInfo) -> None:
    """Raises a ``ComponentError`` for numbers that no network can have."""
    for field in (
        *("scales", "num_frame", "size_multiple", "min_size", "input_size", "channels"),
        *("out_channels", "time_scale"),
    ):
        value = getattr(info, field)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(number is not None and number < 1 for number in numbers):
            raise ComponentError(f"{_name(net)}: the attribute '{field}' must be above 0: {value}")
    if info.pad_mode not in PAD_MODES:
        raise ComponentError(
            f"{_name(net)}: the attribute 'pad_mode' must be one of {', '.join(PAD_MODES)}, got "
            f"{info.pad_mode!r}"
        )
    # A class may leave num_frame to its instances.
    last = None if isinstance(net, type) or info.num_frame is None else info.num_frame - 1
    if info.reference < 0 or (last is not None and info.reference > last):
        limit = "at least 0" if last is None else f"between 0 and {last} (num_frame - 1)"
        raise ComponentError(
            f"{_name(net)}: the attribute 'reference' is {info.reference}; it must be {limit}"
        )


def _is_instance(value: Any, hint: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_is_instance(value, choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        entry, *others = typing.get_args(hint)
        if not isinstance(value, tuple) or (others != [...] and len(value) != 1 + len(others)):
            return False
        return all(_is_instance(item, entry) for item in value)
    if isinstance(value, bool) and hint is not bool:
        return False
    return isinstance(value, hint)


def _name(net: nn.Module | type[nn.Module]) -> str:
    return net.__name__ if isinstance(net, type) else type(net).__name__

"""Finds the options of a network from the tensors of a weight file that does not contain them."""

from __future__ import annotations

import inspect
import itertools
import re
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import nn

from srtoolbox.archs.base import arch_info
from srtoolbox.engine.weights.detect import closest_arch, without_numbers
from srtoolbox.engine.weights.names import likely_names, unwrapped
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY
from srtoolbox.utils.meta import without_memory

_MAX_TRIES = 200
_MAX_TRIES_OF_WORDS = 16  # after all others have failed
_DEFAULT_BANDS = {"num_in_ch": 3}


def guess_arch(state: Mapping[str, Any], scale: int | None = None) -> dict[str, Any] | None:
    """Returns name and options of the arch whose tensors have exactly these names and shapes.

    The arch is the one with the most similar names. Its scales, and numbers of features and blocks
    that occur in the shapes and names, are tried in turn: first with the default number of bands,
    then with the numbers that the shapes show. If nothing fits, the same is tried with each other
    value of each option that is one of several words. All other options have their defaults.

    An arch with ``options_from_shapes`` finds them itself, see `read_options`.

    Args:
        state: Tensors by name.
        scale: As of `read_options`.

    Returns:
        ``{"type": "EDSR", "scale": 2, "num_feat": 64, …}``; None if nothing fits, or several scales
        do, because the tensors are the same for all of them.

    Raises:
        UserError: as `read_options`.
    """
    if (found := read_options(state, scale)) is not None:
        return found
    name = closest_arch(state)
    if name is None or hasattr(ARCH_REGISTRY.get(name), "options_from_shapes"):
        return None
    for candidates in _ways(name, state):
        fitting = list(_fitting(name, state, candidates))
        if fitting:
            scales = {options.get("scale") for options in fitting}
            return {"type": name, **fitting[0]} if len(scales) == 1 else None
    return None


def read_options(state: Mapping[str, Any], scale: int | None = None) -> dict[str, Any] | None:
    """Returns name and options of an arch that reads them from names and shapes of its tensors.

    Such an arch has a static method ``options_from_shapes``. It gets the shapes of the tensors by
    name and returns all options that have an effect on them, a list if several fit, or None.

    Args:
        state: Tensors by name.
        scale: Chooses between several options that fit.

    Returns:
        As `guess_arch`; None if no arch with such a method has exactly these tensors.

    Raises:
        UserError: if options of several scales fit, and none is chosen.
    """
    named = likely_names(state).items()
    shapes = {key: tuple(value.shape) for key, value in named if hasattr(value, "shape")}
    for name in ARCH_REGISTRY:
        reader = getattr(ARCH_REGISTRY.get(name), "options_from_shapes", None)
        if reader is None:
            continue
        try:
            found = reader(shapes) or []
        except (ArithmeticError, LookupError, TypeError, ValueError):  # its names, other shapes
            continue
        candidates = found if isinstance(found, list) else [found]
        fitting = list(_fitting(name, state, iter(candidates)))
        if len(fitting) > 1:
            chosen = [options for options in fitting if options["scale"] == scale]
            if not chosen:
                raise UserError(_several(name, fitting))
            fitting = chosen
        if fitting:
            return {"type": name, **fitting[0]}
    return None


def _several(name: str, fitting: list[dict[str, Any]]) -> str:
    """Returns the message for options that all fit the same tensors."""
    keys = ("scale", "num_in_ch", "num_out_ch")
    shown = " or ".join(
        ", ".join(f"{key} {options[key]}" for key in keys if key in options) for options in fitting
    )
    scales = " or ".join(f"scale={options['scale']}" for options in fitting)
    return (
        f"its tensors fit {name} with {shown}; choose one with --set {scales} (of upscale and "
        "convert), or give an option file with network_g"
    )


def _ways(name: str, state: Mapping[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
    """Yields options to try, the more likely ones first.

    Bands of input and output are equal more often than not. This decides for RRDBNet, whose tensors
    for scale 2 and 3 bands are also those for scale 4, 12 bands in the input and 3 in the output.
    """
    arch = ARCH_REGISTRY.get(name)
    parameters = inspect.signature(arch).parameters
    scales = arch_info(arch).scales if "scale" in parameters else (None,)
    starts = [{} if scale is None else {"scale": scale} for scale in scales]
    yield from _ways_with_bands(arch, starts, state)
    others = [{**start, **choice} for choice in _choices(arch, state) for start in starts]
    if others:
        for way in _ways_with_bands(arch, others, state):
            yield itertools.islice(way, _MAX_TRIES_OF_WORDS)


def _choices(arch: type[nn.Module], state: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yields each word but the default of each option that is one of several words.

    Words with which the arch has tensors of other names than the file are left out.
    """
    hints = typing.get_type_hints(arch.__init__)
    for option, parameter in inspect.signature(arch).parameters.items():
        if typing.get_origin(hints.get(option)) is Literal:
            for word in typing.get_args(hints[option]):
                other = isinstance(word, str) and word != parameter.default
                if other and _has_names(arch, {option: word}, state):
                    yield {option: word}


def _has_names(arch: type[nn.Module], options: dict[str, str], state: Mapping[str, Any]) -> bool:
    """Returns whether an arch has the names of a file, apart from numbers of blocks."""
    try:
        with without_memory():
            own = arch(**options).state_dict()
    except Exception:  # the arch refuses these options
        return False
    given, _ = unwrapped(state, own.keys())
    return set(map(without_numbers, given)) == set(map(without_numbers, own))


def _ways_with_bands(
    arch: type[nn.Module], starts: list[dict[str, Any]], state: Mapping[str, Any]
) -> Iterator[Iterator[dict[str, Any]]]:
    """Yields options to try that begin with one of ``starts``, by their numbers of bands."""
    yield _candidates(arch, state, starts)
    if "num_in_ch" in inspect.signature(arch).parameters:
        found = [(start, _bands(arch, start, state)) for start in starts]
        found = [(start, bands) for start, bands in found if bands not in (None, _DEFAULT_BANDS)]
        for equal in (True, False):
            chosen = [{**s, **bands} for s, bands in found if ("num_out_ch" not in bands) == equal]
            yield _candidates(arch, state, chosen)


def _fitting(
    name: str, state: Mapping[str, Any], candidates: Iterator[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yields the options with which an arch has exactly the tensors of a file."""
    for options in itertools.islice(candidates, _MAX_TRIES):
        try:
            with without_memory():
                own = ARCH_REGISTRY.get(name)(**options).state_dict()
        except Exception:  # the arch refuses these options
            continue
        given, _ = unwrapped(state, own.keys())
        shapes = {key: getattr(value, "shape", None) for key, value in given.items()}
        if all(shapes.get(key) == value.shape for key, value in own.items()) and not (
            {key for key, shape in shapes.items() if shape is not None} - own.keys()
        ):
            yield options


def _candidates(
    arch: type[nn.Module], state: Mapping[str, Any], starts: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yields options to try, those of the default sizes first, each with one of ``starts``."""
    parameters = inspect.signature(arch).parameters
    values: dict[str, list[Any]] = {}
    for option, found in (("num_feat", _features(state)), ("num_block", _blocks(state))):
        if option in parameters:
            default = parameters[option].default
            values[option] = list(dict.fromkeys([default, *found]))
    for start in starts:
        for combination in itertools.product(*values.values()):
            yield {**start, **dict(zip(values, combination, strict=True))}


def _bands(
    arch: type[nn.Module], options: Mapping[str, Any], state: Mapping[str, Any]
) -> dict[str, int] | None:
    """Returns the numbers of bands of a file as options; None if its shapes show none.

    A layer whose shape depends on a number of bands is found by building the arch with two numbers.
    The size of this layer in the file then gives the number, also if it is a multiple (RRDBNet).
    """
    few, many = 5, 7  # any two numbers
    if "num_block" in inspect.signature(arch).parameters:
        options = {**options, "num_block": 1}

    def shapes(**bands: int) -> dict[str, torch.Size]:
        with without_memory():
            return {k: v.shape for k, v in arch(**options, **bands).state_dict().items()}

    def number(base: Mapping[str, torch.Size], other: Mapping[str, torch.Size]) -> int | None:
        given, _ = unwrapped(state, base.keys())
        for key in base:
            shape = getattr(given.get(key), "shape", ())
            for small, large, size in zip(base[key], other.get(key, ()), shape, strict=False):
                if small != large:
                    more, rest = divmod((size - small) * (many - few), large - small)
                    return None if rest or few + more < 1 else few + more
        return None

    try:
        base = shapes(num_in_ch=few, num_out_ch=few)
        try:
            inputs = number(base, shapes(num_in_ch=many, num_out_ch=few))
            outputs = number(base, shapes(num_in_ch=few, num_out_ch=many))
        except UserError:  # both numbers must be equal
            inputs = outputs = number(base, shapes(num_in_ch=many, num_out_ch=many))
    except Exception:  # the arch refuses these options
        return None
    if inputs is None or outputs is None:
        return None
    return {"num_in_ch": inputs} | ({} if outputs == inputs else {"num_out_ch": outputs})


def _features(state: Mapping[str, Any]) -> list[int]:
    """Returns the most frequent numbers of output channels of convolutions."""
    counts = Counter(value.shape[0] for value in state.values() if getattr(value, "ndim", 0) == 4)
    return [number for number, _ in counts.most_common(3)]


def _blocks(state: Mapping[str, Any]) -> list[int]:
    """Returns the lengths of the lists of modules, the longest first."""
    lengths: Counter[str] = Counter()
    for key in state:
        for match in re.finditer(r"\.(\d+)\.", key):
            prefix = key[: match.start()]
            lengths[prefix] = max(lengths[prefix], int(match[1]) + 1)
    return sorted(set(lengths.values()), reverse=True)[:4]

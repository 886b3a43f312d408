"""Finds the options of a network from the tensors of a weight file that does not contain them."""

from __future__ import annotations

import inspect
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from srtoolbox.archs.base import arch_info
from srtoolbox.engine.weights.detect import closest_arch
from srtoolbox.engine.weights.names import unwrapped
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

_MAX_TRIES = 200


def guess_arch(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns name and options of the arch whose tensors have exactly these names and shapes.

    The arch is the one with the most similar names. Its scales, and numbers of features and blocks
    that occur in the shapes and names, are tried in turn, with the numbers of bands that the first
    and the last layers have; all other options have their defaults.

    Args:
        state: Tensors by name.

    Returns:
        ``{"type": "EDSR", "scale": 2, "num_feat": 64, …}``; None if nothing fits, or several scales
        do, because the tensors are the same for all of them.
    """
    name = closest_arch(state)
    fitting = [] if name is None else list(_fitting(name, state))
    scales = {options.get("scale") for options in fitting}
    return {"type": name, **fitting[0]} if len(scales) == 1 else None


def _fitting(name: str, state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the options with which an arch has exactly the tensors of a file."""
    for options in itertools.islice(_candidates(name, state), _MAX_TRIES):
        try:
            with torch.device("meta"):
                own = ARCH_REGISTRY.get(name)(**options).state_dict()
        except Exception:  # the arch refuses these options
            continue
        given, _ = unwrapped(state, own.keys())
        shapes = {key: getattr(value, "shape", None) for key, value in given.items()}
        if all(shapes.get(key) == value.shape for key, value in own.items()) and not (
            {key for key, shape in shapes.items() if shape is not None} - own.keys()
        ):
            yield options


def _candidates(name: str, state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields options to try, those of the default sizes first."""
    arch = ARCH_REGISTRY.get(name)
    parameters = inspect.signature(arch).parameters
    values: dict[str, list[Any]] = {}
    for option, found in (("num_feat", _features(state)), ("num_block", _blocks(state))):
        if option in parameters:
            default = parameters[option].default
            values[option] = list(dict.fromkeys([default, *found]))
    for scale in arch_info(arch).scales if "scale" in parameters else [None]:
        first = {} if scale is None else {"scale": scale}
        bands = _bands(arch, first, state) if "num_in_ch" in parameters else {}
        for combination in itertools.product(*values.values()):
            yield {**first, **dict(zip(values, combination, strict=True)), **bands}


def _bands(
    arch: type[nn.Module], options: Mapping[str, Any], state: Mapping[str, Any]
) -> dict[str, int]:
    """Returns the numbers of bands of a file, those that differ from the defaults.

    A layer whose shape depends on a number of bands is found by building the arch with two numbers.
    The size of this layer in the file then gives the number, also if it is a multiple (RRDBNet).
    """
    few, many = 5, 7  # any two numbers of bands that are not the default

    def shapes(**bands: int) -> dict[str, torch.Size]:
        with torch.device("meta"):
            return {k: v.shape for k, v in arch(**options, **bands).state_dict().items()}

    def number(base: Mapping[str, torch.Size], other: Mapping[str, torch.Size]) -> int | None:
        given, _ = unwrapped(state, base.keys())
        for key in base:
            shape = getattr(given.get(key), "shape", ())
            for small, large, size in zip(base[key], other.get(key, ()), shape, strict=False):
                if small != large:
                    return few + round((size - small) * (many - few) / (large - small))
        return None

    try:
        base = shapes(num_in_ch=few, num_out_ch=few)
        try:
            inputs = number(base, shapes(num_in_ch=many, num_out_ch=few))
            outputs = number(base, shapes(num_in_ch=few, num_out_ch=many))
        except UserError:  # both numbers must be equal
            inputs = outputs = number(base, shapes(num_in_ch=many, num_out_ch=many))
    except Exception:  # the arch refuses these options
        return {}
    found = {} if inputs in (None, 3) else {"num_in_ch": inputs}
    return found if outputs in (None, inputs) else {**found, "num_out_ch": outputs}


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

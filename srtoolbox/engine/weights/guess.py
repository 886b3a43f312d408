"""Finds the options of a network from the tensors of a weight file that does not contain them."""

from __future__ import annotations

import inspect
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from srtoolbox.archs.base import arch_info
from srtoolbox.engine.weights.detect import closest_arch
from srtoolbox.engine.weights.names import unwrapped
from srtoolbox.registry import ARCH_REGISTRY

_MAX_TRIES = 200


def guess_arch(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns name and options of the arch whose tensors have exactly these names and shapes.

    The arch is the one with the most similar names. Its scales, and numbers of features and blocks
    that occur in the shapes and names, are tried in turn; all other options have their defaults.

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
    if "scale" in parameters:
        values["scale"] = list(arch_info(arch).scales)
    for option, found in (("num_feat", _features(state)), ("num_block", _blocks(state))):
        if option in parameters:
            default = parameters[option].default
            values[option] = list(dict.fromkeys([default, *found]))
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


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

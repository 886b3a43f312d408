"""Recognises the arch of a weight file by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from srtoolbox.archs.base import arch_info
from srtoolbox.engine.weights.names import likely_names
from srtoolbox.registry import ARCH_REGISTRY
from srtoolbox.utils.meta import without_memory

_MIN_SIMILARITY = 0.5


def closest_arch(state: Mapping[str, Any]) -> str | None:
    """Returns the registered arch with the most similar tensor names; None if none is similar.

    Numbers in names are ignored, since they count blocks. Between archs with the same names, the
    one whose default configuration shares more names and shapes is chosen.
    """
    shapes = {key: getattr(value, "shape", None) for key, value in likely_names(state).items()}
    candidates = {name: _default_shapes(ARCH_REGISTRY.get(name)) for name in ARCH_REGISTRY}
    scored = [(*_similarity(shapes, own), name) for name, own in candidates.items() if own]
    similarity, _, name = max(scored)
    return name if similarity >= _MIN_SIMILARITY else None


def _similarity(given: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[float, int]:
    """Returns the intersection over union of the names, and the number of shared shapes."""
    ours, theirs = set(map(without_numbers, own)), set(map(without_numbers, given))
    shared = sum(given.get(key) == shape for key, shape in own.items())
    return len(ours & theirs) / max(1, len(ours | theirs)), shared


def without_numbers(key: str) -> str:
    """Returns a tensor's name with a mark for each number, since numbers count blocks."""
    return re.sub(r"\d+", "#", key)


@cache
def _default_shapes(arch: type[nn.Module]) -> dict[str, torch.Size] | None:
    """Returns names and shapes of an arch's tensors, built without memory for them.

    None: the arch cannot be recognised by them.
    """
    try:
        if not arch_info(arch).own_weights:
            return None
        with without_memory():
            return {key: value.shape for key, value in arch().state_dict().items()}
    except Exception:  # an arch of a plugin that is faulty or has no defaults
        return None

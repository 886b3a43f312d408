"""Which registered network a set of tensors looks like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from srtoolbox.registry import ARCH_REGISTRY

_ENOUGH = 0.5
_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")  # of DataParallel, AveragedModel, compile


def bare_name(key: str) -> str:
    """A tensor's name without the prefixes that wrappers of a network put before it."""
    return _WRAPPERS.sub("", key)


def closest_arch(state: Mapping[str, Any]) -> str | None:
    """The arch whose tensors are named most like these; None if no arch is close.

    Numbers in names are disregarded, since they count blocks. Between archs of the same names, the
    one decides whose default configuration shares more names with their shapes.
    """
    shapes = {bare_name(key): getattr(value, "shape", None) for key, value in state.items()}
    archs = {name: ARCH_REGISTRY.get(name) for name in ARCH_REGISTRY}
    known = {
        name: _default_shapes(arch)
        for name, arch in archs.items()
        if getattr(arch, "own_weights", True)
    }
    scored = [(*_likeness(shapes, own), name) for name, own in known.items() if own]
    likeness, _, name = max(scored)
    return name if likeness >= _ENOUGH else None


def _likeness(given: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[float, int]:
    ours, theirs = set(map(_pattern, own)), set(map(_pattern, given))
    shared = sum(given.get(key) == shape for key, shape in own.items())
    return len(ours & theirs) / max(1, len(ours | theirs)), shared


def _pattern(key: str) -> str:
    return re.sub(r"\d+", "#", key)


@cache
def _default_shapes(arch: type) -> dict[str, torch.Size] | None:
    """Names and shapes of an arch's tensors, built without memory for them."""
    try:
        with torch.device("meta"):
            return {key: value.shape for key, value in arch().state_dict().items()}
    except Exception:  # a plugin that has no defaults: the guess does without it
        return None

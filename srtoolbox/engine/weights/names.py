"""Translates the names of tensors in other projects' weight files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")  # of DataParallel, AveragedModel, compile
_OWNERS = re.compile(r"^((module|_orig_mod|generator(_ema)?|model(_ema)?|net_?[gG])\.)+")

_EDSR_HEAD, _EDSR_BODY = "head.0.weight", "body.0.body.0.weight"
# Parts of FBANet, which has the same two names:
_OTHER_PARTS = re.compile(r"(HG\d|fusion|input_proj|output_proj)")
_SCALE_OF = {"0": "x2", "1": "x3", "2": "x4"}  # MDSR's parts in the order of its scales
_BLOCK = r"body\.([02])\."
_EDSR_NAMES = (  # (pattern, replacement) for the names of EDSR-PyTorch; the first match counts
    (r"(sub|add)_mean\..*", lambda m: None),  # constants
    (r"head\.0\.(\w+)", lambda m: f"conv_first.{m[1]}"),
    (rf"body\.(\d+)\.{_BLOCK}(\w+)", lambda m: f"body.{m[1]}.conv{int(m[2]) // 2 + 1}.{m[3]}"),
    (r"body\.\d+\.(\w+)", lambda m: f"conv_after_body.{m[1]}"),
    (
        rf"pre_process\.([012])\.([01])\.{_BLOCK}(\w+)",
        lambda m: f"pre.{_SCALE_OF[m[1]]}.{m[2]}.conv{int(m[3]) // 2 + 1}.{m[4]}",
    ),
    (r"upsample\.([012])\.(\d+\.\w+)", lambda m: f"upsample.{_SCALE_OF[m[1]]}.{m[2]}"),
    (r"tail\.0\.(\d+\.\w+)", lambda m: f"upsample.{m[1]}"),
    (r"tail\.[01]\.(\w+)", lambda m: f"conv_last.{m[1]}"),
)
_RCAN_BODY = "body.0.body.0.body.0.weight"
_RCAN_NAMES = (  # the same for the names of RCAN's authors, whose code is based on EDSR-PyTorch
    (r"(sub|add)_mean\..*", lambda m: None),
    (r"head\.0\.(\w+)", lambda m: f"conv_first.{m[1]}"),
    (
        r"body\.(\d+)\.body\.(\d+)\.body\.([02])\.(\w+)",
        lambda m: f"body.{m[1]}.residual_group.{m[2]}.rcab.{m[3]}.{m[4]}",
    ),
    (
        r"body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.([02])\.(\w+)",
        lambda m: f"body.{m[1]}.residual_group.{m[2]}.rcab.3.attention.{int(m[3]) + 1}.{m[4]}",
    ),
    (r"body\.(\d+)\.body\.\d+\.(\w+)", lambda m: f"body.{m[1]}.conv.{m[2]}"),
    (r"body\.\d+\.(\w+)", lambda m: f"conv_after_body.{m[1]}"),
    (r"tail\.0\.(\d+\.\w+)", lambda m: f"upsample.{m[1]}"),
    (r"tail\.1\.(\w+)", lambda m: f"conv_last.{m[1]}"),
)
_NAMES = {_EDSR_BODY: _EDSR_NAMES, _RCAN_BODY: _RCAN_NAMES}  # by a tensor that only they have


def bare_name(key: str) -> str:
    """Removes the prefixes that wrappers of a network put before a tensor's name."""
    return _WRAPPERS.sub("", key)


def likely_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tensors under the names that they probably have in an arch here."""
    return edsr_names({_OWNERS.sub("", key): value for key, value in state.items()})


def edsr_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tensors of an EDSR or MDSR of EDSR-PyTorch, or of RCAN's authors, by names here.

    Its constant layers ``sub_mean`` and ``add_mean`` are left out. Other files are not changed.
    """
    heads = [key for key in state if key.endswith(_EDSR_HEAD)]
    start = min(heads, key=len).removesuffix(_EDSR_HEAD) if heads else ""
    others = (key for key in state if _OTHER_PARTS.match(key.removeprefix(start)))
    tables = [names for body, names in _NAMES.items() if start + body in state]
    if not heads or not tables or any(others):
        return dict(state)
    renamed: dict[str, Any] = {}
    for key, value in state.items():
        name: str | None = key
        for pattern, replacement in tables[0] if key.startswith(start) else ():
            if match := re.fullmatch(pattern, key.removeprefix(start)):
                name = replacement(match)
                break
        if name is not None:
            renamed[name] = value
    return renamed


def without_prefix(
    state: Mapping[str, Any], own: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """Removes a prefix that all names of a network have in a file, such as ``generator.``.

    Args:
        state: The tensors of the file.
        own: The names of the network's tensors.

    Returns:
        The tensors with this prefix under the names without it, and the names of all others. Of
        several prefixes it is the one of the most tensors, of a moving average if there are equals.
        The state as it is if names fit without a change, or none fits.
    """
    counts: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in own:
                prefix = ".".join(parts[:start])
                counts[f"{prefix}." if prefix else ""] += 1
                break
    if not counts:
        return {bare_name(key): value for key, value in state.items()}, []
    prefix = max(counts, key=lambda p: (counts[p], p == "", "ema" in p, -len(p)))
    if not prefix:
        return dict(state), []
    inside = {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
    return inside, [key for key in state if not key.startswith(prefix)]


def unwrapped(state: Mapping[str, Any], own: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the tensors under a network's names, and the names that belong to other parts.

    Args:
        state: The tensors of the file.
        own: The names of the network's tensors.
    """
    if not any(key in own for key in state):
        state = edsr_names({key: value for key, value in state.items() if key != "n_averaged"})
    return without_prefix(state, own)

"""Reads and writes weight files, and gives networks their weights."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from srtoolbox import __version__
from srtoolbox.config.files import Tree, as_tree
from srtoolbox.config.schema import build
from srtoolbox.engine.weights.faults import explain_fault, is_safetensors
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY
from srtoolbox.utils.files import write_atomic

_log = logging.getLogger("srtoolbox")

_ENTRIES = ("params_ema", "params", "state_dict")  # the first one that is there is taken

_SHOWN = 3  # how many names a message gives of each kind


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds.

    Attributes:
        path: The file.
        state: Its tensors by name, on the CPU.
        entry: The key that they stand under; None in a plain file.
        arch: Name and options of the network, ``{"type": …}``, if the file says them.
    """

    path: Path
    state: dict[str, Any]
    entry: str | None
    arch: dict[str, Any] | None

    def require_arch(self) -> Tree:
        """``arch`` as options that name this file as their place.

        Raises:
            UserError: if the file does not say its arch; with a guess from its tensors' names.
        """
        if self.arch is None:
            close = closest_arch(self.state)
            guess = f" (its tensors are named like those of {close})" if close else ""
            raise UserError(
                f"{self.path}: does not say its arch{guess}; give an option file with network_g, "
                "or write it down by `srtoolbox convert FILE OUT.safetensors --arch NAME`"
            )
        return as_tree(self.arch, str(self.path))

    def load_into(self, net: nn.Module, strict: bool = True) -> str:
        """Gives ``net`` the tensors of the file.

        Returns:
            A line that says how many tensors matched, and which did not.

        Raises:
            UserError: if they do not fit (``strict``), or none does; ``net`` stays as it was.
        """
        own = net.state_dict()
        state = _unwrapped(self.state, own)
        shapes = {key: _shape(value) for key, value in state.items()}
        fitting = {k: v for k, v in state.items() if k in own and own[k].shape == shapes[k]}
        name = type(net).__name__
        matched = f"{len(fitting)} of {len(own)} tensors"
        misfits = _misfits({key: _shape(value) for key, value in own.items()}, shapes)
        if misfits and (strict or not fitting):
            raise UserError(
                f"{self.path}: does not fit {name}: {matched} match; {misfits}; {self._advice(net)}"
            )
        net.load_state_dict({**own, **fitting})
        line = f"{self.path}: {matched} loaded from {self.entry or 'a plain file'}"
        return f"{line}; {misfits}" if misfits else line

    def _advice(self, net: nn.Module) -> str:
        close = closest_arch(self.state)
        if close is None:
            return "it looks like no registered arch"
        if ARCH_REGISTRY.get(close) is not type(net):
            return f"its tensors are named like those of {close}"
        return (
            f"it looks like {close} with other options (scale, sizes); in an option file, "
            "path.strict_load_g: false takes what fits"
        )


def read_weights(path: Path, key: str | None = None) -> WeightFile:
    """Reads a weight file; nothing in it is executed.

    Args:
        path: The file; what it is is told by its content, not by its name.
        key: The entry that holds the tensors; by default the first of ``params_ema`` (the
            average), ``params`` and ``state_dict``, or else the top level.

    Raises:
        UserError: if it is missing, incomplete, or no file of tensors.
    """
    content, arch = _read_content(path)
    entry = key if key is not None else next((one for one in _ENTRIES if one in content), None)
    if entry is not None and entry not in content:
        names = ", ".join(f"'{one}'" for one, value in content.items() if _is_state(value))
        raise UserError(f"{path}: has no entry '{entry}'; it has {names or 'none: it is plain'}")
    state = content if entry is None else content[entry]
    if not _is_state(state):
        inner = ", ".join(f"'{one}'" for one, value in content.items() if _is_state(value))
        hint = f"; name the entry to take by --key or path.param_key_g: {inner}" if inner else ""
        raise UserError(f"{path}: '{entry or 'its top level'}' holds no named tensors{hint}")
    known = isinstance(arch, dict) and isinstance(arch.get("type"), str)
    return WeightFile(path, dict(state), entry, arch if known else None)


def load_weights(net: nn.Module, path: Path, strict: bool = True, key: str | None = None) -> str:
    """``read_weights`` and ``WeightFile.load_into`` in one."""
    return read_weights(path, key).load_into(net, strict)


def load_trained(
    path: Path, device: torch.device, key: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a weight file that says its arch, in eval mode, and what it says.

    Raises:
        UserError: if it does not, or its tensors do not fit.
    """
    file = read_weights(path, key)
    arch = dict(file.require_arch())
    net = build("arch", arch)
    _log.info("%s", file.load_into(net))
    return net.to(device).eval(), arch


def save_weights(
    path: Path, arch: dict[str, Any], net: nn.Module, ema: nn.Module | None = None
) -> str:
    """Writes a weight file that says its arch, and returns the hash of the weights.

    A ``.safetensors`` file holds the tensors (of the average, where there is one) and the arch as
    JSON in its metadata. Any other holds ``params`` (and ``params_ema``), as BasicSR's files do,
    and ``arch``.
    """
    final = net if ema is None else ema
    if path.suffix == ".safetensors":
        metadata = {"format": "pt", "arch": json.dumps(arch), "srtoolbox": __version__}
        write_atomic(path, safetensors.torch.save(_to_cpu(final.state_dict()), metadata))
        return weights_hash(final)
    content: dict[str, Any] = {"arch": arch, "params": _to_cpu(net.state_dict())}
    if ema is not None:
        content["params_ema"] = _to_cpu(ema.state_dict())
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())
    return weights_hash(final)


def weights_hash(net: nn.Module) -> str:
    """First 12 hex digits of the SHA-256 of all weights: equal exactly if the networks are."""
    sha = hashlib.sha256()
    for key, value in sorted(net.state_dict().items()):
        sha.update(key.encode())
        sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:12]


def _read_content(path: Path) -> tuple[dict[Any, Any], Any]:
    """Everything in the file, and its arch entry."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such weight file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        if is_safetensors(head):
            with safe_open(path, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return state, _parsed((file.metadata() or {}).get("arch"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other kinds; they are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # many kinds are raised for files that are not weights
        raise UserError(f"{path}: {explain_fault(path, head, error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a dict of tensors")
    return content, content.get("arch")


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except json.JSONDecodeError:  # somebody else's metadata of that name
        return None


def _is_state(value: Any) -> bool:
    """Whether this is a dict of named tensors (a few other values may stand among them)."""
    return (
        isinstance(value, dict)
        and all(isinstance(key, str) for key in value)
        and (not value or any(isinstance(one, Tensor) for one in value.values()))
    )


def _unwrapped(state: dict[str, Any], own: Mapping[str, Tensor]) -> dict[str, Any]:
    """``state`` without the prefix of a wrapper, unless a network's own part is called so."""
    if state.keys() & own.keys():
        return state
    return {bare_name(key): value for key, value in state.items() if key != "n_averaged"}


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _misfits(own: dict[str, Any], given: dict[str, Any]) -> str:
    """What keeps ``given`` from being ``own`` (shapes by name), the first few of each kind."""
    other = [
        f"{key} {given[key]} instead of {own[key]}"
        for key in own
        if key in given and given[key] != own[key]
    ]
    kinds = {
        "not found": [key for key in own if key not in given],
        "not used": [key for key in given if key not in own],
        "of another shape": other,
    }
    return "; ".join(f"{kind}: {_first(names)}" for kind, names in kinds.items() if names)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _to_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies, since safetensors takes neither shared memory nor other memory formats."""
    return {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
    }


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

"""Reads and writes weight files and loads their tensors into networks."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from srtoolbox import __version__
from srtoolbox.archs.isr import ISR_RDN, ISR_RRDN, load_keras
from srtoolbox.config.files import MAX_DEPTH, Tree, as_tree
from srtoolbox.config.schema import build
from srtoolbox.engine.weights.detect import closest_arch
from srtoolbox.engine.weights.faults import (
    PICKLED_OBJECT,
    archive_fault,
    explain_fault,
    is_safetensors,
    read_keras,
    tensor_fault,
)
from srtoolbox.engine.weights.guess import guess_arch, read_options
from srtoolbox.engine.weights.names import bare_name, unwrapped
from srtoolbox.engine.weights.pixels import PixelFacts, facts_from
from srtoolbox.engine.weights.whole import check_kept_weights, kept_hash, state_hash
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY
from srtoolbox.utils.console import names_text
from srtoolbox.utils.files import check_regular, write_atomic

_log = logging.getLogger("srtoolbox")

_KERAS = object()
_SPANDREL = "Spandrel"  # the arch for architectures of other projects, see spandrel_arch.py
_MAX_CLASSES = 100  # of objects beside the tensors

_ENTRIES = ("params_ema", "params", "state_dict")  # the first of these in a file is used


@dataclass(frozen=True)
class WeightFile:
    """The content of a weight file.

    Attributes:
        path: The file.
        state: Tensors by name, on the CPU. Values that are not tensors may be among them; they
            match no parameter.
        entry: The key of ``state`` in the file; None if the tensors are at its top level.
        arch: Name and options of the network, ``{"type": "EDSR", "scale": 4, …}``; None if the file
            does not contain them.
        keras: Whether it is an HDF5 file of Keras.
        pixels: Facts about the pixels of the training data; the defaults if the file states none.
    """

    path: Path
    state: dict[str, Any]
    entry: str | None
    arch: dict[str, Any] | None
    keras: bool = False
    pixels: PixelFacts = field(default_factory=PixelFacts)

    def guessed_arch(self, scale: int | None = None) -> dict[str, Any] | None:
        """Returns the options that `guess_arch` finds; faults are reported with the path."""
        return self._found(guess_arch, scale)

    def _found(
        self, search: Callable[..., dict[str, Any] | None], scale: int | None
    ) -> dict[str, Any] | None:
        try:
            return search(self.state, scale)
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from error

    def require_arch(self, scale: int | None = None) -> Tree:
        """Returns ``arch`` as options; faults in them are reported with the path of this file.

        A file without it has the arch that reads all its options from the tensors (`read_options`).
        If its tensors fit no registered arch, it has the arch Spandrel if spandrel can read it.

        Args:
            scale: Chooses between options that all fit the tensors.

        Raises:
            UserError: if the file does not contain its arch. The message guesses it from the names
                of the tensors.
        """
        arch, reason = self.arch, ""
        if arch is None and not self.keras:
            arch = self._found(read_options, scale)
        if arch is None and not self.keras and self.guessed_arch(scale) is None:
            arch, reason = self._arch_of_spandrel()
        if arch is None:
            close = closest_arch(self.state)
            guess = f" (its tensors have the names of {close})" if close else ""
            raise UserError(
                f"{self.path}: does not contain the name of its arch{guess}; give an option file "
                "with network_g, or store the arch in the file: "
                f"`srtoolbox convert FILE OUT.safetensors --arch NAME`{reason}"
            )
        return as_tree(arch, str(self.path))

    def _arch_of_spandrel(self) -> tuple[dict[str, Any] | None, str]:
        """Returns the options of the arch Spandrel for this file, or why it cannot read it."""
        arch = _with_own_file({"type": _SPANDREL}, self.path, self.entry)
        try:
            net = build("arch", arch)
        except UserError as error:
            return None, f"; {str(error).removeprefix(f'{self.path}: ')}"
        _log.info("%s: %s", self.path, net.describe()[0])
        return {**arch, "scale": net.scale}, ""

    def load_into(self, net: nn.Module, strict: bool = True) -> str:
        """Copies the tensors into ``net``.

        Args:
            net: A network on any device.
            strict: Whether every tensor must match; otherwise those that match are copied.

        Returns:
            A line for the log: how many tensors matched, and which did not.

        Raises:
            UserError: if a tensor does not match (``strict``), or none does. ``net`` is unchanged
                then.
        """
        if self.keras:
            if not isinstance(net, ISR_RDN | ISR_RRDN):
                raise UserError(
                    f"{self.path}: is an HDF5 file of Keras, which only ISR_RDN and ISR_RRDN read, "
                    f"not {type(net).__name__}"
                )
            load_keras(net, self.state)
            return f"{self.path}: {len(self.state)} arrays of Keras loaded"
        own = net.state_dict()
        # The arch Spandrel knows other names of its tensors.
        translate: Any = getattr(net, "tensors_of", None)
        given = self.state if translate is None else translate(self)
        state, others = unwrapped(given, own.keys())
        shapes = {key: _shape(value) for key, value in state.items()}
        fitting = {k: v for k, v in state.items() if k in own and own[k].shape == shapes[k]}
        name = type(net).__name__
        matched = f"{len(fitting)} of {len(own)} tensors"
        differences = _differences({key: _shape(value) for key, value in own.items()}, shapes)
        if differences and (strict or not fitting):
            raise UserError(
                f"{self.path}: does not fit {name}: {matched} match; {differences}; "
                f"{self._advice(net)}"
            )
        for key, value in fitting.items():
            if value.is_complex() and not own[key].is_complex():
                raise UserError(f"{self.path}: {key} is a complex tensor; {name} has a real one")
        net.load_state_dict({**own, **fitting})
        line = f"{self.path}: {matched} loaded from {self.entry or 'a plain file'}"
        notes = f"of other parts, not used: {names_text(others)}" if others else ""
        return "; ".join(part for part in (line, differences, notes) if part)

    def _advice(self, net: nn.Module) -> str:
        close = closest_arch(self.state)
        if close is None:
            return "its tensors have the names of no registered arch"
        if ARCH_REGISTRY.get(close) is not type(net):
            return f"its tensors have the names of {close}"
        return (
            f"it seems to be {close} with other options (scale, sizes); in an option file, "
            "path.strict_load_g: false loads the tensors that match"
        )


def read_weights(path: Path, key: str | None = None) -> WeightFile:
    """Reads a weight file of torch or safetensors. No code in it is executed.

    Args:
        path: The file. Its format is recognised by its content, not by its name.
        key: The entry with the tensors; by default the first of ``params_ema`` (moving average),
            ``params`` and ``state_dict``, or else the top level.

    Raises:
        UserError: if the file is missing, incomplete, or not a file of tensors.
        RunError: if these are weights of a finished training, and they were changed later.
    """
    content, arch, pixels = _read_content(path)
    if arch is _KERAS:
        return WeightFile(path, content, None, None, keras=True)
    check_kept_weights(path, content)
    entry = key if key is not None else next((e for e in _ENTRIES if e in content), None)
    state = content if entry is None else content.get(entry)
    if not _is_state(state):
        entries = ", ".join(f"'{e}'" for e, value in content.items() if _is_state(value))
        if entry is not None and entry not in content:
            found = entries or "no entries: its tensors are at the top level"
            raise UserError(f"{path}: has no entry '{entry}'; it has {found}")
        hint = f"; set --key or path.param_key_g to one of these entries: {entries}"
        where = "its top level" if entry is None else f"'{entry}'"
        raise UserError(f"{path}: {where} has no named tensors{hint if entries else ''}")
    for name, value in state.items():
        if fault := tensor_fault(value):
            raise UserError(
                f"{path}: {name} is {fault}; save ordinary tensors in the project that wrote it"
            )
    if not isinstance(arch, dict) or not isinstance(arch.get("type"), str):
        return WeightFile(path, dict(state), entry, None)
    if arch["type"] in ("DSTCSRNet", "DSTCSRNetPlus") and any(
        bare_name(key) == "head.0.weight" for key in state
    ):
        raise UserError(
            f"{path}: weights of the first version of DSTC-SRNet+, whose code is no longer here; "
            "train the network again"
        )
    arch = _with_own_file(arch, path, entry)
    try:  # files of other projects may have an entry of this name, but not beside an arch
        facts = facts_from(pixels)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return WeightFile(path, dict(state), entry, arch, pixels=facts)


def load_weights(net: nn.Module, path: Path, strict: bool = True, key: str | None = None) -> str:
    """Reads a weight file and loads it; see ``read_weights`` and ``WeightFile.load_into``."""
    return read_weights(path, key).load_into(net, strict)


def load(
    path: str | Path, device: str | torch.device = "cpu", key: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """Builds the network of a weight file that contains its arch, or that spandrel can read.

    ``srtoolbox train`` and ``srtoolbox convert`` write files that contain it.

    Args:
        path: The file.
        device: Device of the network.
        key: The entry with the tensors, see ``read_weights``.

    Returns:
        The network in eval mode, and the name and options of its arch. Its attribute
        ``pixel_facts`` has the facts about the pixels of its training data (`PixelFacts`), which
        ``srtoolbox.upscale`` uses.

    Raises:
        UserError: if the file does not contain its arch, or its tensors do not match it.
    """
    file = read_weights(Path(path), key)
    arch = dict(file.require_arch())
    try:
        net = build("arch", arch)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    _log.info("%s", file.load_into(net))
    net.pixel_facts = file.pixels
    return net.to(device).eval(), arch


def save_weights(
    path: Path,
    arch: dict[str, Any],
    net: nn.Module,
    ema: nn.Module | None = None,
    pixels: PixelFacts | None = None,
) -> str:
    """Writes a weight file that contains its arch, and returns the hash of the weights.

    A ``.safetensors`` file has the tensors (of ``ema`` if it is given) and the arch as JSON in its
    metadata. Any other file is written by ``torch.save`` with the entries ``params`` (and
    ``params_ema``) of BasicSR, and ``arch``. Facts about pixels that differ from their defaults are
    stored beside the arch as ``pixels``.

    Args:
        path: The file; an existing one is replaced.
        arch: Name and options of the network.
        net: The network.
        ema: The moving average of the network.
        pixels: Facts about the pixels of the training data; None: the defaults.
    """
    facts = {} if pixels is None else pixels.to_json()
    final = net if ema is None else ema
    if path.suffix == ".safetensors":
        metadata = {"format": "pt", "arch": json.dumps(arch), "srtoolbox": __version__}
        if facts:
            metadata["pixels"] = json.dumps(facts)
        data = safetensors.torch.save(_to_cpu(final.state_dict()), metadata)
    else:
        content: dict[str, Any] = {"arch": arch, "params": _to_cpu(net.state_dict())}
        if ema is not None:
            content["params_ema"] = _to_cpu(ema.state_dict())
        if facts:
            content["pixels"] = facts
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue()
    write_atomic(path, data)
    return weights_hash(final)


def weights_hash(net: nn.Module) -> str:
    """Returns the first 12 hex digits of the SHA-256 of all tensors and their names."""
    return state_hash(net.state_dict())


def file_hash(path: Path) -> str | None:
    """Returns the hash of the weights in a file that `save_weights` wrote; None: it has none.

    Raises:
        UserError: if the file is missing or cannot be read.
    """
    return kept_hash(_read_content(path)[0])


def _read_content(path: Path) -> tuple[dict[Any, Any], Any, Any]:
    """Returns the content of a file, its entry ``arch`` and its entry ``pixels``."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            head = file.read(512)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such weight file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if head.startswith(b"\x89HDF"):
        return read_keras(path), _KERAS, None
    if fault := archive_fault(path, head):
        raise UserError(f"{path}: {fault}")
    try:
        if is_safetensors(head):
            with safe_open(path, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                entries: dict[str, Any] = {}
                for name in ("arch", "pixels"):
                    # It may be metadata of another program.
                    with suppress(json.JSONDecodeError, RecursionError):
                        entries[name] = json.loads((file.metadata() or {}).get(name) or "null")
                return state, entries.get("arch"), entries.get("pixels")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other pickles, which are refused below
            content = _load_pickled(path)
    except Exception as error:  # the readers raise many kinds for files that are not weights
        raise UserError(f"{path}: {explain_fault(path, head, error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: contains a {type(content).__name__}, not a dict of tensors")
    return content, content.get("arch"), content.get("pixels")


class _Skipped:
    """Takes the place of an object that is not loaded; it ignores its content."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Skipped:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _load_pickled(path: Path) -> Any:
    """Reads a file of torch; objects of other classes beside the tensors become ``_Skipped``.

    Neither these classes nor their modules are imported, so no code of theirs runs.
    """
    stand_ins: dict[str, tuple[Any, str]] = {}
    first: Exception | None = None
    while True:
        try:
            with (
                torch.serialization.safe_globals(list(stand_ins.values())),
                path.open("rb") as file,  # for a path, torch decides by its suffix
            ):
                content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            first = first or error
            found = PICKLED_OBJECT.search(str(error))
            if not found or found[1] in stand_ins or len(stand_ins) >= _MAX_CLASSES:
                raise first from None
            stand_ins[found[1]] = _Skipped, found[1]
            continue
        if isinstance(content, _Skipped) and first is not None:  # the file is one object
            raise first
        return content


def _is_state(value: Any) -> TypeGuard[dict[str, Any]]:
    """Returns whether a value is a dict of named tensors; other values may be among them."""
    return (
        isinstance(value, dict)
        and all(isinstance(key, str) for key in value)
        and (not value or any(isinstance(entry, Tensor) for entry in value.values()))
    )


def _with_own_file(
    arch: dict[str, Any], path: Path, entry: str | None, depth: int = 0
) -> dict[str, Any]:
    """Returns an arch in which every Spandrel is built from this weight file itself.

    Its tensors are all that spandrel needs, so no path that a file contains is ever read.
    """
    if depth > MAX_DEPTH:  # refused later
        return arch
    inside = {
        key: _with_own_file(value, path, entry, depth + 1) if isinstance(value, dict) else value
        for key, value in arch.items()
    }
    if arch.get("type") != _SPANDREL:
        return inside
    inside.pop("key", None)
    return {**inside, "file": str(path), **({} if entry is None else {"key": entry})}


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _differences(own: dict[str, Any], given: dict[str, Any]) -> str:
    """Describes the differences between two sets of shapes by name; empty if there are none."""
    other = [key for key in own if key in given and given[key] != own[key]]
    kinds = {
        "not found": [key for key in own if key not in given],
        "not used": [key for key in given if key not in own],
        "of another shape": [f"{key} {given[key]} instead of {own[key]}" for key in other],
    }
    return "; ".join(f"{kind}: {names_text(names)}" for kind, names in kinds.items() if names)


def _to_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns copies: safetensors accepts neither shared memory nor other memory formats."""
    return {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in state.items()
    }

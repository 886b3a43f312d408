"""Checkpoints from which a run goes on, and weight files that others load."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srtoolbox.engine.files import write_atomic
from srtoolbox.errors import UserError

_log = logging.getLogger("srtoolbox")
_NAME = re.compile(r"step_(\d+)-([0-9a-f]{16})\.ckpt")


class CheckpointFolder:
    """The checkpoints of one run. A file's name holds the hash of its content.

    Args:
        folder: Where they lie; made when the first one is saved.
        keep: How many of the newest are kept.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Writes the state of ``step`` atomically, then removes the oldest surplus ones.

        States of this and of later steps go too: the run had gone back to an older one, because
        they were damaged.
        """
        for torn in self.folder.glob(".step_*.tmp"):  # of a write in which the run was killed
            torn.unlink(missing_ok=True)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        path = self.folder / f"step_{step:08d}-{_checksum(content)}.ckpt"
        write_atomic(path, content)
        others = [other for other in self._newest_first() if other != path]
        later = [other for other in others if _step_of(other) >= step]
        for surplus in [*later, *others[len(later) :][self.keep - 1 :]]:
            surplus.unlink(missing_ok=True)
        return path

    def load_latest(self, device: torch.device) -> dict[str, Any] | None:
        """The newest state whose content matches its checksum; None if there is none."""
        for path in self._newest_first():
            content = path.read_bytes()
            if _checksum(content) != _NAME.fullmatch(path.name)[2]:
                _log.warning("%s is damaged (checksum differs); trying the one before", path)
                continue
            return torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        return None

    def _newest_first(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=_step_of, reverse=True)


def save_weights(
    path: Path, arch: dict[str, Any], net: nn.Module, ema: nn.Module | None = None
) -> str:
    """Writes a weight file in the field's usual form and returns its hash.

    The file holds ``params`` (and ``params_ema`` where there is an average), as BasicSR's do, and
    ``arch``: the name and options to build the network from.
    """
    content: dict[str, Any] = {"arch": arch, "params": _to_cpu(net.state_dict())}
    if ema is not None:
        content["params_ema"] = _to_cpu(ema.state_dict())
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())
    return weights_hash(ema if ema is not None else net)


def load_weights(net: nn.Module, path: Path, strict: bool = True) -> str:
    """Loads a weight file into ``net``: plain, or under ``params_ema`` or ``params``.

    The average (``params_ema``) is preferred. A ``module.`` prefix is removed.

    Returns:
        A line that says which entry was used and how many tensors matched.

    Raises:
        UserError: if the file is missing, is no weight file, or (``strict``) does not fit.
    """
    content = read_weights(path)
    entry = next((key for key in ("params_ema", "params") if key in content), None)
    state = content[entry] if entry else content
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise UserError(f"{path}: its entry '{entry or 'top level'}' holds no named tensors")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    own = net.state_dict()
    shapes = {key: getattr(value, "shape", None) for key, value in state.items()}
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == shapes[k]}
    if strict and (len(fitting) < len(own) or len(fitting) < len(state)):
        absent = [key for key in own if key not in fitting]
        foreign = [key for key in state if key not in fitting]
        raise UserError(
            f"{path}: does not fit {type(net).__name__}: {len(fitting)} of {len(own)} tensors "
            f"match; first not found: {absent[:3]}, first not used: {foreign[:3]}; check "
            "network_g, or set path.strict_load_g: false to take what fits"
        )
    if not fitting:
        raise UserError(f"{path}: none of its tensors fits {type(net).__name__}")
    net.load_state_dict({**own, **fitting})
    return f"{path}: {len(fitting)} of {len(own)} tensors loaded from {entry or 'a plain file'}"


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a weight file, tensors on the CPU; nothing in it is executed."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such weight file") from error
    except Exception as error:  # torch raises many kinds for files that are not weights
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a weight file of tensors ({reason})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a dict of tensors")
    return content


def weights_hash(net: nn.Module) -> str:
    """First 12 hex digits of the SHA-256 of all weights: equal exactly if the networks are."""
    sha = hashlib.sha256()
    for key, value in sorted(net.state_dict().items()):
        sha.update(key.encode())
        sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:12]


def _step_of(path: Path) -> int:
    return int(_NAME.fullmatch(path.name)[1])


def _to_cpu(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu() for key, value in state.items()}


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]

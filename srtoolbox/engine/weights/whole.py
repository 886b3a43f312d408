"""Compares the weights of a finished training with the hash that its run folder stores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srtoolbox.errors import RunError

FINAL_WEIGHTS = "net_g_latest.pth"


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Returns the first 12 hex digits of the SHA-256 of all tensors and their names."""
    sha = hashlib.sha256()
    for key, value in sorted(state.items()):
        sha.update(key.encode())
        sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:12]


def read_finished(card: Path) -> dict[str, Any]:
    """Reads the ``finished.json`` of a run.

    Raises:
        ValueError: if it is damaged; the message has file and line.
        OSError: if it cannot be read.
    """
    kinds = {"weights": str, "step": int, "seconds": (int, float), "threads": int}
    try:
        found = json.loads(card.read_bytes())
        if not isinstance(found, dict):
            raise ValueError
        whole = all(isinstance(found.get(name), kind) for name, kind in kinds.items())
        if not whole or len(found["weights"]) != 12:
            raise ValueError
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise ValueError(f"{card}:{line} damaged") from None
    return {name: found[name] for name in kinds}


def check_final_weights(path: Path, content: Mapping[Any, Any]) -> None:
    """Checks the weights of a finished training; other weight files are not checked.

    Args:
        path: A weight file; checked if it is ``weights/net_g_latest.pth`` of a run's folder.
        content: The entries of the file.

    Raises:
        RunError: if its tensors are not those with which the training ended.
    """
    card = path.parent.parent / "finished.json"
    if path.name != FINAL_WEIGHTS or not (card.exists() and card.with_name("run.json").exists()):
        return
    try:
        expected = read_finished(card)["weights"]
    except ValueError:
        return  # then the hash is lost; `srtoolbox train --resume` writes it again
    state = content.get("params_ema", content.get("params"))
    tensors = isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())
    if tensors and state_hash(state) == expected:
        return
    raise RunError(
        f"{path} is damaged: its weights differ from those of the finished training (hash in "
        f"{card}); restore a copy of it, or run the same training again with --resume, which takes "
        "them from the last checkpoint"
    )

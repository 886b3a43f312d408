"""Compares the weight files of a finished training with the hashes that its folder stores."""

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
BEST_WEIGHTS = "net_g_best.pth"

# The entry of ``finished.json`` with the hash of each file, and how messages name its weights.
_HASHES = {
    FINAL_WEIGHTS: ("weights", "those of the finished training"),
    BEST_WEIGHTS: ("best", "the best ones that the finished training kept"),
}


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Returns the first 12 hex digits of the SHA-256 of all tensors and their names."""
    sha = hashlib.sha256()
    for key, value in sorted(state.items()):
        sha.update(key.encode())
        sha.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:12]


def read_finished(card: Path) -> dict[str, Any]:
    """Reads the ``finished.json`` of a run.

    The entry ``best`` is the hash of the best weights. It is absent if there were no validation
    sets, and in runs of earlier versions.

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
        if "best" in found:
            if not isinstance(found["best"], str) or len(found["best"]) != 12:
                raise ValueError
            kinds["best"] = str
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise ValueError(f"{card}:{line} damaged") from None
    return {name: found[name] for name in kinds}


def kept_hash(content: Mapping[Any, Any]) -> str | None:
    """Returns the hash of the weights in a file of a run; None if it has no named tensors.

    Args:
        content: The entries of the file. The average of the weights counts, if there is one.
    """
    state = content.get("params_ema", content.get("params"))
    if isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values()):
        return state_hash(state)
    return None


def check_kept_weights(path: Path, content: Mapping[Any, Any]) -> None:
    """Checks the final and the best weights of a finished training, not other weight files.

    Args:
        path: A weight file; checked if it is in ``weights`` of a run's folder and has one of their
            names.
        content: The entries of the file.

    Raises:
        RunError: if its tensors are not those that the training wrote.
    """
    card = path.parent.parent / "finished.json"
    if path.name not in _HASHES or not (card.exists() and card.with_name("run.json").exists()):
        return
    entry, owner = _HASHES[path.name]
    try:
        expected = read_finished(card).get(entry)
    except ValueError:
        return  # then the hash is lost; `srtoolbox train --resume` writes it again
    if expected is None or kept_hash(content) == expected:
        return
    advice = f"restore a copy of it, or remove {card.parent} to train again"
    if path.name == FINAL_WEIGHTS:
        advice = (
            "restore a copy of it, or run the same training again with --resume, which takes them "
            "from the last checkpoint"
        )
    raise RunError(f"{path} is damaged: its weights differ from {owner} (hash in {card}); {advice}")

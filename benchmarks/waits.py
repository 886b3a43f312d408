"""Counts the operations of training steps that wait for a GPU."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import torch

_SIGN = "synchronizing CUDA operation"  # a part of torch's warning


class WaitCounter:
    """Counts, between ``start`` and ``stop``, the operations that make the host wait for a GPU.

    torch recognises such operations (copies to the host, ``item``, ``nonzero``, …). An explicit
    ``torch.cuda.synchronize`` is not among them.

    Args:
        device: Only CUDA devices are observed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seen: list[warnings.WarningMessage] = []
        self._open = ExitStack()

    def start(self) -> None:
        """Starts to count."""
        if self._device.type == "cuda":
            seen = self._open.enter_context(warnings.catch_warnings(record=True))
            assert seen is not None  # because it records
            self._seen = seen
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            self._open.callback(torch.cuda.set_sync_debug_mode, "default")

    def stop(self) -> dict[str, int] | None:
        """Returns how often each place in the code waited; None where it is not counted."""
        if self._device.type != "cuda":
            return None
        self._open.close()
        places = Counter(
            f"{_short(warning.filename)}:{warning.lineno}"
            for warning in self._seen
            if _SIGN in str(warning.message)
        )
        return dict(places)


def _short(file: str) -> str:
    """Returns the path of a file of the checkout from its root, and that of others as it is."""
    root = Path(__file__).resolve().parents[1]
    path = Path(file)
    return os.fspath(path.relative_to(root)) if path.is_relative_to(root) else file

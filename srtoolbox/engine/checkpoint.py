"""Checkpoints from which a run goes on."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from pathlib import Path
from typing import Any

import torch

from srtoolbox.engine.files import write_atomic

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


def _step_of(path: Path) -> int:
    return int(_NAME.fullmatch(path.name)[1])


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]

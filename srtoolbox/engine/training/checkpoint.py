"""Checkpoints from which a run goes on."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from srtoolbox.errors import RunError
from srtoolbox.utils.files import wait_for_room, write_atomic

_log = logging.getLogger("srtoolbox")
_NAME = re.compile(r"step_(\d+)-([0-9a-f]{16})\.ckpt")


class CheckpointFolder:
    """The checkpoints of one run. A file's name holds the hash of its content.

    Args:
        folder: Where they lie; made when the first one is saved.
        keep: How many of the newest are kept.
        run: Identity of the run; checkpoints of another one are not taken.
    """

    def __init__(self, folder: Path, keep: int = 2, run: str = "") -> None:
        self.folder, self.keep, self.run = folder, keep, run
        self._unusable: set[Path] = set()

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Writes the state of ``step`` atomically, then removes the oldest surplus ones.

        States of this and of later steps go too, and those found unusable: the run had gone back
        to an older one. While the disk is full it waits; nothing is removed before.

        Raises:
            KeyboardInterrupt: on SIGINT or SIGTERM while it waits.
        """
        buffer = io.BytesIO()
        torch.save({"run": self.run, "state": state}, buffer)
        content = buffer.getvalue()
        path = self.folder / f"step_{step:08d}-{_checksum(content)}.ckpt"
        wait_for_room(lambda: write_atomic(path, content), path, len(content))
        others = [other for other in self._newest_first() if other != path]
        later = [other for other in others if _step_of(other) >= step or other in self._unusable]
        earlier = [other for other in others if other not in later]
        for surplus in [*later, *earlier[self.keep - 1 :]]:
            surplus.unlink(missing_ok=True)
        return path

    def load_latest(self, device: torch.device) -> dict[str, Any] | None:
        """The newest state that is whole and of this run; None if there is no checkpoint.

        Raises:
            RunError: if there are checkpoints but none that can be used.
        """
        paths = self._newest_first()
        for path in paths:
            state = self._read(path, device)
            if isinstance(state, dict):
                return state
            self._unusable.add(path)
            _log.warning("%s %s; trying the one before", path, state)
        if paths:
            raise RunError(
                f"{self.folder}: none of its checkpoints ({len(paths)}) can be used; put back a "
                "copy of one, or remove the folder of the run to start at step 0"
            )
        return None

    def _read(self, path: Path, device: torch.device) -> dict[str, Any] | str:
        """The state in a file, or what is wrong with it."""
        try:
            content = path.read_bytes()
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if _checksum(content) != _NAME.fullmatch(path.name)[2]:
            return "is damaged (checksum differs)"
        try:
            saved = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        except (pickle.UnpicklingError, EOFError):
            return "is no checkpoint"
        if not isinstance(saved, dict) or "state" not in saved:
            return "is no checkpoint"
        return saved["state"] if saved.get("run") == self.run else "is of another run"

    def _newest_first(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=_step_of, reverse=True)


def _step_of(path: Path) -> int:
    return int(_NAME.fullmatch(path.name)[1])


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]

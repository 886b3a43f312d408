"""Writes and reads the checkpoints of a run."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from srtoolbox.errors import RunError
from srtoolbox.utils.files import wait_for_room, write_atomic

_log = logging.getLogger("srtoolbox")
_NAME = re.compile(r"step_(\d+)-([0-9a-f]{16})\.ckpt")


class CheckpointFolder:
    """The checkpoints of one run. The name of a file contains the hash of its content.

    Args:
        folder: Folder of the files; created for the first one.
        keep: Number of newest checkpoints to keep.
        run: Fingerprint of the run; checkpoints of other runs are not loaded.
        earlier: Fingerprints that the run had before ``train.total_iter`` was raised.
        card: A file of the run's folder. If it disappears, the folder was removed, and it is not
            made again.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 2,
        run: str = "",
        earlier: Sequence[str] = (),
        card: Path | None = None,
    ) -> None:
        self.folder, self.keep, self.run = folder, keep, run
        self.earlier, self.card = earlier, card
        self._unusable: set[Path] = set()

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Writes the state of ``step`` atomically, then removes old checkpoints; returns its path.

        Checkpoints of this and later steps and unusable ones are removed too: the run had resumed
        from an earlier one. While the disk is full, this waits; nothing is removed before.

        Raises:
            KeyboardInterrupt: on SIGINT or SIGTERM while waiting.
            RunError: if the folder of the run was removed.
        """
        if self.card is not None and not self.card.exists():
            raise removed(self.card.parent)
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
        """Returns the newest undamaged state of this run; None if there is no checkpoint.

        Raises:
            RunError: if there are checkpoints, but all are unusable.
        """
        paths = self._newest_first()
        for path in paths:
            state = self._read(path, device)
            if isinstance(state, dict):
                return state
            self._unusable.add(path)
            _log.warning("%s %s; trying the previous one", path, state)
        if paths:
            raise RunError(
                f"{self.folder}: none of its checkpoints ({len(paths)}) can be used; restore a "
                "copy of one, or remove the folder of the run to start at step 0"
            )
        return None

    def _read(self, path: Path, device: torch.device) -> dict[str, Any] | str:
        """Returns the state in a file, or a description of its fault."""
        try:
            content = path.read_bytes()
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if _checksum(content) not in path.name:
            return "is damaged (checksum differs)"
        try:
            saved = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        except (pickle.UnpicklingError, EOFError):
            saved = None
        if not isinstance(saved, dict) or "state" not in saved:
            return "is not a checkpoint"
        if saved.get("run") not in (self.run, *self.earlier):
            return "belongs to another run"
        return "has weights that are NaN" if _has_nan(saved["state"]) else saved["state"]

    def _newest_first(self) -> list[Path]:
        found = [path for path in self.folder.glob("*.ckpt") if _NAME.fullmatch(path.name)]
        return sorted(found, key=_step_of, reverse=True)


def removed(folder: Path) -> RunError:
    """Returns the error for a folder of a run that was removed or renamed during the training."""
    return RunError(
        f"{folder}: its run.json disappeared during the training, so the folder was removed, "
        "renamed or replaced; nothing more is written; start the run again"
    )


def _has_nan(state: Any) -> bool:
    """Returns whether a weight in a state is NaN; an earlier version saved such states."""
    networks = state.get("networks") if isinstance(state, dict) else None
    tensors = (value for net in (networks or {}).values() for value in net.values())
    return any(value.is_floating_point() and bool(value.isnan().any()) for value in tensors)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step_").partition("-")[0])


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]

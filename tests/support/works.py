"""Work for the processes of a study, which is stopped, fails or dies at a known place."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from srtoolbox.engine.training.signals import stop_signals
from srtoolbox.errors import RunError

_MAX_WAIT = 60.0  # seconds


def wait_until(is_true: Callable[[], object]) -> None:
    """Waits for a condition that becomes true unless the code under test is wrong."""
    end = time.monotonic() + _MAX_WAIT
    while not is_true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.01)


@dataclass
class Stopped:
    """Handles signals as a training does: it runs until one comes, then saves its state.

    It writes its process id to the file ``NAME.pid`` when it runs, and the file ``NAME`` when it
    has saved.

    Attributes:
        folder: Folder of the files.
        name: Its name.
        after: Names of files that other works write before it saves.
        repeats: How many more SIGTERM come before it saves.
        fails: Whether it fails instead of saving.
        hangs: Whether it sends SIGINT to the parent process instead of saving, and never ends.
    """

    folder: Path
    name: str
    after: tuple[str, ...] = ()
    repeats: int = 0
    fails: bool = False
    hangs: bool = False
    plugins: tuple[str, ...] = ()

    def run(self, device: torch.device) -> None:
        with stop_signals() as signals:
            _write_id(self.folder, self.name)
            wait_until(lambda: signals.stopping)
            wait_until(lambda: all((self.folder / name).exists() for name in self.after))
            for _ in range(self.repeats):
                signal.raise_signal(signal.SIGTERM)
            if self.hangs:
                os.kill(os.getppid(), signal.SIGINT)
                while True:
                    time.sleep(1)
            if self.fails:
                raise RunError("the disk is broken")
            (self.folder / self.name).touch()


@dataclass
class Killed:
    """Kills its process as the system does for want of memory, once other works run."""

    folder: Path
    name: str
    after: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()

    def run(self, device: torch.device) -> None:
        wait_until(lambda: all(process_id(self.folder, name) for name in self.after))
        _write_id(self.folder, self.name)
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Endless:
    """Handles no signals, as an evaluation, and never ends."""

    folder: Path
    name: str
    plugins: tuple[str, ...] = ()

    def run(self, device: torch.device) -> None:
        _write_id(self.folder, self.name)
        while True:
            time.sleep(1)


@dataclass
class Done:
    """Has nothing to do."""

    plugins: tuple[str, ...] = ()

    def run(self, device: torch.device) -> None: ...


def process_id(folder: Path, name: str) -> int:
    """Returns the process id of a work; 0 before it runs."""
    file = folder / f"{name}.pid"
    return int(file.read_text()) if file.exists() else 0


def _write_id(folder: Path, name: str) -> None:
    (folder / f"{name}.tmp").write_text(str(os.getpid()))
    (folder / f"{name}.tmp").rename(folder / f"{name}.pid")

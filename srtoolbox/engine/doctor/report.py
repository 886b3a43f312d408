"""Collects the results of the doctor's checks and shows them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from srtoolbox.engine.device.precision import Precision
from srtoolbox.engine.device.probe import slow_format
from srtoolbox.engine.options import RunOptions
from srtoolbox.errors import RunError, UserError, is_out_of_memory
from srtoolbox.utils.console import duration_text, size_text, terminal_table
from srtoolbox.utils.cpu import cpu_count
from srtoolbox.utils.environment import device_name

_MIB = 2**20


@dataclass
class Estimate:
    """The estimated cost of one run; None if it could not be measured.

    Attributes:
        name: Name of the run.
        step_memory: Peak MiB of a training step, including weights and optimizer state.
        test_memory: Peak MiB of the evaluation of one sample, without the weights.
        seconds: Time of a training step.
        test_seconds: Time of the forward pass of one sample.
        total: Seconds of the whole run with its evaluations.
        checkpoint: Bytes of a checkpoint.
        keep: Number of checkpoints that are kept.
        disk: Bytes of all checkpoints and weights.
    """

    name: str
    step_memory: float | None = None
    test_memory: float | None = None
    seconds: float | None = None
    test_seconds: float | None = None
    total: float | None = None
    checkpoint: int | None = None
    keep: int = 0
    disk: int = 0


@dataclass
class Diagnosis:
    """The results of all checks.

    Attributes:
        passed: Name and description of each passed check.
        faults: Name and error of each failed check.
        warnings: Problems that do not prevent the runs from starting.
        estimates: One per run.
        caches: Folders of decoded images, and their size in bytes when they are complete.
        folder: Output folder of the runs.
        repeats: Number of seeds with which each run will be trained.
    """

    passed: list[tuple[str, str]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    estimates: list[Estimate] = field(default_factory=list)
    caches: dict[Path, int] = field(default_factory=dict)
    folder: Path = Path("experiments")
    repeats: int = 1

    @property
    def disk(self) -> int:
        """Bytes of the weights and checkpoints of all runs."""
        return self.repeats * sum(estimate.disk for estimate in self.estimates)

    @contextmanager
    def check(self, name: str, label: str = "") -> Iterator[Callable[[str], None]]:
        """Records a check as passed, or as failed if it raises a toolbox error.

        Args:
            name: Name of the check; a check that several runs share is listed once if it passes.
            label: Prefix of the name in faults, to tell the runs apart.

        Yields:
            A function that adds a text to the description of the check.
        """
        texts = ["ok"]
        try:
            yield texts.append
        except (UserError, RunError) as error:
            self.faults.append((label + name, str(error)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.faults.append((label + name, "out of memory"))
        else:
            if name not in dict(self.passed):
                self.passed.append((name, ", ".join(texts)))

    def raise_faults(self) -> None:
        """Raises an error if a check failed.

        Raises:
            UserError: with all faults.
        """
        if self.faults:
            raise UserError("\n".join(f"{name}: {text}" for name, text in self.faults))


def find_warnings(found: Diagnosis, runs: Sequence[RunOptions], device: torch.device) -> list[str]:
    """Returns warnings about slow devices and about too little memory or disk space."""
    warnings = []
    if device.type == "cpu":
        warnings.append(f"no GPU: this runs on {device_name(device)}")
    formats: set[Precision] = {run.train.precision for run in runs if run.train}
    for precision in sorted(formats):
        if text := slow_format(device, precision):
            warnings.append(text)
    cores = cpu_count()
    for workers in sorted({run.train.num_worker for run in runs if run.train}):
        if workers > cores:
            warnings.append(f"train.num_worker {workers} is more than the {cores} CPU cores")
    memory = _memory(device)
    for estimate in found.estimates:
        if memory and estimate.step_memory and estimate.step_memory > memory:
            warnings.append(
                f"{estimate.name}: a training step needs {size_text(estimate.step_memory * _MIB)}, "
                f"but the device has {size_text(memory * _MIB)}; raise train.accumulate, lower "
                "train.batch_size or gt_size, or set train.checkpointing"
            )
    missing = {folder: size - _cached(folder) for folder, size in found.caches.items()}
    needed: dict[int, float] = {}  # bytes by disk
    for folder, size in [*missing.items(), (found.folder, found.disk)]:
        existing = _existing(folder)
        disk = existing.stat().st_dev
        needed[disk] = needed.get(disk, 0) + max(0, size)
        free = shutil.disk_usage(existing).free
        if needed[disk] > free:
            warnings.append(
                f"the disk of {folder} is too small: {size_text(needed[disk])} are needed, "
                f"{size_text(free)} are free"
            )
    return warnings


def to_terminal(found: Diagnosis, title: str) -> Group:
    """Returns tables of the checks and the estimates, then disk space and warnings."""
    checks = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    checks.add_column("part", no_wrap=True)
    checks.add_column("state")
    for name, text in found.passed:
        checks.add_row(name, Text(text, "green"))
    for name, fault in found.faults:
        checks.add_row(name, Text(f"fault: {fault.splitlines()[0]}", "red"))
    shown: list[Table | Text] = [checks]
    if any(estimate.seconds or estimate.test_seconds for estimate in found.estimates):
        shown.append(_estimates_table(found.estimates))
    for folder, size in found.caches.items():
        text = f"decoded images: {size_text(size)} in {folder}"
        if cached := min(_cached(folder), size):
            text += f"; up to {size_text(cached)} of them exist"
        shown.append(Text(text))
    if found.disk:
        free = size_text(shutil.disk_usage(_existing(found.folder)).free)
        text = f"weights and checkpoints: {size_text(found.disk)} in {found.folder} ({free} free)"
        shown.append(Text(text))
    shown += [Text(f"warning: {warning}", "yellow") for warning in found.warnings]
    return Group(*shown)


def _estimates_table(estimates: Sequence[Estimate]) -> Table:
    head = ("run", "memory: step", "image", "time: image", "1,000 steps", "total", "checkpoints")
    rows = []
    for estimate in estimates:
        size = estimate.checkpoint
        row = [
            estimate.name,
            _mib_text(estimate.step_memory),
            _mib_text(estimate.test_memory),
            duration_text(estimate.test_seconds),
            duration_text(estimate.seconds and 1000 * estimate.seconds),
            duration_text(estimate.total),
            "–" if size is None else f"{estimate.keep} × {size_text(size)}",
        ]
        rows.append(row)
    table = terminal_table(None, head, rows)
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"  # rather than cut columns
    return table


def _mib_text(mib: float | None) -> str:
    return "–" if mib is None else size_text(mib * _MIB)


def _memory(device: torch.device) -> float | None:
    """Returns the MiB of a device's memory; None if they are unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / _MIB
    if device.type == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _MIB
    return None


def _existing(folder: Path) -> Path:
    """Returns the folder, or its nearest parent that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _cached(folder: Path) -> int:
    """Returns the bytes of decoded images in a cache folder."""
    return sum(path.stat().st_size for path in folder.glob("pixels-*/pixels.bin"))

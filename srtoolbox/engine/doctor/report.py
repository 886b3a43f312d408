"""What the doctor found: parts, faults, forecasts and warnings."""

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

from srtoolbox.engine.device.precision import is_out_of_memory
from srtoolbox.engine.options import RunOptions
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import size_text
from srtoolbox.utils.environment import device_name

_MIB = 2**20


@dataclass
class Forecast:
    """What one run will cost.

    Attributes:
        name: The run's.
        step_memory: Peak MiB of a training step, with weights and the optimizer's state.
        test_memory: Peak MiB of evaluating one image, beyond the weights.
        seconds: Of one training step.
        test_seconds: Of one image.
        total: Seconds of the whole run, with its evaluations.
        checkpoint: Bytes of a checkpoint.
        keep: How many of them are kept.
        disk: Bytes of all that the run keeps.
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
    """What the doctor found.

    Attributes:
        parts: Of each part that was tried its name and a few words.
        faults: Of each faulty part its name and everything that is wrong with it.
        warnings: What does not keep the runs from being started.
        forecasts: One per run.
        caches: Folders of decoded images, and the bytes that they take when built.
        folder: Where the runs write.
        repeats: How often each is run, with other seeds.
    """

    parts: list[tuple[str, str]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    forecasts: list[Forecast] = field(default_factory=list)
    caches: dict[Path, int] = field(default_factory=dict)
    folder: Path = Path("experiments")
    repeats: int = 1

    @property
    def disk(self) -> int:
        """Bytes of the weights and checkpoints of all runs."""
        return self.repeats * sum(one.disk for one in self.forecasts)

    @contextmanager
    def trying(self, part: str, owner: str = "") -> Iterator[Callable[[str], None]]:
        """Enters a part as in order, once, or as faulty if it raises an error of ours.

        Args:
            part: What is tried inside.
            owner: Whose part it is, for a fault of one that others have too.

        Yields:
            What takes the words for a part that is in order.
        """
        words = ["ok"]
        try:
            yield words.append
        except (UserError, RunError) as error:
            self.faults.append((owner + part, str(error)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.faults.append((owner + part, "out of memory"))
        else:
            if part not in dict(self.parts):
                self.parts.append((part, ", ".join(words)))

    def warn(self, text: str) -> None:
        """Adds a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def raise_faults(self) -> None:
        """Does nothing if all is well.

        Raises:
            UserError: names everything that is wrong.
        """
        if self.faults:
            raise UserError("\n".join(f"{part}: {text}" for part, text in self.faults))


def find_warnings(found: Diagnosis, runs: Sequence[RunOptions], device: torch.device) -> list[str]:
    """What will go slowly, or not to its end, though all parts are in order."""
    warnings = []
    if device.type == "cpu":
        warnings.append(f"no GPU: this runs on {device_name(device)}")
    cores = _num_core()
    for worker in sorted({run.train.num_worker for run in runs if run.train}):
        if worker > cores:
            warnings.append(f"train.num_worker {worker} is more than the {cores} CPU cores")
    memory = _memory(device)
    for one in found.forecasts:
        if memory and one.step_memory and one.step_memory > memory:
            warnings.append(
                f"{one.name}: a training step takes {size_text(one.step_memory * _MIB)}, more "
                f"than the {size_text(memory * _MIB)} there are; raise train.accumulate, lower "
                "train.batch_size or gt_size, or set train.checkpointing"
            )
    missing = {folder: size - _cached(folder) for folder, size in found.caches.items()}
    needs: dict[int, float] = {}  # by disk
    for folder, size in [*missing.items(), (found.folder, found.disk)]:
        place = _existing(folder)
        disk = place.stat().st_dev
        needs[disk] = needs.get(disk, 0) + max(0, size)
        free = shutil.disk_usage(place).free
        if needs[disk] > free:
            warnings.append(
                f"the disk of {folder} is too small: {size_text(needs[disk])} are needed and "
                f"{size_text(free)} free"
            )
    return warnings


def to_terminal(found: Diagnosis, title: str) -> Group:
    """Tables of the parts and of the forecasts, then disk and warnings."""
    parts = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    parts.add_column("part", no_wrap=True)
    parts.add_column("state")
    for name, words in found.parts:
        parts.add_row(name, Text(words, "green"))
    for name, fault in found.faults:
        parts.add_row(name, Text(f"fault: {fault.splitlines()[0]}", "red"))
    shown: list[Table | Text] = [parts]
    if any(one.seconds or one.test_seconds for one in found.forecasts):
        shown.append(_forecasts(found.forecasts))
    for folder, size in found.caches.items():
        there = min(_cached(folder), size)
        text = f"decoded images: {size_text(size)} in {folder}"
        shown.append(Text(text + (f", of which {size_text(there)} may be there" if there else "")))
    if found.disk:
        free = size_text(shutil.disk_usage(_existing(found.folder)).free)
        text = f"weights and checkpoints: {size_text(found.disk)} in {found.folder} ({free} free)"
        shown.append(Text(text))
    shown += [Text(f"warning: {warning}", "yellow") for warning in found.warnings]
    return Group(*shown)


def _forecasts(forecasts: Sequence[Forecast]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    titles = (
        "memory:\nstep",
        "\nimage",
        "time:\nimage",
        "1,000\nsteps",
        "\nin all",
        "\ncheckpoints",
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for one in forecasts:
        table.add_row(
            one.name,
            "–" if one.step_memory is None else size_text(one.step_memory * _MIB),
            "–" if one.test_memory is None else size_text(one.test_memory * _MIB),
            _clock(one.test_seconds),
            _clock(one.seconds and 1000 * one.seconds),
            _clock(one.total),
            "–" if one.checkpoint is None else f"{one.keep} × {size_text(one.checkpoint)}",
        )
    return table


def _clock(seconds: float | None) -> str:
    """A time as people say it."""
    if seconds is None:
        return "–"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def _num_core() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory(device: torch.device) -> float | None:
    """MiB of the device's memory; None if it cannot be told."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / _MIB
    if device.type == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _MIB
    return None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def _cached(folder: Path) -> int:
    """Bytes of decoded images that are there."""
    return sum(path.stat().st_size for path in folder.glob("pixels-*/pixels.bin"))

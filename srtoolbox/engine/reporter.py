"""Where a training run tells how it goes: terminal, ``log.jsonl`` and TensorBoard."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from srtoolbox.console import progress_console, shows_progress
from srtoolbox.engine.files import append_lines, keep_lines
from srtoolbox.schema import option

_log = logging.getLogger("srtoolbox")


@dataclass(frozen=True)
class LoggerSection:
    """How often a run reports and saves."""

    print_freq: int = option(default=100, min=1, doc="Steps between log lines.")
    save_checkpoint_freq: int = option(default=5000, min=1, doc="Steps between checkpoints.")
    keep_checkpoint: int = option(default=2, min=1, doc="How many of the newest are kept.")
    use_tb_logger: bool = option(default=True, doc="Write TensorBoard files.")


class Reporter:
    """Log points of one run. On a terminal a progress bar stands below the lines.

    Args:
        folder: The run's folder; gets ``log.jsonl``, ``evaluation.jsonl`` and ``tb/``.
        title: What the run is called in the progress bar.
        total: Steps of the whole run.
        start: Step at which the run goes on; later entries of an earlier try are dropped.
        tensorboard: Whether to write TensorBoard files.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        total: int,
        start: int = 0,
        tensorboard: bool = True,
    ) -> None:
        self._folder, self._title, self._total = folder, title, total
        self._board = _open_tensorboard(folder / "tb", start) if tensorboard else None
        for name in ("log.jsonl", "evaluation.jsonl"):
            keep_lines(folder / name, start)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=progress_console(),
            disable=not shows_progress(),
            transient=True,
        )
        self._task = self._progress.add_task(title, total=total, completed=start, figures="")

    def __enter__(self) -> Reporter:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._board is not None:
            self._board.close()

    def advance(self, step: int) -> None:
        """Moves the progress bar; costs nothing and touches no device."""
        self._progress.update(self._task, completed=step)

    def training(self, step: int, figures: dict[str, float], rate: dict[str, float]) -> None:
        """A log point: losses and learning rate in ``figures``, speed and memory in ``rate``.

        ``rate`` has ``it/s``, ``data wait`` (share of the time spent waiting for samples) and
        ``memory`` in MiB (0 if unknown).
        """
        append_lines(self._folder / "log.jsonl", [{"step": step, **figures, **rate}])
        self._to_board(step, {f"train/{name}": value for name, value in figures.items()})
        self._to_board(step, {f"speed/{name}": value for name, value in rate.items()})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        speed = f"{rate['it/s']:.2f} it/s, data wait {100 * rate['data wait']:.0f} %"
        self._progress.update(self._task, figures=speed)
        memory = f", {rate['memory']:.0f} MiB" if rate["memory"] else ""
        left = _clock((self._total - step) / rate["it/s"])
        _log.info(
            "%s %d/%d  %s  (%s%s, %s left)",
            *(self._title, step, self._total, shown, speed, memory, left),
        )

    def evaluation(self, step: int, dataset: str, scores: dict[str, float | None]) -> None:
        """Mean scores on one dataset after ``step``."""
        append_lines(
            self._folder / "evaluation.jsonl", [{"step": step, "dataset": dataset, **scores}]
        )
        known = {name: value for name, value in scores.items() if value is not None}
        self._to_board(step, {f"{dataset}/{name}": value for name, value in known.items()})
        shown = "  ".join(f"{name} {value:.4f}" for name, value in known.items())
        _log.info("%s %d/%d  on %s: %s", self._title, step, self._total, dataset, shown)

    def _to_board(self, step: int, scalars: dict[str, float]) -> None:
        if self._board is not None:
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)


def _open_tensorboard(folder: Path, start: int) -> Any:
    """A TensorBoard writer that hides points after ``start`` left by an earlier try."""
    from torch.utils.tensorboard import SummaryWriter  # heavy, so only where it is used

    return SummaryWriter(str(folder), purge_step=start + 1 if start else None)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

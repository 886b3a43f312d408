"""Logs a training run to the terminal, JSONL files and TensorBoard."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from srtoolbox.utils.console import duration_text, progress_console, shows_progress
from srtoolbox.utils.files import append_lines, keep_lines, read_lines, wait_for_room

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger("srtoolbox")

_SPEED = ("it/s", "data wait", "memory")

Point = tuple[int, dict[str, float]]  # step, and values by TensorBoard tag


class Reporter:
    """Logs one run; on a terminal, a progress bar stays below the log lines.

    The JSONL files are the reference: each record is synced to the disk before the run continues,
    and while the disk is full the run waits. TensorBoard's files are a copy of them. They are
    written again from the JSONL files when a run resumes and after a failed write.

    Args:
        folder: Folder of the run, for ``log.jsonl``, ``evaluation.jsonl`` and ``tb/``.
        title: Name of the run in log lines and progress bar.
        total: Steps of the whole run.
        start: Step at which the run resumes; records of later steps are dropped.
        evaluated: The last step whose scores are kept; by default ``start``. It is lower if the
            run was killed between the checkpoint of step ``start`` and the one that follows its
            evaluation: this evaluation is then repeated.
        tensorboard: Whether to write TensorBoard files.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        total: int,
        start: int = 0,
        evaluated: int | None = None,
        tensorboard: bool = True,
    ) -> None:
        self._figures, self._scores = folder / "log.jsonl", folder / "evaluation.jsonl"
        self._title, self._total = title, total
        keep_lines(self._figures, start)
        keep_lines(self._scores, start if evaluated is None else evaluated)
        self._tb_folder = folder / "tb" if tensorboard else None
        self._tb_writer: SummaryWriter | None = None
        self._to_tensorboard(())
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
        self._to_tensorboard(())
        if self._tb_writer is not None:
            with suppress(OSError):  # everything is written already
                self._tb_writer.close()
        self._progress.stop()

    def advance(self, step: int) -> None:
        """Moves the progress bar; it does not wait for the device."""
        self._progress.update(self._task, completed=step)

    def training(self, step: int, figures: dict[str, float], speed: dict[str, float]) -> None:
        """Writes a log point.

        Args:
            step: Number of finished steps.
            figures: Mean losses and gradient norms since the last log point, and learning rate.
            speed: ``it/s``, ``data wait`` (share of the time spent waiting for samples) and
                ``memory`` in MiB (0: unknown).
        """
        record = {"step": step, **figures, **speed}
        wait_for_room(lambda: append_lines(self._figures, [record]), self._figures)
        self._to_tensorboard([_training_point(record)])
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        pace = f"{speed['it/s']:.2f} it/s, data wait {100 * speed['data wait']:.0f} %"
        self._progress.update(self._task, figures=pace)
        memory = f", {speed['memory']:.0f} MiB" if speed["memory"] else ""
        left = duration_text((self._total - step) / speed["it/s"])
        _log.info(
            "%s %d/%d  %s  (%s%s, %s left)",
            *(self._title, step, self._total, shown, pace, memory, left),
        )

    def evaluation(
        self,
        step: int,
        dataset: str,
        scores: dict[str, float | None],
        gain: float | None = None,
    ) -> None:
        """Writes the mean scores of one dataset.

        Args:
            step: Number of finished steps.
            dataset: Name of the dataset.
            scores: Scores by metric; None: the metric was unavailable.
            gain: Gain from the other frames in dB; None: not measured.
        """
        record: dict[str, Any] = {"step": step, "dataset": dataset, **scores}
        if gain is not None:
            record["gain_from_frames"] = gain
        wait_for_room(lambda: append_lines(self._scores, [record]), self._scores)
        self._to_tensorboard([_score_point(record)])
        shown = "  ".join(f"{name} {v:.4f}" for name, v in scores.items() if v is not None)
        if gain is not None:
            shown += f"  gain from other frames {gain:.2f} dB"
        _log.info("%s %d/%d  on %s: %s", self._title, step, self._total, dataset, shown)

    def _points(self) -> Iterator[Point]:
        """Yields the points of all records in the JSONL files."""
        yield from map(_training_point, read_lines(self._figures))
        yield from map(_score_point, read_lines(self._scores))

    def _to_tensorboard(self, points: Iterable[Point]) -> None:
        """Adds points to TensorBoard's file, or writes a new file if there is no usable one."""
        if self._tb_folder is None:
            return
        try:
            if self._tb_writer is None:
                self._tb_writer, points = _open_writer(self._tb_folder), self._points()
            for step, scalars in points:
                for tag, value in scalars.items():
                    self._tb_writer.add_scalar(tag, value, step)
            self._tb_writer.flush()  # raises errors of the writer's thread
        except OSError as error:  # the JSONL files have everything, so the run can continue
            self._tb_writer = None
            _log.warning(
                "%s: not written (%s); this is tried again later", self._tb_folder, error.strerror
            )


class NullReporter(Reporter):
    """Logs nothing; for all processes except the main one."""

    def __init__(self) -> None: ...

    def __enter__(self) -> NullReporter:
        return self

    def __exit__(self, *_: object) -> None: ...

    def advance(self, step: int) -> None: ...

    def training(self, step: int, figures: dict[str, float], speed: dict[str, float]) -> None: ...

    def evaluation(
        self,
        step: int,
        dataset: str,
        scores: dict[str, float | None],
        gain: float | None = None,
    ) -> None: ...


NULL_REPORTER = NullReporter()


def _open_writer(folder: Path) -> SummaryWriter:
    """Opens a new TensorBoard file whose points replace those of all earlier files."""
    from torch.utils.tensorboard import SummaryWriter

    # A running TensorBoard reads the files in the order of their names. It needs the name of the
    # earlier file to find the next one, so the earlier file is emptied and not removed.
    for earlier in folder.glob("events.out.tfevents.*"):
        os.truncate(earlier, 0)
    # purge_step makes a running TensorBoard drop the points that it has already read.
    return SummaryWriter(str(folder), purge_step=0, flush_secs=30)


def _training_point(record: dict[str, Any]) -> Point:
    figures = {name: value for name, value in record.items() if name != "step"}
    kind = {name: "speed" if name in _SPEED else "train" for name in figures}
    return record["step"], {f"{kind[name]}/{name}": value for name, value in figures.items()}


def _score_point(record: dict[str, Any]) -> Point:
    scores = {k: v for k, v in record.items() if k not in ("step", "dataset") and v is not None}
    return record["step"], {f"{record['dataset']}/{name}": value for name, value in scores.items()}

"""Logs a training run to the terminal, JSONL files and TensorBoard."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srtoolbox.engine.training.checkpoint import removed
from srtoolbox.utils.console import clock_text, make_progress
from srtoolbox.utils.files import append_lines, keep_lines, read_lines, wait_for_room

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger("srtoolbox")

_SPEED = ("it/s", "data wait", "memory")


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
        card = folder / "run.json"
        self._card = card if card.exists() else None
        self._title, self._total = title, total
        keep_lines(self._figures, start)
        keep_lines(self._scores, start if evaluated is None else evaluated)
        self._tb_folder = folder / "tb" if tensorboard else None
        self._tb_writer: SummaryWriter | None = None
        self._to_tensorboard(())
        self._progress = make_progress("{task.fields[figures]}")
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
        self._write(self._figures, {"step": step, **figures, **speed})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        pace = f"{speed['it/s']:.2f} it/s, data wait {100 * speed['data wait']:.0f} %"
        self._progress.update(self._task, figures=pace)
        memory = f", {speed['memory']:.0f} MiB" if speed["memory"] else ""
        left = clock_text((self._total - step) / speed["it/s"])
        _log.info(
            "%s %d/%d  %s  (%s%s, %s left)",
            *(self._title, step, self._total, shown, pace, memory, left),
        )

    def evaluation(
        self, step: int, dataset: str, scores: dict[str, float | None], gain: float | None = None
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
        self._write(self._scores, record)
        shown = "  ".join(f"{name} {v:.4f}" for name, v in scores.items() if v is not None)
        if gain is not None:
            shown += f"  gain from other frames {gain:.2f} dB"
        _log.info("%s %d/%d  on %s: %s", self._title, step, self._total, dataset, shown)

    def _write(self, path: Path, record: dict[str, Any]) -> None:
        if self._card is not None and not self._card.exists():
            raise removed(path.parent)
        wait_for_room(lambda: append_lines(path, [record]), path)
        self._to_tensorboard([record])

    def _to_tensorboard(self, records: Iterable[dict[str, Any]]) -> None:
        """Adds records to TensorBoard's file, or writes all to a new file if none is usable."""
        if self._tb_folder is None:
            return
        try:
            if self._tb_writer is None:
                self._tb_writer = _open_writer(self._tb_folder)
                records = chain(read_lines(self._figures), read_lines(self._scores))
            for record in records:
                for tag, value in _scalars(record).items():
                    self._tb_writer.add_scalar(tag, value, record["step"])
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

    def advance(self, *_: object, **__: object) -> None: ...

    def training(self, *_: object, **__: object) -> None: ...

    def evaluation(self, *_: object, **__: object) -> None: ...


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


def _scalars(record: dict[str, Any]) -> dict[str, float]:
    """Returns the values of a log point, or the scores of a dataset, by TensorBoard tag."""
    return {
        f"{record.get('dataset', 'speed' if name in _SPEED else 'train')}/{name}": value
        for name, value in record.items()
        if name not in ("step", "dataset") and value is not None
    }

"""Logs a training run to the terminal and to its trackers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from srtoolbox.engine.training.checkpoint import removed
from srtoolbox.engine.training.trackers.base import EndState, TrackedRun, Tracker
from srtoolbox.engine.training.trackers.jsonl import JSONL
from srtoolbox.engine.training.trackers.tensorboard import TensorBoard
from srtoolbox.utils.console import clock_text, make_progress

_log = logging.getLogger("srtoolbox")


class Reporter:
    """Logs one run; on a terminal, a progress bar stays below the log lines.

    The JSONL files are the reference: each record is synced to the disk before the run continues,
    and while the disk is full the run waits. All other trackers may fail: the run warns once,
    goes on without the tracker, and names it again at its end.

    Args:
        folder: Folder of the run, for ``log.jsonl``, ``evaluation.jsonl`` and ``tb/``.
        title: Name of the run in log lines and progress bar.
        total: Steps of the whole run.
        start: Step at which the run resumes; records of later steps are dropped.
        evaluated: The last step whose scores are kept; by default ``start``. It is lower if the
            run was killed between the checkpoint of step ``start`` and the one that follows its
            evaluation: this evaluation is then repeated.
        tensorboard: Whether to write TensorBoard files.
        trackers: Further trackers by name.
        run: Facts about the run for its trackers; folder and steps are set here.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        total: int,
        start: int = 0,
        evaluated: int | None = None,
        tensorboard: bool = True,
        trackers: Mapping[str, Tracker] | None = None,
        run: TrackedRun | None = None,
    ) -> None:
        card = folder / "run.json"
        self._card = card if card.exists() else None
        self._title, self._total, self._step = title, total, start
        run = replace(run or TrackedRun(folder), folder=folder, total=total, start=start)
        self._jsonl = JSONL()
        self._jsonl.evaluated = evaluated
        self._jsonl.start(run)
        self._trackers: dict[str, Tracker] = {"TensorBoard": TensorBoard()} if tensorboard else {}
        self._trackers.update(trackers or {})
        self._failed: dict[str, tuple[int, str]] = {}  # steps and reasons by tracker
        for name in self._trackers:
            self._call(name, "start", replace(run, tracker=name))
        self._progress = make_progress("{task.fields[figures]}")
        self._task = self._progress.add_task(title, total=total, completed=start, figures="")

    def __enter__(self) -> Reporter:
        self._progress.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        state: EndState = "finished" if error is None else "failed"
        if error is not None and issubclass(error, KeyboardInterrupt):
            state = "interrupted"
        for name in self._trackers:
            self._call(name, "finish", state)
        for name, (step, reason) in self._failed.items():
            _log.warning(
                "%s: tracker '%s' is incomplete: it failed at step %d (%s); log.jsonl and "
                "evaluation.jsonl are complete",
                *(self._title, name, step, reason),
            )
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
        self._write({"step": step, **figures, **speed})
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
        self._write(record)
        shown = "  ".join(f"{name} {v:.4f}" for name, v in scores.items() if v is not None)
        if gain is not None:
            shown += f"  gain from other frames {gain:.2f} dB"
        _log.info("%s %d/%d  on %s: %s", self._title, step, self._total, dataset, shown)

    def images(self, step: int, dataset: str, files: Sequence[Path]) -> None:
        """Gives the files of the SR images of one dataset to the trackers."""
        for name in self._trackers:
            self._call(name, "images", step, dataset, files)

    def _write(self, record: dict[str, Any]) -> None:
        if self._card is not None and not self._card.exists():
            raise removed(self._card.parent)
        self._step = record["step"]
        self._jsonl.log(record)
        for name in self._trackers:
            self._call(name, "log", record)

    def _call(self, name: str, method: str, *arguments: object) -> None:
        """Calls a tracker, unless it has failed before. Its failure must not stop the run."""
        if name in self._failed and method != "finish":
            return
        try:
            getattr(self._trackers[name], method)(*arguments)
        except Exception as error:  # libraries raise anything
            text = str(error).strip() or type(error).__name__
            reason = text.splitlines()[0]
            if name in self._failed:  # it is named below
                _log.debug("tracker '%s' could not be closed: %s", name, reason)
                return
            self._failed[name] = self._step, reason
            _log.warning(
                "%s: tracker '%s' failed (%s); the training goes on without it",
                *(self._title, name, reason),
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

    def images(self, *_: object, **__: object) -> None: ...


NULL_REPORTER = NullReporter()

"""Where a training run tells how it goes: terminal, ``log.jsonl`` and TensorBoard."""

from __future__ import annotations

import io
import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from srtoolbox.utils.console import progress_console, shows_progress
from srtoolbox.utils.files import append_lines, keep_lines, read_lines, wait_for_room

_log = logging.getLogger("srtoolbox")

_SPEED = ("it/s", "data wait", "memory")

Point = tuple[int, dict[str, float]]


class Reporter:
    """Log points of one run. On a terminal a progress bar stands below the lines.

    The JSONL files are what counts: they are on the disk before the run goes on, and while the disk
    is full the run waits. TensorBoard's file is a copy of them, made anew when a run goes on and
    when it could not be written.

    Args:
        folder: The run's folder; gets ``log.jsonl``, ``evaluation.jsonl`` and ``tb/``.
        title: What the run is called in the progress bar.
        total: Steps of the whole run.
        start: Step at which the run goes on; later entries of an earlier try are dropped.
        evaluated: The last step whose scores are kept; by default ``start``. An earlier try may
            have scored step ``start`` after its state was saved, and this one does so again.
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
        self._board = Board(folder / "tb") if tensorboard else None
        self._to_board(())
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
        if self._board is not None and not self._board.usable:
            self._to_board(())
        self._progress.stop()

    def advance(self, step: int) -> None:
        """Moves the progress bar; costs nothing and touches no device."""
        self._progress.update(self._task, completed=step)

    def training(self, step: int, figures: dict[str, float], rate: dict[str, float]) -> None:
        """A log point: losses and learning rate in ``figures``, speed and memory in ``rate``.

        ``rate`` has ``it/s``, ``data wait`` (share of the time spent waiting for samples) and
        ``memory`` in MiB (0 if unknown).
        """
        record = {"step": step, **figures, **rate}
        wait_for_room(lambda: append_lines(self._figures, [record]), self._figures)
        self._to_board([_training_point(record)])
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        speed = f"{rate['it/s']:.2f} it/s, data wait {100 * rate['data wait']:.0f} %"
        self._progress.update(self._task, figures=speed)
        memory = f", {rate['memory']:.0f} MiB" if rate["memory"] else ""
        left = _clock((self._total - step) / rate["it/s"])
        _log.info(
            "%s %d/%d  %s  (%s%s, %s left)",
            *(self._title, step, self._total, shown, speed, memory, left),
        )

    def evaluation(
        self,
        step: int,
        dataset: str,
        scores: dict[str, float | None],
        gain: float | None = None,
    ) -> None:
        """Mean scores on one dataset after ``step``.

        ``gain`` is what the network owes to its other frames, in dB, where that was measured.
        """
        record = {"step": step, "dataset": dataset, **scores}
        if gain is not None:
            record["owed_to_frames"] = gain
        wait_for_room(lambda: append_lines(self._scores, [record]), self._scores)
        self._to_board([_score_point(record)])
        shown = "  ".join(f"{name} {v:.4f}" for name, v in scores.items() if v is not None)
        if gain is not None:
            shown += f"  owed to the other frames {gain:.2f} dB"
        _log.info("%s %d/%d  on %s: %s", self._title, step, self._total, dataset, shown)

    def _points(self) -> Iterator[Point]:
        yield from map(_training_point, read_lines(self._figures))
        yield from map(_score_point, read_lines(self._scores))

    def _to_board(self, points: Iterable[Point]) -> None:
        if self._board is None:
            return
        try:
            if self._board.usable:
                self._board.add(points)
            else:
                self._board.write(self._points())
        except OSError as error:  # no reason to stop: everything is in the JSONL files
            _log.warning("%s: not written (%s); tried again later", self._board, error.strerror)


class NullReporter:
    """The reporter of the processes that only help the main one."""

    def __enter__(self) -> NullReporter:
        return self

    def __exit__(self, *_: object) -> None: ...

    def advance(self, step: int) -> None: ...

    def training(self, step: int, figures: dict[str, float], rate: dict[str, float]) -> None: ...

    def evaluation(
        self,
        step: int,
        dataset: str,
        scores: dict[str, float | None],
        gain: float | None = None,
    ) -> None: ...


NULL_REPORTER = NullReporter()


class Board:
    """TensorBoard's file of a run.

    Written without the threads of TensorBoard's own writer, which keeps points back for minutes
    (those a killed run would lose) and does not survive a full disk.

    Args:
        folder: Where it lies.

    Attributes:
        usable: Whether the file is whole, so that points can be added; else ``write`` makes one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path, self.usable = folder, folder, False

    def __str__(self) -> str:
        return str(self._folder)

    def write(self, points: Iterable[Point]) -> None:
        """Makes a new file of these points in place of all earlier ones."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._folder.mkdir(parents=True, exist_ok=True)
        earlier = list(self._folder.glob("events.out.tfevents.[0-9]*"))
        # Readers take files in the order of their names. A running TensorBoard forgets what it has
        # read when it meets the start of a session at step 0.
        number = max((int(path.name.split(".")[3]) for path in earlier), default=0) + 1
        self._path = self._folder / f"events.out.tfevents.{number:010d}.srtoolbox"
        head = [Event(file_version="brain.Event:2"), Event(session_log=SessionLog(status=1))]
        self._append([*head, *map(_event, points)])
        for path in earlier:  # a reader that is in the midst of one needs it to come to the next
            os.truncate(path, 0)

    def add(self, points: Iterable[Point]) -> None:
        """Adds points to the file."""
        self._append(map(_event, points))

    def _append(self, events: Iterable[Any]) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        buffer = io.BytesIO()
        writer = RecordWriter(buffer)
        for event in events:
            event.wall_time = time.time()
            writer.write(event.SerializeToString())
        self.usable = False
        with self._path.open("ab") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        self.usable = True


def _event(point: Point) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    step, scalars = point
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
    return Event(step=step, summary=Summary(value=values))


def _training_point(record: dict[str, Any]) -> Point:
    figures = {name: value for name, value in record.items() if name != "step"}
    kind = {name: "speed" if name in _SPEED else "train" for name in figures}
    return record["step"], {f"{kind[name]}/{name}": value for name, value in figures.items()}


def _score_point(record: dict[str, Any]) -> Point:
    scores = {k: v for k, v in record.items() if k not in ("step", "dataset") and v is not None}
    return record["step"], {f"{record['dataset']}/{name}": value for name, value in scores.items()}


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

"""The JSONL files of a run, which are the reference for all other trackers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srtoolbox.engine.training.trackers.base import FIGURES, SCORES, TrackedRun, Tracker
from srtoolbox.registry import LOGGER_REGISTRY
from srtoolbox.utils.files import append_lines, keep_lines, wait_for_room


@LOGGER_REGISTRY.register()
class JSONL(Tracker):
    """Writes ``log.jsonl`` and ``evaluation.jsonl``. Every run has it, named or not.

    Each record is synced to the disk before the run continues, and while the disk is full the run
    waits.
    """

    evaluated: int | None = None
    """The last step whose scores are kept at the start; None: the step at which the run resumes."""

    def start(self, run: TrackedRun) -> None:
        self._figures, self._scores = run.folder / FIGURES, run.folder / SCORES
        keep_lines(self._figures, run.start)
        keep_lines(self._scores, run.start if self.evaluated is None else self.evaluated)

    def log(self, record: Mapping[str, Any]) -> None:
        path = self._scores if "dataset" in record else self._figures
        wait_for_room(lambda: append_lines(path, [dict(record)]), path)

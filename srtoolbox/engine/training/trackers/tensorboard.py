"""TensorBoard files of a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srtoolbox.engine.training.trackers.base import (
    FIGURES,
    SCORES,
    EndState,
    TrackedRun,
    Tracker,
    scalars_of,
)
from srtoolbox.registry import LOGGER_REGISTRY
from srtoolbox.utils.files import read_lines

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger("srtoolbox")


@LOGGER_REGISTRY.register()
class TensorBoard(Tracker):
    """Writes TensorBoard files to ``tb/``; ``use_tb_logger: true`` adds it, too.

    They are a copy of the JSONL files. They are written again from these when a run resumes and
    after a failed write.
    """

    _writer: SummaryWriter | None = None

    def start(self, run: TrackedRun) -> None:
        self._run, self._folder = run.folder, run.folder / "tb"
        self._write(())

    def log(self, record: Mapping[str, Any]) -> None:
        self._write([record])

    def finish(self, state: EndState) -> None:
        self._write(())
        if self._writer is not None:
            with suppress(OSError):  # everything is written already
                self._writer.close()

    def _write(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds records to TensorBoard's file, or writes all to a new file if none is usable."""
        try:
            if self._writer is None:
                self._writer = _open_writer(self._folder)
                records = chain(read_lines(self._run / FIGURES), read_lines(self._run / SCORES))
            for record in records:
                for tag, value in scalars_of(record).items():
                    self._writer.add_scalar(tag, value, record["step"])
            self._writer.flush()  # raises errors of the writer's thread
        except OSError as error:  # the JSONL files have everything, so the run can continue
            self._writer = None
            _log.warning(
                "%s: not written (%s); this is tried again later", self._folder, error.strerror
            )


def _open_writer(folder: Path) -> SummaryWriter:
    """Opens a new TensorBoard file whose points replace those of all earlier files."""
    from torch.utils.tensorboard import SummaryWriter

    # A running TensorBoard reads the files in the order of their names. It needs the name of the
    # earlier file to find the next one, so the earlier file is emptied and not removed.
    for earlier in folder.glob("events.out.tfevents.*"):
        os.truncate(earlier, 0)
    # purge_step makes a running TensorBoard drop the points that it has already read.
    return SummaryWriter(str(folder), purge_step=0, flush_secs=30)

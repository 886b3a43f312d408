"""SIGINT and SIGTERM as a wish to stop, so that work can be saved first."""

from __future__ import annotations

import logging
import signal
from types import TracebackType

_log = logging.getLogger("srtoolbox")


class StopSignals:
    """While entered, the first SIGINT or SIGTERM only sets ``stopping``; a second acts at once."""

    def __init__(self) -> None:
        self.stopping = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: the caller handles signals
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        _log.warning("%s: saving after this step", signal.Signals(number).name)
        self.stopping = True
        signal.signal(number, self._previous[number])

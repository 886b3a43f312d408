"""Handles SIGINT and SIGTERM so that a training is saved before it stops."""

from __future__ import annotations

import logging
import signal
from types import TracebackType
from typing import Any

_log = logging.getLogger("srtoolbox")


class StopSignals:
    """Context in which the first SIGINT or SIGTERM only sets ``stopping``; a second one stops."""

    def __init__(self) -> None:
        self.stopping = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._request_stop)
            except ValueError:  # not the main thread: the caller handles signals
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request_stop(self, number: int, _: object) -> None:
        _log.warning("%s: saving after this step", signal.Signals(number).name)
        self.stopping = True
        signal.signal(number, self._previous[signal.Signals(number)])

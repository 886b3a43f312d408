"""Handles SIGINT and SIGTERM so that a training is saved before it stops."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from srtoolbox.utils.files import handle_signals

_log = logging.getLogger("srtoolbox")


@contextmanager
def stop_signals() -> Iterator[SimpleNamespace]:
    """The first SIGINT or SIGTERM inside only sets ``stopping`` of the result; a second one stops.

    Outside of the main thread it has no effect: the caller handles signals.

    Raises:
        KeyboardInterrupt: at the end, if there was a signal; also in place of an error, which is
            then logged: the caller must not go on with its next training.
    """
    state = SimpleNamespace(stopping=False)

    def request_stop(number: int, _: object) -> None:
        _log.warning("%s: saving after this step", signal.Signals(number).name)
        state.stopping = True
        signal.signal(number, previous[number])

    with handle_signals(request_stop, signal.SIGINT, signal.SIGTERM) as previous:
        try:
            yield state
        except Exception as error:
            if not state.stopping:
                raise
            _log.error("after the signal: %s", error)
            raise KeyboardInterrupt from error
    if state.stopping:
        raise KeyboardInterrupt

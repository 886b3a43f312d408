"""Handles SIGINT and SIGTERM so that a training is saved before it stops."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from srtoolbox.utils.files import handle_signals

_log = logging.getLogger("srtoolbox")

_ignores_repeats = False  # in this process


def ignore_repeated_signals() -> None:
    """From now on, after the first signal inside ``stop_signals``, others have no effect.

    It is for a process that ends with its training and that other processes end. It gets signals
    several times though the user asks once: from the system, which signals the whole group, and
    from the process that started it.
    """
    global _ignores_repeats
    _ignores_repeats = True


@contextmanager
def stop_signals() -> Iterator[SimpleNamespace]:
    """The first SIGINT or SIGTERM inside only sets ``stopping`` of the result; a second one stops.

    After ``ignore_repeated_signals`` a second one does nothing. Outside of the main thread it has
    no effect: the caller handles signals.

    Raises:
        KeyboardInterrupt: at the end, if there was a signal; also in place of an error, which is
            then logged: the caller must not go on with its next training.
    """
    state = SimpleNamespace(stopping=False)

    def request_stop(number: int, _: object) -> None:
        _log.warning("%s: saving after this step", signal.Signals(number).name)
        state.stopping = True
        if _ignores_repeats:
            previous.update(dict.fromkeys(previous, signal.SIG_IGN))  # also after the training
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

"""Runs one job after another in a thread of its own; jobs can be watched and cancelled."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.own_code import DEBUG

_log = logging.getLogger("srtoolbox")


class Cancelled(Exception):
    """Ends the work of a job that the user cancelled."""


class Control:
    """Shows how far a job is, and tells it to stop.

    Attributes:
        done: Number of finished steps.
        total: Number of all steps; 0: not known.
    """

    def __init__(self) -> None:
        self.done = self.total = 0
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Makes the next ``check`` raise ``Cancelled``."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was told to stop."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises ``Cancelled`` if the job was told to stop; it is called between tiles."""
        if self._cancelled.is_set():
            raise Cancelled

    def progress(self, done: int, total: int) -> None:
        """Sets the number of finished steps, then does what ``check`` does."""
        self.done, self.total = done, max(done, total)
        self.check()


class Job:
    """A function that runs later.

    Attributes:
        owner: Name of whoever submitted it.
        control: Its progress.
        finished: Set at the end, also after an error.
        result: What the function returned.
        error: One line, if it failed.
    """

    def __init__(self, work: Callable[[Control], Any], owner: str) -> None:
        self.owner, self.control = owner, Control()
        self.finished = threading.Event()
        self.result: Any = None
        self.error: str | None = None
        self._work = work

    @property
    def was_cancelled(self) -> bool:
        """Whether it ended without a result because it was cancelled."""
        return self.finished.is_set() and self.result is None and self.error is None

    def run(self) -> None:
        """Runs the function and keeps its result or its error."""
        try:
            self.control.check()
            self.result = self._work(self.control)
        except Cancelled:
            pass
        except Exception as error:  # the page shows it; the next job may be fine
            self.error = error_line(error)
            expected = isinstance(error, UserError | RunError | OSError)
            if os.environ.get(DEBUG, "0") not in ("", "0"):
                _log.exception("%s", self.error)
            elif not expected:
                _log.error("%s", self.error)
        finally:
            self.finished.set()


class Queue:
    """Runs jobs in the order in which they were submitted, one at a time.

    Args:
        max_waiting: Number of jobs that may wait.
    """

    def __init__(self, max_waiting: int = 20) -> None:
        self._max_waiting = max_waiting
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="srtoolbox-jobs", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Control], Any], owner: str) -> Job:
        """Adds a job.

        Args:
            work: Called with the job's ``Control``.
            owner: For ``cancel``.

        Raises:
            UserError: if too many jobs wait.
        """
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                raise UserError(f"{self._max_waiting} jobs are waiting; try again later")
            job = Job(work, owner)
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def jobs_before(self, job: Job) -> int:
        """Returns how many jobs must end before this one starts; 0: it runs, or it has ended."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._running is not None)

    def cancel(self, owner: str) -> None:
        """Cancels all jobs of an owner: waiting ones at once, a running one at its next tile."""
        with self._changed:
            own = [job for job in self._waiting if job.owner == owner]
            for job in own:
                self._waiting.remove(job)
            running = self._running
            if running is not None and running.owner == owner:
                running.control.cancel()
        for job in own:
            job.control.cancel()
            job.finished.set()

    def close(self, timeout: float = 10.0) -> None:
        """Cancels everything and ends the thread; waits at most ``timeout`` seconds."""
        with self._changed:
            self._closed = True
            owners = {job.owner for job in self._waiting}
            if self._running is not None:
                owners.add(self._running.owner)
            self._changed.notify_all()
        for owner in owners:
            self.cancel(owner)
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job = self._running = self._waiting.popleft()
            job.run()
            with self._changed:
                self._running = None


def error_line(error: BaseException) -> str:
    """Returns an error as one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif not isinstance(error, UserError | RunError):
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.split())

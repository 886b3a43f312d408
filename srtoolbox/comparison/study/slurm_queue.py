"""Asks ``squeue`` for the states of jobs, for clusters whose accounting does not know them."""

from __future__ import annotations

import os
import subprocess
import time

_INTERVAL = 15.0  # seconds between two calls
_TIMEOUT = 60.0  # seconds that a command of SLURM may take

GONE = "NOT_IN_QUEUE"
"""State of a job that SLURM does not know any more: it has ended."""


class SlurmQueue:
    """The jobs of this user in the queue of SLURM.

    ``squeue`` also lists jobs that ended within the last minutes. All jobs share one call.

    Attributes:
        fault: Why the last call failed; None: it did not.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self._states: dict[str, str] = {}
        self._asked = float("-inf")

    def state(self, job: str, since: float) -> str | None:
        """Returns the state of a job in SLURM's words, ``GONE``, or None if there is no answer.

        Args:
            job: Its id.
            since: Time (``time.monotonic``) since which the job must be known to SLURM.
        """
        if time.monotonic() - self._asked > _INTERVAL or self._asked <= since:
            self._asked = time.monotonic()
            self._ask()
        return None if self.fault is not None else self._states.get(job, GONE)

    def _ask(self) -> None:
        user = f"--user={os.getuid()}"
        command = ["squeue", "--noheader", "--states=all", user, "--format=%i %T"]
        found, self.fault = _output(command)
        lines = (line.split() for line in found.splitlines())
        self._states = {words[0]: words[1] for words in lines if len(words) == 2}


def silence() -> str | None:
    """Returns why neither ``squeue`` nor ``sacct`` answers on this machine; None if one does."""
    queue = SlurmQueue()
    queue.state("0", time.monotonic())
    if queue.fault is None:
        return None
    _, fault = _output(["sacct", "--noheader", "--allocations"])
    return fault and f"{queue.fault}; {fault}"


def _output(command: list[str]) -> tuple[str, str | None]:
    """Returns the output of a command, and why it failed; None: it did not."""
    name = command[0]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except FileNotFoundError:
        return "", f"{name}: no such command"
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"{name}: {error}"
    if done.returncode == 0:
        return done.stdout, None
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return "", f"{name}: {lines[-1].removeprefix(f'{name}: ')}"

"""Jobs run one at a time and can be cancelled, waiting or running."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from srtoolbox.errors import RunError, UserError
from srtoolbox.web.queue import Control, Job, Queue

WAIT = 30  # seconds until a test gives up


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue(max_waiting=2)
    yield made
    made.close()


class Blocker:
    """Work that goes on until it is released or cancelled."""

    def __init__(self) -> None:
        self.started, self.release = threading.Event(), threading.Event()

    def __call__(self, control: Control) -> str:
        self.started.set()
        while not self.release.wait(0.01):
            control.check()
        return "done"


def ended(job: Job) -> Job:
    assert job.finished.wait(WAIT)
    return job


def test_jobs_wait_for_each_other_and_know_their_position(queue: Queue) -> None:
    first, order = Blocker(), []
    running = queue.submit(first, "a")
    assert first.started.wait(WAIT)
    second = queue.submit(lambda control: order.append(2) or "2", "b")
    third = queue.submit(lambda control: order.append(3) or "3", "a")
    assert [queue.jobs_before(job) for job in (running, second, third)] == [0, 1, 2]
    with pytest.raises(UserError, match="2 jobs are waiting"):
        queue.submit(first, "c")
    first.release.set()
    assert [ended(job).result for job in (running, second, third)] == ["done", "2", "3"]
    assert order == [2, 3]


def test_a_running_and_a_waiting_job_can_be_cancelled(queue: Queue) -> None:
    first = Blocker()
    running = queue.submit(first, "a")
    assert first.started.wait(WAIT)
    waiting = queue.submit(lambda control: "w", "b")
    other = queue.submit(lambda control: "o", "c")
    queue.cancel("b")
    assert ended(waiting).was_cancelled and not running.finished.is_set()
    queue.cancel("a")
    assert ended(running).was_cancelled
    assert ended(other).result == "o"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a.png: is\nbroken"), "a.png: is broken"),
        (RunError("out of memory"), "out of memory"),
        (FileNotFoundError(2, "No such file", "a.png"), "a.png: No such file"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_an_error_is_one_line_and_the_next_job_runs(
    queue: Queue, error: Exception, line: str
) -> None:
    def fail(control: Control) -> None:
        raise error

    assert ended(queue.submit(fail, "a")).error == line
    assert ended(queue.submit(lambda control: 1, "a")).result == 1


def test_progress_grows_with_more_steps_than_expected() -> None:
    control = Control()
    control.progress(3, 2)
    assert (control.done, control.total) == (3, 3)


def test_close_cancels_everything() -> None:
    queue, first = Queue(), Blocker()
    jobs = [queue.submit(first, "a"), queue.submit(first, "b")]
    assert first.started.wait(WAIT)
    queue.close()
    assert all(ended(job).was_cancelled for job in jobs)

"""Counts CPU cores and processes files in threads.

Threads suffice because image decoders and disk reads release the interpreter's lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_MAX_THREADS = 16
_TASKS_PER_THREAD = 4  # that are queued, running or finished: bounds the memory

T = TypeVar("T")
R = TypeVar("R")


def cpu_count() -> int:
    """Returns the number of CPU cores that this process may use; at least 1."""
    if hasattr(os, "sched_getaffinity"):  # macOS and Windows lack it
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_threads(function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
    """Applies ``function`` to each item in threads; yields the results in order.

    ``items`` is read only a few items ahead, so memory is bounded. After an error, running tasks
    are finished and queued ones are dropped.

    Raises:
        Exception: the first error of ``function``, at its place among the results.
    """
    threads = min(_MAX_THREADS, cpu_count())
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _TASKS_PER_THREAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

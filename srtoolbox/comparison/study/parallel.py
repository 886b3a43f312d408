"""Runs trainings and evaluations of a study in parallel, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.queues import Queue
from typing import Protocol

import torch

from srtoolbox.comparison.study.plan import Job
from srtoolbox.comparison.study.work import Work
from srtoolbox.engine.training.signals import ignore_repeated_signals
from srtoolbox.errors import ComponentError, RunError
from srtoolbox.plugins import load_entry_points, load_plugins
from srtoolbox.utils.console import set_up_logging
from srtoolbox.utils.cpu import cpu_count
from srtoolbox.utils.files import interrupt_on
from srtoolbox.utils.processes import end_with_parent


@dataclass(frozen=True)
class Task:
    """A training or an evaluation.

    Attributes:
        name: Its name, unique in the study.
        job: The job that it belongs to; for a training, the first one that needs it.
        work: Returns the work when it starts; None if there is nothing left to do.
        training: Name of the training that must succeed first; None: there is none.
        after: Name of an evaluation that must end first; None: there is none.
        is_training: Whether it is a training.
    """

    name: str
    job: Job
    work: Callable[[], Work | None]
    training: str | None = None
    after: str | None = None
    is_training: bool = False


class Workers(Protocol):
    """Processes that do work, here or on other machines.

    Attributes:
        count: How many tasks run at a time.
    """

    count: int

    def __enter__(self) -> object: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...

    def start(self, name: str, work: Work) -> None:
        """Starts a task; called only while fewer than ``count`` run."""

    def wait(self) -> tuple[str, str | None]:
        """Waits until a task ends; returns its name, and the reason if it failed."""
        ...


def run_in_parallel(tasks: Sequence[Task], workers: Workers) -> Iterator[tuple[Task, str | None]]:
    """Runs tasks, ``workers.count`` at a time, and yields each when it ends.

    An evaluation starts as soon as its training is finished, before the trainings that wait.
    Evaluations that need no training are last, because trainings take longer. Tasks of one kind
    start in their order. The evaluations of a failed training are not run and not yielded.

    Args:
        tasks: The tasks; one names only tasks in front of it.
        workers: The processes.

    Yields:
        A task that has ended, and the reason if it failed.
    """
    names = {task.name for task in tasks}
    waiting = sorted(tasks, key=_priority)
    ended: set[str] = set()
    running: dict[str, Task] = {}

    def is_ready(task: Task) -> bool:
        return all(name not in names or name in ended for name in (task.training, task.after))

    with workers:
        while waiting or running:
            free = workers.count - len(running)
            for task in [task for task in waiting if is_ready(task)][:free]:
                waiting.remove(task)
                work = task.work()
                if work is None:
                    ended.add(task.name)
                    yield task, None
                    break  # tasks that waited for it may be ready now
                running[task.name] = task
                workers.start(task.name, work)
            else:
                if not running:
                    continue
                name, failure = workers.wait()
                task = running.pop(name)
                ended.add(name)
                if failure is not None and task.is_training:
                    dropped = [other for other in waiting if other.training == name]
                    ended.update(other.name for other in dropped)
                    waiting = [other for other in waiting if other not in dropped]
                yield task, failure


def _priority(task: Task) -> int:
    if task.is_training:
        return 1
    return 2 if task.training is None else 0


def count_workers(jobs: int, tasks: int, device: torch.device, threads: int | None) -> int:
    """Returns the number of trainings and evaluations that run in parallel.

    Args:
        jobs: Number that the study asks for.
        tasks: Number of trainings and evaluations.
        device: A device; ``cuda`` without an index means all GPUs, with one task on each.
        threads: CPU threads of each task; None: at least one.
    """
    if device.type == "cuda":
        limit = torch.cuda.device_count() if device.index is None else 1
    else:
        limit = cpu_count() // (threads or 1)
    return max(1, min(jobs, tasks, limit))


class Processes:
    """Processes on this machine, which end with this one, however it ends.

    With several GPUs each process has its own. At SIGINT or SIGTERM every training saves its state
    first, and all other processes end at once. A second signal kills all.

    Args:
        count: Number of processes.
        device: A device; ``cuda`` without an index means all GPUs.
        plugins: Plugins that each process loads.
    """

    def __init__(self, count: int, device: torch.device, plugins: Sequence[str] = ()) -> None:
        self.count = count
        context = multiprocessing.get_context("spawn")
        all_gpus = device.type == "cuda" and device.index is None
        devices = context.Queue()
        for index in range(count):
            devices.put(f"cuda:{index}" if all_gpus else str(device))
        self._pool = ProcessPoolExecutor(count, context, _init_process, (devices, tuple(plugins)))
        self._running: dict[Future[None], str] = {}
        self._signals = ExitStack()

    def __enter__(self) -> Processes:
        self._signals.enter_context(interrupt_on(signal.SIGTERM))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                for process in multiprocessing.active_children():
                    process.terminate()  # a training saves its state first
            self._pool.shutdown(wait=True, cancel_futures=True)
        except KeyboardInterrupt:  # a second signal: the user does not want to wait
            for process in multiprocessing.active_children():
                process.kill()
            raise
        finally:
            self._signals.close()

    def start(self, name: str, work: Work) -> None:
        self._running[self._pool.submit(_work, work)] = name

    def wait(self) -> tuple[str, str | None]:
        """Waits until a task ends.

        Raises:
            RunError: if a process died.
        """
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        future = next(future for future in self._running if future in done)
        name = self._running.pop(future)
        try:
            future.result()
        except (RunError, ComponentError) as error:
            return name, str(error)
        except BrokenProcessPool as error:
            raise RunError(
                "a process died in a training or an evaluation (out of memory?); run the same "
                "command again to resume, with a lower 'jobs' if it happens again"
            ) from error
        return name, None


_device = "cpu"  # of this process


def _init_process(devices: Queue[str], plugins: Sequence[str]) -> None:
    """Prepares a process of the pool."""
    global _device
    _device = devices.get()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # between trainings; a training handles it
    # When one process has ended, the pool sends SIGTERM to the others, after that of `__exit__`.
    ignore_repeated_signals()
    set_up_logging(progress=False)
    end_with_parent()
    load_entry_points()
    load_plugins(plugins)


def _work(work: Work) -> None:
    try:
        work.run(torch.device(_device))
    except KeyboardInterrupt:  # the state is saved; end before the next queued training starts
        os._exit(130)

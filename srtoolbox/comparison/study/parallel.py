"""Several trainings of a study at a time, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from queue import Queue

import torch

from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.train import train
from srtoolbox.errors import RunError
from srtoolbox.plugins import load_entry_points, load_plugins
from srtoolbox.utils.console import set_up_logging

Training = tuple[RunOptions, Path]


def count_workers(wanted: int, trainings: int, device: torch.device, threads: int | None) -> int:
    """How many trainings run at a time: as wanted, but no more than there are GPUs or cores."""
    if device.type == "cuda":
        places = torch.cuda.device_count() if device.index is None else 1
    else:
        places = max(1, len(os.sched_getaffinity(0)) // (threads or 1)) if wanted > 1 else 1
    return max(1, min(wanted, trainings, places))


def train_side_by_side(
    trainings: Sequence[Training], device: torch.device, workers: int, threads: int
) -> dict[Path, str]:
    """Trains all of them, ``workers`` at a time.

    With several GPUs each process has one of its own. The results are in the runs' folders, where
    ``train`` finds them finished. Processes end with this one, however it ends.

    Args:
        trainings: Options and folder of each.
        device: A device; ``cuda`` without an index stands for all GPUs.
        workers: Processes.
        threads: CPU threads of each.

    Returns:
        Why a training failed, by folder, for those that did.
    """
    plugins = list(dict.fromkeys(entry for opt, _ in trainings for entry in opt.plugins))
    context = multiprocessing.get_context("spawn")
    devices = context.Queue()
    for index in range(workers):
        spread = device.type == "cuda" and device.index is None
        devices.put(f"cuda:{index}" if spread else str(device))
    pool = ProcessPoolExecutor(workers, context, _start, (devices, threads, plugins))
    with _sigterm_interrupts():
        try:
            futures = {folder: pool.submit(_train, opt, folder) for opt, folder in trainings}
            failures = {folder: _failure(future) for folder, future in futures.items()}
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()  # a training saves its state first
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return {folder: reason for folder, reason in failures.items() if reason}


def _failure(future: Future[None]) -> str | None:
    try:
        future.result()
    except RunError as error:
        return str(error)
    except BrokenProcessPool as error:
        raise RunError(
            "a training process died (out of memory?); run the same command again to go on, with "
            "a lower 'jobs' if it happens again"
        ) from error
    return None


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Makes SIGTERM end the wait for the trainings in the same way as Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


_device = "cpu"  # of this process


def _start(devices: Queue, threads: int, plugins: Sequence[str]) -> None:
    """Prepares a process of the pool."""
    global _device
    _device = devices.get()
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # outside of a training, which handles it
    set_up_logging(progress=False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    load_entry_points()
    load_plugins(plugins)


def _end_with_parent() -> None:
    """Else an orphan would go on writing to a run that the next command takes up."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _train(opt: RunOptions, folder: Path) -> None:
    try:
        train(opt, torch.device(_device), resume=True, folder=folder)
    except KeyboardInterrupt:  # the state is saved; what waits in the queue must not be begun
        os._exit(130)

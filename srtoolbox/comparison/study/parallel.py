"""Runs several trainings of a study in parallel, each in its own process."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import Queue
from pathlib import Path

import torch

from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.train import train
from srtoolbox.errors import ComponentError, RunError
from srtoolbox.plugins import load_entry_points, load_plugins
from srtoolbox.utils.console import set_up_logging
from srtoolbox.utils.cpu import cpu_count
from srtoolbox.utils.files import interrupt_on
from srtoolbox.utils.processes import end_with_parent


def count_workers(jobs: int, trainings: int, device: torch.device, threads: int | None) -> int:
    """Returns the number of trainings that run in parallel.

    Args:
        jobs: Number that the study asks for.
        trainings: Number of trainings.
        device: A device; ``cuda`` without an index means all GPUs, with one training on each.
        threads: CPU threads of each training; None: at least one.
    """
    if device.type == "cuda":
        limit = torch.cuda.device_count() if device.index is None else 1
    else:
        limit = cpu_count() // (threads or 1)
    return max(1, min(jobs, trainings, limit))


def train_in_parallel(
    trainings: Mapping[Path, RunOptions],
    device: torch.device,
    workers: int,
    threads: int,
    study: Path | None = None,
) -> dict[Path, str]:
    """Runs trainings, ``workers`` at a time.

    With several GPUs each process has its own. The results are in the folders of the runs, where
    ``train`` finds them finished. The processes end with this one, however it ends.

    Args:
        trainings: Options by the folder of the run.
        device: A device; ``cuda`` without an index means all GPUs.
        workers: Number of processes.
        threads: CPU threads of each process.
        study: Folder of the study, by which trackers group the runs.

    Returns:
        The reasons of failed trainings by folder.

    Raises:
        RunError: if a process died.
    """
    plugins = list(dict.fromkeys(entry for opt in trainings.values() for entry in opt.plugins))
    context = multiprocessing.get_context("spawn")
    all_gpus = device.type == "cuda" and device.index is None
    devices = context.Queue()
    for index in range(workers):
        devices.put(f"cuda:{index}" if all_gpus else str(device))
    pool = ProcessPoolExecutor(workers, context, _init_process, (devices, threads, plugins))
    failures: dict[Path, str] = {}
    with interrupt_on(signal.SIGTERM):
        try:
            futures = {
                folder: pool.submit(_train, opt, folder, study) for folder, opt in trainings.items()
            }
            for folder, future in futures.items():
                try:
                    future.result()
                except (RunError, ComponentError) as error:
                    failures[folder] = str(error)
                except BrokenProcessPool as error:
                    raise RunError(
                        "a training process died (out of memory?); run the same command again to "
                        "resume, with a lower 'jobs' if it happens again"
                    ) from error
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()  # a training saves its state first
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return failures


_device = "cpu"  # of this process


def _init_process(devices: Queue[str], threads: int, plugins: Sequence[str]) -> None:
    """Prepares a process of the pool."""
    global _device
    _device = devices.get()
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # between trainings; a training handles it
    set_up_logging(progress=False)
    end_with_parent()
    load_entry_points()
    load_plugins(plugins)


def _train(opt: RunOptions, folder: Path, study: Path | None) -> None:
    try:
        train(opt, torch.device(_device), resume=True, folder=folder, study=study)
    except KeyboardInterrupt:  # the state is saved; end before the next queued training starts
        os._exit(130)

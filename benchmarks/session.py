"""Times a training by the real trainer, block by block of a few steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from srtoolbox.bench.network import SEED
from srtoolbox.data.base import TrainDataset
from srtoolbox.engine.device.precision import synchronize
from srtoolbox.engine.options import (
    DatasetsOptions,
    LoggerOptions,
    RunOptions,
    TrainOptions,
    ValOptions,
)
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.reporter import Reporter
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.utils.files import read_lines


class Block(NamedTuple):
    """A few training steps: their seconds, and the share of time spent waiting for samples."""

    seconds: float
    wait: float


def train_in_blocks(
    net: nn.Module,
    dataset: TrainDataset,
    opt: TrainOptions,
    device: torch.device,
    folder: Path,
    steps: int,
    between: Callable[[int], None] = lambda _: None,
) -> list[Block]:
    """Trains ``net`` as `srtoolbox train` does and times every block of ``steps`` steps.

    A block ends with a log point, so its time includes terminal, ``log.jsonl`` and TensorBoard. It
    does not include checkpoints, which a run writes every few thousand steps.

    Args:
        net: The network, on ``device``.
        dataset: The training dataset.
        opt: Training options; ``total_iter`` is a multiple of ``steps``.
        device: Where to train.
        folder: A new folder for the run's files.
        steps: Steps in a block.
        between: Called with the number of the finished block; its time is not counted.

    Returns:
        The blocks. The first is a warm-up that also starts the workers.
    """
    times: list[float] = []
    resumed = 0.0

    def end_block(*_: object) -> dict[str, float | None]:  # an evaluation: the device is idle
        nonlocal resumed
        times.append(time.perf_counter() - resumed)
        between(len(times) - 1)
        synchronize(device)
        resumed = time.perf_counter()
        return {}

    run = RunOptions(
        name="bench",
        network_g={"type": type(net).__name__},
        datasets=DatasetsOptions(),
        manual_seed=SEED,
        train=opt,
        val=ValOptions(val_freq=steps),
        logger=LoggerOptions(print_freq=steps, save_checkpoint_freq=opt.total_iter),
    )
    checkpoints = CheckpointFolder(folder / "checkpoints")
    trainer = Trainer(run, net, dataset, checkpoints, device, end_block)
    folder.mkdir(parents=True)
    reporter = Reporter(folder, "bench", opt.total_iter)
    resumed = time.perf_counter()
    trainer.run(reporter)
    waits = [record["data wait"] for record in read_lines(folder / "log.jsonl")]
    return [Block(*pair) for pair in zip(times, waits, strict=True)]

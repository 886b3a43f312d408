"""A training by the real trainer that is stopped every few steps to look at the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from srtoolbox.bench.network import SEED
from srtoolbox.config.schema import build
from srtoolbox.data import SampleStream
from srtoolbox.engine.device.precision import synchronize
from srtoolbox.engine.options import LoggerOptions, TrainOptions
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.reporter import Reporter
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.models import SRModel
from srtoolbox.utils.files import read_lines


class Block(NamedTuple):
    """Some steps of a training: their seconds, and the share of them spent waiting for data."""

    seconds: float
    wait: float


def train_in_blocks(
    net: nn.Module,
    dataset: Any,
    section: TrainOptions,
    device: torch.device,
    folder: Path,
    steps: int,
    between: Callable[[int], None] = lambda _: None,
) -> list[Block]:
    """Trains ``net`` as `srtoolbox train` does and times every block of ``steps`` steps.

    A block ends with a log point: the terminal, ``log.jsonl`` and TensorBoard are in its time.
    Checkpoints are not: in a run there are thousands of steps between them.

    Args:
        net: The network, on ``device``.
        dataset: What it is trained on.
        section: How; ``total_iter`` is a multiple of ``steps``.
        device: Where.
        folder: Gets the run's files; is new.
        steps: Steps in a block.
        between: Called with the number of the block that has ended; its time does not count.

    Returns:
        The blocks. The first is a warm-up, in which workers are started too.
    """
    losses = {name: build("loss", spec) for name, spec in section.losses.items()}
    times: list[float] = []
    resumed = 0.0

    def look(_: int, __: nn.Module) -> None:  # in place of an evaluation; the device is idle
        nonlocal resumed
        times.append(time.perf_counter() - resumed)
        between(len(times) - 1)
        synchronize(device)
        resumed = time.perf_counter()

    trainer = Trainer(
        SRModel(net, losses, dataset.reference),
        SampleStream(dataset, SEED, section.batch_size),
        section,
        LoggerOptions(print_freq=steps, save_checkpoint_freq=section.total_iter),
        CheckpointFolder(folder / "checkpoints"),
        device,
        look,
        steps,
    )
    folder.mkdir(parents=True)
    reporter = Reporter(folder, "bench", section.total_iter)
    resumed = time.perf_counter()
    trainer.run(reporter)
    waits = [record["data wait"] for record in read_lines(folder / "log.jsonl")]
    return [Block(*pair) for pair in zip(times, waits, strict=True)]

"""A training so small that it takes a fraction of a second, from options to a trainer."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from srtoolbox.config.load import load_options
from srtoolbox.config.schema import build
from srtoolbox.data import SampleStream
from srtoolbox.engine.build import build_dataset, build_network
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.reporter import Reporter
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.models import SRModel

CPU = torch.device("cpu")

TINY = """
name: tiny
scale: 4
datasets:
  train: {type: SampleBursts, split: train, num_frame: 2, gt_size: 32}
  val:
    sample: {type: SampleBursts, split: val, num_frame: 2, gt_size: 32, num_burst: 2}
network_g: {type: EDSR, num_feat: 4, num_block: 1}
train:
  total_iter: 6
  batch_size: 2
  optim_g: {type: Adam, lr: 1e-3}
val:
  val_freq: 3
  metrics: {psnr: {type: PSNR}}
logger: {print_freq: 2, save_checkpoint_freq: 2, use_tb_logger: false}
"""

Options = Callable[..., RunOptions]
Start = Callable[..., Trainer]


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """``options("train.total_iter=4", …)``: the tiny run, writing below ``tmp_path``."""
    file = tmp_path / "tiny.yml"
    file.write_text(TINY)

    def make(*overrides: str) -> RunOptions:
        root = f"path.experiments_root={tmp_path / 'experiments'}"
        return load_options(file, [root, *overrides], RunOptions)[0]

    return make


@pytest.fixture
def start() -> Start:
    """``start(opt, folder)``: a trainer of these options that goes on from ``folder``."""

    def make(
        opt: RunOptions,
        folder: Path,
        evaluate: Callable[[int, nn.Module], None] | None = None,
        net: nn.Module | None = None,
        dataset: Any = None,
    ) -> Trainer:
        net = net or build_network(opt, CPU)
        dataset = dataset or build_dataset("train", opt.datasets.train, opt, net)
        losses = {name: build("loss", spec) for name, spec in opt.train.losses.items()}
        trainer = Trainer(
            SRModel(net, losses, dataset.reference),
            SampleStream(dataset, opt.manual_seed, opt.train.batch_size),
            opt.train,
            opt.logger,
            CheckpointFolder(folder / "checkpoints", opt.logger.keep_checkpoint),
            CPU,
            evaluate,
            1,
        )
        state = trainer.checkpoints.load_latest(CPU)
        if state is not None:
            trainer.load_state_dict(state)
        return trainer

    return make


@pytest.fixture
def go() -> Callable[[Trainer, Path], Trainer]:
    """``go(trainer, folder)``: trains to the end and hands the trainer back."""

    def run(trainer: Trainer, folder: Path) -> Trainer:
        total = trainer.section.total_iter
        trainer.run(Reporter(folder, "tiny", total, trainer.step, tensorboard=False))
        return trainer

    return run


@pytest.fixture
def stop_in() -> Callable[..., Trainer]:
    """``stop_in(3, trainer)``: that trainer, which a signal will meet in the midst of step 3."""

    def prepare(step: int, trainer: Trainer, number: int = signal.SIGTERM) -> Trainer:
        def arrive(net: nn.Module, _: tuple) -> None:
            if trainer.step + 1 == step and net.training:
                handle.remove()
                signal.raise_signal(number)

        handle = trainer.model.networks["g"].register_forward_pre_hook(arrive)
        return trainer

    return prepare


@pytest.fixture
def same() -> Callable[[Any, Any], bool]:
    """Whether two states are equal to the last bit, tensors included."""

    def equal(one: Any, other: Any) -> bool:
        if isinstance(one, torch.Tensor):
            return one.dtype == other.dtype and torch.equal(one, other)
        if isinstance(one, dict):
            return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
        if isinstance(one, list | tuple):
            return len(one) == len(other) and all(map(equal, one, other))
        return bool(one == other)

    return equal


@pytest.fixture
def outcome() -> Callable[[Iterable[dict]], list[dict]]:
    """Log records without what depends on the machine's speed."""

    def strip(records: Iterable[dict]) -> list[dict]:
        speed = ("it/s", "data wait", "memory", "seconds")
        return [{k: v for k, v in record.items() if k not in speed} for record in records]

    return strip

"""Starts, stops and compares small trainings."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srtoolbox.engine.build import build_dataset, build_network
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.reporter import Reporter
from srtoolbox.engine.training.train import Trained, train
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.engine.weights.load import load_weights, weights_hash

CPU = torch.device("cpu")


def run(opt: RunOptions, resume: bool = False, folder: Path | None = None) -> Trained:
    return train(opt, CPU, resume=resume, folder=folder)


def best_of(opt: RunOptions) -> str:
    net = build_network(opt, CPU)
    load_weights(net, opt.folder / "weights" / "net_g_best.pth")
    return weights_hash(net)


def start(
    opt: RunOptions,
    folder: Path,
    evaluate: Callable[[int, nn.Module], object] | None = None,
    net: nn.Module | None = None,
    dataset: Any = None,
    device: torch.device = CPU,
) -> Trainer:
    """Returns a trainer that resumes from ``folder`` and evaluates every step."""
    net = net or build_network(opt, device)
    dataset = dataset or build_dataset("train", opt.datasets.train, opt, net)
    checkpoints = CheckpointFolder(folder / "checkpoints", opt.logger.keep_checkpoint)
    hook = evaluate and (lambda trainer, _: evaluate(trainer.step, trainer.result))
    trainer = Trainer(opt, net, dataset, checkpoints, device, hook)
    trainer.eval_freq = 1
    trainer.resume()
    return trainer


def go(trainer: Trainer, folder: Path) -> Trainer:
    """Trains to the end and returns the trainer."""
    trainer.run(Reporter(folder, "tiny", trainer.opt.total_iter, trainer.step, tensorboard=False))
    return trainer


def stop_in(step: int, trainer: Trainer, number: int = signal.SIGTERM) -> Trainer:
    """Returns the trainer; it gets a signal in the middle of ``step``."""

    def arrive(net: nn.Module, _: tuple) -> None:
        if trainer.step + 1 == step and net.training:
            handle.remove()
            signal.raise_signal(number)

    handle = trainer.model.networks["g"].register_forward_pre_hook(arrive)
    return trainer


def wait_for_end(pid: int) -> None:
    """Waits until a child process has ended, and leaves it for others that wait for it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def same(ours: Any, theirs: Any) -> bool:
    """Returns whether two states are equal to the last bit, tensors included."""
    if isinstance(ours, torch.Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs)


def outcome(records: Iterable[dict]) -> list[dict]:
    """Returns log records without values that depend on the machine's speed."""
    speed = ("it/s", "data wait", "memory", "seconds")
    return [{k: v for k, v in record.items() if k not in speed} for record in records]

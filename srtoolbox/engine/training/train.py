"""Trains a network from checked options into a folder; resumes from the last checkpoint."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srtoolbox.archs.base import arch_info
from srtoolbox.config.files import dump, plain
from srtoolbox.engine.build import build_dataset, build_network, fingerprint, load_pretrained
from srtoolbox.engine.device.distributed import SINGLE_PROCESS, Ranks
from srtoolbox.engine.device.precision import resolve
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.probe import probe_metrics, probe_training
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.reporter import NULL_REPORTER, Reporter
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.engine.training.validation import Validation, arch_options
from srtoolbox.engine.weights.load import load_weights, save_weights, weights_hash
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.environment import describe_environment, uncommitted_diff
from srtoolbox.utils.files import locked, remove_torn, wait_for_room, write_atomic

_log = logging.getLogger("srtoolbox")
_OUTPUTS = ("checkpoints", "weights", "log.jsonl", "evaluation.jsonl", "finished.json")


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        net: The network to evaluate (the average of the weights if there is one), in eval mode.
        weights: Hash of its weights.
        step: Number of training steps.
        seconds: Time of the training steps, over all resumes.
        threads: CPU threads that torch used after the last resume.
    """

    net: nn.Module
    weights: str
    step: int
    seconds: float
    threads: int


def train(
    opt: RunOptions,
    device: torch.device,
    *,
    resume: bool,
    folder: Path | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Trained:
    """Trains a network and writes all results into the folder of the run.

    A run that was killed at any moment and then resumed ends with the same bits in its weights,
    its best weights and its logs as an uninterrupted run (on the same device and versions).

    Args:
        opt: Options with a ``train`` section and a training dataset.
        device: Device to train on.
        resume: Continue from the newest usable checkpoint if the folder has a run, else start one.
        folder: Folder of the run; None: the one of the options.
        ranks: The processes that train together. All of them call this; the main one writes.

    Raises:
        UserError: if the folder has another run, or a run and ``resume`` is false, or if another
            process uses it.
        RunError: if the run has checkpoints but all are damaged.
    """
    if opt.train is None or opt.datasets.train is None:
        missing = "train" if opt.train is None else "datasets.train"
        raise UserError(f"{opt.name}: the options have no '{missing}' section")
    if opt.train.batch_size % (ranks.size * opt.train.accumulate):
        raise UserError(
            f"train.batch_size {opt.train.batch_size} is not a multiple of {ranks.size} processes "
            f"times train.accumulate {opt.train.accumulate}"
        )
    folder = folder or opt.folder
    with locked(folder) if ranks.is_main else nullcontext():
        identity = fingerprint(opt)
        finished = _check_run_folder(folder, identity, resume)
        ranks.barrier()  # every process has to check before the main one writes
        net = build_network(opt, device)
        if finished is not None:
            load_weights(net, folder / "weights" / "net_g_latest.pth")
            _log.info("%s is finished (%d steps): %s", opt.name, finished["step"], folder)
            return Trained(net.eval(), **finished)

        if line := load_pretrained(opt, net):
            _log.info("%s", line)
        dataset = build_dataset("train", opt.datasets.train, opt, net)
        probe_metrics(opt.val, opt.scale)
        probe_training(opt, dataset, device, ranks.size)
        num_frame = arch_info(net).num_frame or 1
        if opt.train.num_frame_range and num_frame > 1:
            _log.info(
                "train.num_frame_range: %s always takes %d frames", type(net).__name__, num_frame
            )
        validation = Validation(opt, net, folder, device, ranks) if opt.datasets.val else None
        checkpoints = CheckpointFolder(folder / "checkpoints", opt.logger.keep_checkpoint, identity)
        trainer = Trainer(opt, net, dataset, checkpoints, device, validation, ranks)

        # Not earlier: invalid options must not claim the folder.
        if ranks.is_main:
            _claim_run_folder(folder, opt, identity, device)
            remove_torn(folder)
        ranks.barrier()
        if trainer.resume():
            _log.info("%s resumes at step %d", opt.name, trainer.step)
        reporter = NULL_REPORTER
        if ranks.is_main:
            steps = opt.train.total_iter, trainer.step, trainer.evaluated
            reporter = Reporter(folder, opt.name, *steps, opt.logger.use_tb_logger)
        trainer.run(reporter)
        return _finish(opt, trainer, net, folder)


def _finish(opt: RunOptions, trainer: Trainer, net: nn.Module, folder: Path) -> Trained:
    """Writes the final weights, then ``finished.json``."""
    result = trainer.result
    summary = {
        "weights": weights_hash(result),
        "step": trainer.step,
        "seconds": trainer.seconds,
        "threads": torch.get_num_threads(),
    }
    if trainer.ranks.is_main:
        average = result if trainer.ema is not None else None
        weights, card = folder / "weights" / "net_g_latest.pth", folder / "finished.json"
        arch = arch_options(opt)
        wait_for_room(lambda: save_weights(weights, arch, net, average), weights)
        wait_for_room(lambda: write_atomic(card, json.dumps(summary)), card)
    return Trained(result.eval(), **summary)


def _check_run_folder(folder: Path, identity: str, resume: bool) -> dict[str, Any] | None:
    """Refuses a folder that has another run; returns the summary of a finished run."""
    card = folder / "run.json"
    if not card.exists():
        outputs = [name for name in _OUTPUTS if (folder / name).exists()]
        if outputs:
            raise UserError(
                f"{folder} contains {', '.join(outputs)} but no run.json, so it is not a run "
                "folder; left untouched; choose another name"
            )
        return None
    if not resume:
        raise UserError(
            f"{folder} holds a run already; continue it with --resume, or choose another name"
        )
    try:
        found = json.loads(card.read_text())["fingerprint"]
    except (ValueError, TypeError, KeyError):
        raise RunError(f"{card} is damaged; restore a copy of it, or remove {folder}") from None
    if found != identity:
        raise UserError(
            f"{folder} holds a run with other options ({folder / 'options.yml'}); choose "
            "another name; to start from its weights, set path.pretrain_network_g"
        )
    finished = folder / "finished.json"
    return json.loads(finished.read_text()) if finished.exists() else None


def _claim_run_folder(folder: Path, opt: RunOptions, identity: str, device: torch.device) -> None:
    """Writes the files that mark the folder as this run's, unless they exist."""
    assert opt.train is not None
    card = folder / "run.json"
    if card.exists():
        return
    try:
        write_atomic(folder / "options.yml", dump({"name": opt.name, **plain(opt)}))
        precision = resolve(opt.train.precision, device)
        text = json.dumps({**describe_environment(device), "precision": precision}, indent=2)
        write_atomic(folder / "environment.json", text)
        if diff := uncommitted_diff():
            write_atomic(folder / "uncommitted.diff", diff)
        write_atomic(card, json.dumps({"name": opt.name, "fingerprint": identity}))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error

"""From checked options to a trained network in a folder; goes on where an earlier try ended."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from srtoolbox.data.stream import SampleStream
from srtoolbox.engine.checkpoint import CheckpointFolder
from srtoolbox.engine.environment import describe_environment
from srtoolbox.engine.evaluator import Evaluator, average
from srtoolbox.engine.files import write_atomic
from srtoolbox.engine.reporter import Reporter
from srtoolbox.engine.run import (
    RunOptions,
    build_dataset,
    build_model,
    build_network,
    check_crop,
    fingerprint,
    load_pretrained,
)
from srtoolbox.engine.trainer import Trainer
from srtoolbox.engine.weights import load_weights, save_weights, weights_hash
from srtoolbox.errors import UserError
from srtoolbox.inference.prediction import PLAIN
from srtoolbox.options import dump, plain

_log = logging.getLogger("srtoolbox")


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        net: The network to evaluate (the average, where one was kept), in eval mode.
        weights: Hash of its weights.
        step: Steps trained.
        seconds: Time spent in training steps, over all tries.
        threads: CPU threads that torch used in the last try.
    """

    net: nn.Module
    weights: str
    step: int
    seconds: float
    threads: int


def train(
    opt: RunOptions, device: torch.device, *, resume: bool, folder: Path | None = None
) -> Trained:
    """Trains as the options say and leaves everything in the run's folder.

    Args:
        opt: Options with a ``train`` section and a training dataset.
        device: Where to train.
        resume: Go on from the newest checkpoint in the folder; without one, start.
        folder: Instead of the folder that the options name.

    Raises:
        UserError: if the folder holds another run, or a run and ``resume`` is not set.
    """
    if opt.train is None or opt.datasets.train is None:
        missing = "train" if opt.train is None else "datasets.train"
        raise UserError(f"{opt.name}: the options have no '{missing}' section")
    folder = folder or opt.folder
    identity = fingerprint(opt)
    finished = _look_into(folder, identity, resume)
    net = build_network(opt, device)
    if finished is not None:
        load_weights(net, folder / "weights" / "net_g_latest.pth")
        _log.info("%s is finished (%d steps): %s", opt.name, finished["step"], folder)
        return Trained(net.eval(), **finished)

    _announce(load_pretrained(opt, net))
    dataset = build_dataset("train", opt.datasets.train, opt, net)
    check_crop(dataset, net)
    watched = {
        name: build_dataset(f"val.{name}", spec, opt, net)
        for name, spec in opt.datasets.val.items()
    }
    model = build_model(opt, net, dataset)
    evaluator = Evaluator(opt.val, device, opt.train.precision)
    enhance = opt.val.enhance if opt.val.enhance.in_training else PLAIN

    def evaluate(step: int, candidate: nn.Module) -> None:
        for index, (name, data) in enumerate(watched.items()):
            scores = average(
                evaluator.run(candidate, data, enhance=enhance), evaluator.protocol.average
            )
            reporter.evaluation(step, name, scores)
            if index == 0:
                keep_best(step, scores[opt.val.best_metric], candidate)

    def keep_best(step: int, value: float | None, candidate: nn.Module) -> None:
        sign = 1 if evaluator.metrics[opt.val.best_metric].higher_is_better else -1
        best = trainer.best.get("value")
        if value is None or (best is not None and sign * value <= sign * best):
            return
        trainer.best = {"value": value, "step": step}
        save_weights(folder / "weights" / "net_g_best.pth", arch, candidate)

    arch = {**plain(opt.network_g), "scale": opt.scale}
    trainer = Trainer(
        model,
        SampleStream(dataset, opt.manual_seed, opt.train.batch_size),
        opt.train,
        opt.logger,
        CheckpointFolder(folder / "checkpoints", opt.logger.keep_checkpoint),
        device,
        evaluate if watched else None,
        opt.val.val_freq,
    )
    # Only now: options that could not be built must not claim the folder.
    _enter(folder, opt, identity, device)
    state = trainer.checkpoints.load_latest(device)
    if state is not None:
        trainer.load_state_dict(state)
        _log.info("%s goes on at step %d", opt.name, trainer.step)
    reporter = Reporter(
        folder, opt.name, opt.train.total_iter, trainer.step, opt.logger.use_tb_logger
    )
    trainer.run(reporter)

    ema = trainer.ema.module if trainer.ema is not None else None
    save_weights(folder / "weights" / "net_g_latest.pth", arch, net, ema)
    summary = {
        "weights": weights_hash(trainer.result),
        "step": trainer.step,
        "seconds": trainer.seconds,
        "threads": torch.get_num_threads(),
    }
    write_atomic(folder / "finished.json", json.dumps(summary))
    return Trained(trainer.result.eval(), **summary)


def _look_into(folder: Path, identity: str, resume: bool) -> dict | None:
    """Refuses a folder that holds another run; returns the summary of one that is finished."""
    card = folder / "run.json"
    if not card.exists():
        return None
    if not resume:
        raise UserError(
            f"{folder} holds a run already; go on with it by --resume, or choose another name"
        )
    if json.loads(card.read_text())["fingerprint"] != identity:
        raise UserError(
            f"{folder} holds a run with other options ({folder / 'options.yml'}); choose "
            "another name, and start from its weights by path.pretrain_network_g"
        )
    finished = folder / "finished.json"
    return json.loads(finished.read_text()) if finished.exists() else None


def _enter(folder: Path, opt: RunOptions, identity: str, device: torch.device) -> None:
    """Takes possession of a run's folder, unless this run has it already."""
    card = folder / "run.json"
    if card.exists():
        return
    try:
        write_atomic(folder / "options.yml", dump(opt))
        text = json.dumps(describe_environment(device), indent=2)
        write_atomic(folder / "environment.json", text)
        write_atomic(card, json.dumps({"name": opt.name, "fingerprint": identity}))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error


def _announce(line: str | None) -> None:
    if line:
        _log.info("%s", line)

"""From checked options to a trained network in a folder; goes on where an earlier try ended."""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from srtoolbox.config.files import dump, plain
from srtoolbox.data.stream import SampleStream
from srtoolbox.engine.build import (
    build_dataset,
    build_model,
    build_network,
    check_crop,
    fingerprint,
    load_pretrained,
)
from srtoolbox.engine.device.distributed import SINGLE_PROCESS, Ranks
from srtoolbox.engine.device.precision import resolve
from srtoolbox.engine.evaluation.evaluator import Evaluator, average
from srtoolbox.engine.evaluation.frame_use import FrameWatch
from srtoolbox.engine.evaluation.images import image_writer
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.reporter import NULL_REPORTER, Reporter
from srtoolbox.engine.training.sharding import whole
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.engine.weights.load import load_weights, save_weights, weights_hash
from srtoolbox.errors import RunError, UserError
from srtoolbox.inference.prediction import PLAIN
from srtoolbox.models.frames import varying_frames
from srtoolbox.utils.environment import describe_environment, uncommitted_diff
from srtoolbox.utils.files import locked, remove_torn, wait_for_room, write_atomic

_log = logging.getLogger("srtoolbox")
_PARTS = ("checkpoints", "weights", "log.jsonl", "evaluation.jsonl", "finished.json")


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
    opt: RunOptions,
    device: torch.device,
    *,
    resume: bool,
    folder: Path | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Trained:
    """Trains as the options say and leaves everything in the run's folder.

    A run that was killed, at whatever instant, and goes on ends with the same bits in its weights,
    its best weights and its logs as one that was not (on the same device and versions).

    Args:
        opt: Options with a ``train`` section and a training dataset.
        device: Where to train.
        resume: Go on from the newest usable checkpoint, if there is a run in the folder; else
            start one.
        folder: Instead of the folder that the options name.
        ranks: The processes that train together; all of them call this, and the main one writes.

    Raises:
        UserError: if the folder holds another run, or a run and ``resume`` is not set, or if
            another process is at work in it.
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
        return _train(opt, device, resume, folder, ranks)


def _train(
    opt: RunOptions, device: torch.device, resume: bool, folder: Path, ranks: Ranks
) -> Trained:
    identity = fingerprint(opt)
    finished = _check_run_folder(folder, identity, resume)
    ranks.barrier()  # all must have looked before the main one writes
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
    frames = varying_frames(net, dataset, opt.train.num_frame_range)
    if opt.train.num_frame_range and (net.num_frame or 1) > 1:
        name, fixed = type(net).__name__, net.num_frame
        _announce(f"train.num_frame_range: {name} always takes {fixed} frames")
    model = build_model(opt, net, dataset)
    evaluator = Evaluator(opt.val, device, opt.train.precision)
    enhance = opt.val.enhance if opt.val.enhance.in_training else PLAIN

    save_img = opt.val.save_img
    # All processes have to take part in each forward pass of a sharded network.
    sharing = SINGLE_PROCESS if opt.train.shard else ranks
    watch = None
    if opt.val.frame_use:
        total, precision = opt.train.total_iter, opt.train.precision
        watch = FrameWatch(opt.val, total, device, precision, enhance, sharing)

    def evaluate(step: int, candidate: nn.Module) -> None:
        for index, (name, data) in enumerate(watched.items()):
            keep = image_writer(folder / "images" / name / f"{step:08d}") if save_img else None
            records = evaluator.run(candidate, data, keep, enhance=enhance, ranks=sharing)
            scores = average(records, evaluator.protocol.average)
            gain = None if watch is None else watch.gain_from_frames(candidate, data, scores, step)
            reporter.evaluation(step, name, scores, gain)
            if index == 0:
                keep_best(step, scores[opt.val.best_metric], candidate)

    def keep_best(step: int, value: float | None, candidate: nn.Module) -> None:
        sign = 1 if evaluator.metrics[opt.val.best_metric].higher_is_better else -1
        best = trainer.best.get("value")
        if value is None or (best is not None and sign * value <= sign * best):
            return
        trainer.best = {"value": value, "step": step}
        candidate = whole(candidate)
        if not ranks.is_main:
            return
        path = folder / "weights" / "net_g_best.pth"
        wait_for_room(lambda: save_weights(path, arch, candidate), path)

    arch = {**plain(opt.network_g), "scale": opt.scale}
    trainer = Trainer(
        model,
        SampleStream(
            dataset, opt.manual_seed, opt.train.batch_size, ranks.rank, ranks.size, frames
        ),
        opt.train,
        opt.logger,
        CheckpointFolder(folder / "checkpoints", opt.logger.keep_checkpoint, identity),
        device,
        evaluate if watched else None,
        opt.val.val_freq,
        ranks,
    )
    # Only now: options that could not be built must not claim the folder.
    if ranks.is_main:
        _claim_run_folder(folder, opt, identity, device)
        remove_torn(folder)
    ranks.barrier()
    state = trainer.checkpoints.load_latest(device)
    if state is not None:
        trainer.load_state_dict(state)
        _log.info("%s goes on at step %d", opt.name, trainer.step)
    reporter = NULL_REPORTER
    if ranks.is_main:
        reporter = Reporter(
            folder,
            opt.name,
            opt.train.total_iter,
            trainer.step,
            trainer.evaluated,
            opt.logger.use_tb_logger,
        )
    trainer.run(reporter)

    net, result = whole(net), whole(trainer.result)
    summary = {
        "weights": weights_hash(result),
        "step": trainer.step,
        "seconds": trainer.seconds,
        "threads": torch.get_num_threads(),
    }
    if ranks.is_main:
        ema = result if trainer.ema is not None else None
        weights, card = folder / "weights" / "net_g_latest.pth", folder / "finished.json"
        wait_for_room(lambda: save_weights(weights, arch, net, ema), weights)
        wait_for_room(lambda: write_atomic(card, json.dumps(summary)), card)
    return Trained(result.eval(), **summary)


def _check_run_folder(folder: Path, identity: str, resume: bool) -> dict | None:
    """Refuses a folder that holds another run; returns the summary of one that is finished."""
    card = folder / "run.json"
    if not card.exists():
        parts = [name for name in _PARTS if (folder / name).exists()]
        if parts:
            raise UserError(
                f"{folder} has {', '.join(parts)} but is no folder of a run (run.json is missing); "
                "nothing in it is touched; choose another name"
            )
        return None
    if not resume:
        raise UserError(
            f"{folder} holds a run already; go on with it by --resume, or choose another name"
        )
    try:
        found = json.loads(card.read_text())["fingerprint"]
    except (ValueError, TypeError, KeyError):
        raise RunError(f"{card} is damaged; put back a copy of it, or remove {folder}") from None
    if found != identity:
        raise UserError(
            f"{folder} holds a run with other options ({folder / 'options.yml'}); choose "
            "another name, and start from its weights by path.pretrain_network_g"
        )
    finished = folder / "finished.json"
    return json.loads(finished.read_text()) if finished.exists() else None


def _claim_run_folder(folder: Path, opt: RunOptions, identity: str, device: torch.device) -> None:
    """Takes possession of a run's folder, unless this run has it already."""
    card = folder / "run.json"
    if card.exists():
        return
    try:
        write_atomic(folder / "options.yml", dump(opt))
        precision = resolve(opt.train.precision, device)
        text = json.dumps({**describe_environment(device), "precision": precision}, indent=2)
        write_atomic(folder / "environment.json", text)
        if diff := uncommitted_diff():
            write_atomic(folder / "uncommitted.diff", diff)
        write_atomic(card, json.dumps({"name": opt.name, "fingerprint": identity}))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error


def _announce(line: str | None) -> None:
    if line:
        _log.info("%s", line)

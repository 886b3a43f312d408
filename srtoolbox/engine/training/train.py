"""Trains a network from checked options into a folder; resumes from the last checkpoint."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Collection, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from srtoolbox.archs.base import arch_info
from srtoolbox.config.files import dump, plain
from srtoolbox.data.base import TrainDataset, dataset_info
from srtoolbox.engine.build import (
    build_dataset,
    build_network,
    fingerprint,
    load_pretrained,
    own_training_code,
)
from srtoolbox.engine.device.distributed import SINGLE_PROCESS, Ranks
from srtoolbox.engine.device.precision import resolve
from srtoolbox.engine.device.probe import warn_of_slow_format
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.probe import probe_metrics, probe_training
from srtoolbox.engine.training.acceleration import undo_acceleration
from srtoolbox.engine.training.acceleration_probe import (
    Choices,
    apply_choices,
    log_choices,
    measure_choices,
    stored_choices,
)
from srtoolbox.engine.training.checkpoint import CheckpointFolder, removed
from srtoolbox.engine.training.folder import (
    check_run_folder,
    find_finished,
    read_card,
    warn_about_finished_run,
)
from srtoolbox.engine.training.reporter import NULL_REPORTER, Reporter
from srtoolbox.engine.training.trackers.base import TrackedRun
from srtoolbox.engine.training.trackers.build import build_trackers, writes_tensorboard
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.engine.training.validation import Validation, arch_options
from srtoolbox.engine.weights.load import file_hash, load_weights, save_weights, weights_hash
from srtoolbox.engine.weights.pixels import pixel_facts
from srtoolbox.engine.weights.whole import BEST_WEIGHTS, FINAL_WEIGHTS, state_hash
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.environment import describe_environment, uncommitted_diff
from srtoolbox.utils.files import locked, remove_torn, wait_for_room, write_atomic

_log = logging.getLogger("srtoolbox")


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
    study: Path | None = None,
) -> Trained:
    """Trains a network and writes all results into the folder of the run.

    A run that was killed at any moment and then resumed ends with the same bits in its weights,
    its best weights and its logs as an uninterrupted run (on the same device and versions; with
    several processes, losses in the logs may differ in the last bits).

    Args:
        opt: Options with a ``train`` section and a training dataset.
        device: Device to train on.
        resume: Continue from the newest usable checkpoint if the folder has a run, else start one.
        folder: Folder of the run; None: the one of the options.
        ranks: The processes that train together. All of them call this; the main one writes.
        study: Folder of the study that the run belongs to, by which trackers group runs.

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
        earlier = check_run_folder(folder, opt, identity, resume)
        finished = find_finished(folder, opt)
        ranks.barrier()  # every process has to check before the main one writes
        net = build_network(opt, device)
        if finished is not None:
            checkpoints = CheckpointFolder(folder / "checkpoints", run=identity, earlier=earlier)
            _load_final_weights(opt, net, folder, checkpoints, finished["weights"], ranks)
            _log.info("%s is finished (%d steps): %s", opt.name, finished["step"], folder)
            warn_about_finished_run(folder, opt)
            return Trained(undo_acceleration(net).eval(), **finished)

        warn_of_slow_format(device, opt.train.precision)

        if line := load_pretrained(opt, net):
            _log.info("%s", line)
        dataset = build_dataset("train", opt.datasets.train, opt, net)
        probe_metrics(opt.val, opt.scale, dataset_info(dataset).gt_channels or 3)
        probe_training(opt, dataset, device, ranks.size)
        num_frame = arch_info(net).num_frame or 1
        if opt.train.num_frame_range and num_frame > 1:
            _log.info(
                "train.num_frame_range: %s always takes %d frames", type(net).__name__, num_frame
            )
        trackers = build_trackers(opt.logger)
        validation = Validation(opt, net, folder, device, ranks) if opt.datasets.val else None
        checkpoints = CheckpointFolder(
            *(folder / "checkpoints", opt.logger.keep_checkpoint, identity, earlier),
            card=folder / "run.json",
        )
        choices = _choose(opt, net, dataset, folder, (identity, *earlier), device, ranks)
        decided = replace(opt, train=apply_choices(opt.train, choices))
        trainer = Trainer(decided, net, dataset, checkpoints, device, validation, ranks)

        # Not earlier: invalid options must not claim the folder.
        if ranks.is_main:
            _claim_run_folder(folder, opt, identity, device, earlier, choices)
            remove_torn(folder)
        ranks.barrier()
        if trainer.resume():
            _log.info("%s resumes at step %d", opt.name, trainer.step)
        reporter = NULL_REPORTER
        if ranks.is_main:
            steps = opt.train.total_iter, trainer.step, trainer.evaluated
            tracked = TrackedRun(
                *(folder, {"name": opt.name, **plain(opt)}),
                group=study and study.name,
                group_folder=study or folder,
                identities=(identity, *earlier),
            )
            tensorboard = writes_tensorboard(opt.logger)
            reporter = Reporter(folder, opt.name, *steps, tensorboard, trackers, tracked)
        trainer.run(reporter)
        return _finish(opt, trainer, net, folder)


def _choose(
    opt: RunOptions,
    net: nn.Module,
    dataset: TrainDataset,
    folder: Path,
    identities: Collection[str],
    device: torch.device,
    ranks: Ranks,
) -> Choices:
    """Returns the decisions on options that are ``auto``; all processes must call this.

    They are those of the first start of the run, or new measurements of the main process.
    """
    assert opt.train is not None
    if not opt.train.measured:
        return {}
    choices: Choices | None = None
    if ranks.is_main:
        card = folder / "run.json"
        found = read_card(card) if card.exists() else {}
        if found.get("fingerprint") in identities:
            choices = stored_choices(found.get("measured"), card, opt.train)
        earlier = choices is not None
        if choices is None:
            _log.info("%s: measuring steps for train.%s", opt.name, ", ".join(opt.train.measured))
            choices = measure_choices(opt, net, dataset, device, ranks.size)
        log_choices(choices, earlier=earlier)
    return cast(Choices, ranks.gather([choices])[0])


def _finish(opt: RunOptions, trainer: Trainer, net: nn.Module, folder: Path) -> Trained:
    """Writes the final weights, then ``finished.json``."""
    if trainer.ranks.is_main and not (folder / "run.json").exists():
        raise removed(folder)
    result = trainer.result
    summary = {
        "weights": weights_hash(result),
        "step": trainer.step,
        "seconds": trainer.seconds,
        "threads": torch.get_num_threads(),
    }
    if trainer.ranks.is_main:
        average = result if trainer.ema is not None else None
        weights, card = folder / "weights" / FINAL_WEIGHTS, folder / "finished.json"
        arch = arch_options(opt)
        wait_for_room(lambda: save_weights(weights, arch, net, average, trainer.pixels), weights)
        content = {**summary, **_best_hash(folder / "weights" / BEST_WEIGHTS)}
        wait_for_room(lambda: write_atomic(card, json.dumps(content)), card)
    return Trained(undo_acceleration(result).eval(), **summary)


def _best_hash(path: Path) -> dict[str, str]:
    """Returns the entry of ``finished.json`` for the best weights; empty if there are none."""
    if not path.exists():
        return {}
    try:
        found = file_hash(path)
        if found is None:
            raise UserError(f"{path}: has no named tensors")
    except UserError as error:
        _log.warning("the best weights were damaged during the training: %s", error)
        return {}
    return {"best": found}


def _load_final_weights(
    opt: RunOptions,
    net: nn.Module,
    folder: Path,
    checkpoints: CheckpointFolder,
    expected: str,
    ranks: Ranks,
) -> None:
    """Loads the weights of a finished run; from its last checkpoint if they were damaged.

    Raises:
        RunError: if the checkpoint does not have them either.
    """
    path = folder / "weights" / FINAL_WEIGHTS
    try:
        load_weights(net, path)
        fault = None if weights_hash(net) == expected else f"{path} is damaged"
    except (UserError, RunError) as error:
        fault = str(error)
    if fault is None:
        return
    state = None
    with suppress(RunError):  # all checkpoints are unusable: the fault of the weights counts
        state = checkpoints.load_latest(torch.device("cpu"))
    weights = state and (state["ema"] or {}).get("module", state["networks"]["g"])
    if not state or not weights or state_hash(weights) != expected:
        raise RunError(
            f"{path} is damaged, and no checkpoint in {checkpoints.folder} has these weights; "
            f"restore a copy of the file, or remove {folder} to train again"
        )
    net.load_state_dict(state["networks"]["g"])
    average = None
    if state["ema"] is not None:
        average, plain_net = copy.deepcopy(net), copy.deepcopy(net)
        average.load_state_dict(weights)
        net.load_state_dict(weights)
    else:
        plain_net = net
    if ranks.is_main:
        facts = pixel_facts(opt.datasets.train, None)
        save_weights(path, arch_options(opt), plain_net, average, facts)
    _log.warning("%s; the weights of the last checkpoint are used and written there", fault)


def _claim_run_folder(
    folder: Path,
    opt: RunOptions,
    identity: str,
    device: torch.device,
    earlier: Sequence[str],
    choices: Choices,
) -> None:
    """Writes the files that mark the folder as this run's, unless they exist."""
    assert opt.train is not None
    card = folder / "run.json"
    found = read_card(card) if card.exists() else {}
    if found.get("fingerprint") == identity and not found.get("unfinished"):
        return
    facts: dict[str, Any] = {"name": opt.name, "fingerprint": identity}
    if own_training_code(opt):
        facts["without_own_code"] = fingerprint(opt, parts=False)
    if earlier:
        facts["earlier"] = list(earlier)
    if choices:
        facts["measured"] = {key: asdict(choice) for key, choice in choices.items()}
    content = json.dumps(facts)
    try:
        if earlier:  # first, because the options below would no longer match the earlier card
            write_atomic(card, json.dumps({**facts, "unfinished": True}))
        write_atomic(folder / "options.yml", dump({"name": opt.name, **plain(opt)}))
        precision = resolve(opt.train.precision, device)
        text = json.dumps({**describe_environment(device), "precision": precision}, indent=2)
        write_atomic(folder / "environment.json", text)
        if diff := uncommitted_diff():
            write_atomic(folder / "uncommitted.diff", diff)
        (folder / "finished.json").unlink(missing_ok=True)  # of a run that now goes on
        write_atomic(card, content)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error

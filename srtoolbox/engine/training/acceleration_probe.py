"""Decides ``train.channels_last: auto`` and ``train.compile: auto`` by measured training steps.

Both options change the last bits of a training. So a run decides them once, at its first start, and
keeps the decision in its ``run.json``: a run that is resumed, on this machine or another, goes on
as it began. The measured steps train copies; a run in which both stay off has the same bits as a
run without these options.
"""

from __future__ import annotations

import gc
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from srtoolbox.data.base import Batch, TrainDataset, dataset_info
from srtoolbox.engine.build import build_network
from srtoolbox.engine.options import RunOptions, TrainOptions
from srtoolbox.engine.profiling import seconds
from srtoolbox.engine.training.acceleration import describe_failure
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.errors import RunError, is_out_of_memory
from srtoolbox.models.frames import varying_frames
from srtoolbox.utils.malloc import freed_memory_kept

_log = logging.getLogger("srtoolbox")

FASTER = {"channels_last": 1.05, "compile": 1.15}
"""By option, the least ratio of step times for which it is used."""
_ON: dict[str, bool | str | None] = {"channels_last": True, "compile": "default"}
_OFF: dict[str, bool | str | None] = {"channels_last": False, "compile": None}
_MIN_TRAINING = 60.0  # seconds of a training below which nothing can be gained
_NUM_WARM_UP, _MIN_ROUNDS, _MAX_ROUNDS = 2, 3, 15
_MAX_EXTRA_SECONDS = 10.0  # for more than the minimum of rounds


@dataclass(frozen=True)
class Choice:
    """The decision about one option.

    Attributes:
        value: The value that the run uses: of ``channels_last`` true or false, of ``compile``
            "default" or None.
        reason: The measurement behind it, in one line.
    """

    value: bool | str | None
    reason: str


Choices = Mapping[str, Choice]


def apply_choices(opt: TrainOptions, choices: Choices) -> TrainOptions:
    """Returns the options of a training with decided values in place of ``auto``."""
    return _changed(opt, {key: choice.value for key, choice in choices.items()})


def _changed(opt: TrainOptions, values: Mapping[str, bool | str | None]) -> TrainOptions:
    return replace(opt, **cast(Any, values))


def log_choices(choices: Choices, *, earlier: bool) -> None:
    """Logs one line for each decision; ``earlier``: it was made at the first start of the run."""
    for key, choice in choices.items():
        state = "on" if choice.value else "off"
        when = ", as at the first start of this run" if earlier else ""
        _log.info("train.%s auto: %s%s (%s)", key, state, when, choice.reason)


def stored_choices(found: Any, card: Path, opt: TrainOptions) -> Choices | None:
    """Reads the decisions of a run from its ``run.json``.

    Args:
        found: The entry ``measured`` of the file; None if there is none.
        card: The file, for messages.
        opt: Options of the training.

    Returns:
        A decision for each option that is ``auto``; None if the run has not decided yet.

    Raises:
        RunError: if the entry is damaged.
    """
    if found is None:
        return None
    try:
        choices = {key: Choice(found[key]["value"], found[key]["reason"]) for key in opt.measured}
        valid = all(
            isinstance(choice.value, bool | str | None) and choice.value in (_ON[key], _OFF[key])
            for key, choice in choices.items()  # 1 is equal to True
        )
    except (TypeError, KeyError):
        valid, choices = False, {}
    if not valid:
        raise RunError(
            f"{card}: its entry 'measured' (decisions on train.{', train.'.join(opt.measured)}) is "
            f"damaged; restore a copy of the file, or remove {card.parent}"
        )
    return choices


def measure_choices(
    opt: RunOptions, net: nn.Module, dataset: TrainDataset, device: torch.device, num_process: int
) -> Choices:
    """Decides each option that is ``auto`` by steps of the training on one batch.

    First the memory format is decided, then compilation with this format. Weights, optimizers,
    random numbers and samples of the training do not change.

    Args:
        opt: A run with a ``train`` section.
        net: Its network, with the weights of the start.
        dataset: Its training dataset.
        device: Device of the training.
        num_process: Number of processes that share a batch.

    Raises:
        UserError: if the options do not suit the network or the dataset.
    """
    assert opt.train is not None
    # Memory is kept as in the training.
    with _unchanged_random_numbers(device), freed_memory_kept(device.type == "cpu"):
        try:
            return _Probe(opt, net, dataset, device, num_process).run()
        finally:
            _forget(device)


class _PlainStepFailed(Exception):
    """A step failed without the option that is measured, so the option is not the reason."""


class _Probe:
    """Steps of a training on copies of its network; see ``measure_choices``."""

    def __init__(
        self,
        opt: RunOptions,
        net: nn.Module,
        dataset: TrainDataset,
        device: torch.device,
        num_process: int,
    ) -> None:
        assert opt.train is not None
        self._total, self._wanted = opt.train.total_iter, opt.train.measured
        size = opt.train.batch_size // num_process
        self._train = replace(
            _changed(opt.train, {key: _OFF[key] for key in self._wanted}), batch_size=size
        )
        self._run, self._net, self._dataset, self._device = opt, net, dataset, device
        # Losses may start late, and parameters may be frozen at first.
        self._step = self._total // 2

    def run(self) -> Choices:
        """Returns the decisions."""
        choices: dict[str, Choice] = {}
        try:
            plain = self._stepper(self._train)
            batches = plain.stream.batches(self._step, self._step + 1, device=self._device)
            batch = next(batches)
            first = self._warm_up(plain, batch)
        except RunError as error:
            return self._all_off(f"the measured step failed: {str(error).partition('; ')[0]}")
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return self._all_off("memory does not suffice for the measurement")
        if first * self._total < _MIN_TRAINING:
            text = f"the training takes about {first * self._total:.0f} s, too short to gain time"
            return self._all_off(text)
        train = self._train
        for key in self._wanted:
            reason = self._hindrance(key)
            if reason is not None:
                choices[key] = Choice(_OFF[key], reason)
                continue
            changed = _changed(train, {key: _ON[key]})
            choices[key], other = self._compare(key, plain, changed, batch)
            if other is not None:
                plain, train = other, changed
        return choices

    def _all_off(self, reason: str) -> Choices:
        return {key: Choice(_OFF[key], reason) for key in self._wanted}

    def _hindrance(self, key: str) -> str | None:
        """Returns why an option stays off without a measurement; None: it is measured."""
        if key != "compile":
            return None
        if varying_frames(self._net, self._dataset, self._train.num_frame_range) is not None:
            return "the number of frames varies, and each one would be compiled"
        if dataset_info(self._dataset).scales is not None:
            return "the scale varies, and each one would be compiled"
        return None

    def _stepper(self, train: TrainOptions) -> Trainer:
        """Returns a trainer of a copy of the network that writes nothing."""
        copy = build_network(self._run, self._device)
        copy.load_state_dict(self._net.state_dict())
        run = replace(self._run, train=train)
        nowhere = CheckpointFolder(Path())
        trainer = Trainer(run, copy, self._dataset, nowhere, self._device)
        trainer.step = self._step
        for network in trainer.model.networks.values():
            network.train()
        return trainer

    def _warm_up(self, trainer: Trainer, batch: Batch) -> float:
        """Makes the first steps; returns the seconds of the last one."""
        for _ in range(_NUM_WARM_UP):
            last = seconds(lambda: trainer.try_step(batch), self._device)
        return last

    def _compare(
        self, key: str, plain: Trainer, changed: TrainOptions, batch: Batch
    ) -> tuple[Choice, Trainer | None]:
        """Decides one option; also returns the trainer that uses it, if it is used."""

        def plain_step() -> None:
            try:
                plain.try_step(batch)
            except Exception as error:  # many steps on one batch may diverge
                text = describe_failure(error).partition("; ")[0]
                raise _PlainStepFailed(f"a step without it failed: {text}") from error

        try:
            other = self._stepper(changed)
            start = time.perf_counter()
            self._warm_up(other, batch)
            prepared = time.perf_counter() - start
            steps = plain_step, lambda: other.try_step(batch)
            before, after = _in_rounds(steps, self._device)
        except _PlainStepFailed as error:
            return Choice(_OFF[key], str(error)), None
        except Exception as error:
            return Choice(_OFF[key], f"it fails here: {describe_failure(error)}"), None
        faster = median(a / b for a, b in zip(before, after, strict=True))
        text = (
            f"a step takes {1e3 * median(after):.4g} ms with it and {1e3 * median(before):.4g} ms "
            f"without it: {faster:.2f}×, needed {FASTER[key]:.2f}×"
        )
        on = faster >= FASTER[key]
        if key == "compile":
            compilation = max(0.0, prepared - _NUM_WARM_UP * median(after))
            saved = self._total * (median(before) - median(after))
            text += f"; {compilation:.0f} s of compilation, {saved:.0f} s saved in the whole run"
            on = on and saved > compilation
        return (Choice(_ON[key], text), other) if on else (Choice(_OFF[key], text), None)


def _in_rounds(
    steps: Sequence[Callable[[], object]], device: torch.device
) -> tuple[list[float], list[float]]:
    """Returns the seconds of two steps by round; a round times both, one after the other."""
    times: tuple[list[float], list[float]] = ([], [])
    start = time.perf_counter()
    while len(times[0]) < _MIN_ROUNDS or (
        len(times[0]) < _MAX_ROUNDS and time.perf_counter() - start < _MAX_EXTRA_SECONDS
    ):
        for step, own in zip(steps, times, strict=True):
            own.append(seconds(step, device))
    return times


@contextmanager
def _unchanged_random_numbers(device: torch.device) -> Iterator[None]:
    """Restores the random states of torch, numpy and Python."""
    # Users' own components may draw from the global generators.
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def _forget(device: torch.device) -> None:
    """Frees what the measurement used, compiled code too: a resumed run starts without it."""
    gc.collect()
    if "torch._dynamo" in sys.modules:  # else nothing was compiled; its import takes seconds
        torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)

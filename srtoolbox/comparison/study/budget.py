"""Computes the training iterations of each method for equal iterations, time or FLOPs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import nn

from srtoolbox.comparison.options import BUDGET_UNITS, BudgetOptions
from srtoolbox.config.files import plain
from srtoolbox.data.base import Batch, TrainDataset
from srtoolbox.data.stream import SampleStream
from srtoolbox.engine.build import build_dataset, build_model, build_network
from srtoolbox.engine.options import RunOptions, TrainOptions
from srtoolbox.engine.profiling import TrainingStep, count_flops
from srtoolbox.errors import UserError
from srtoolbox.models.frames import arrange_frames, run_network, varying_frames
from srtoolbox.utils.environment import digest
from srtoolbox.utils.files import write_atomic

_NUM_MEASUREMENTS = 3
_QUANTITIES = {
    "iterations": "equal iterations, {}",
    "time": "equal training time, {} (forward and backward pass of a batch, measured before the "
    "trainings)",
    "flops": "equal training FLOPs, {} (three times the network's forward pass of a batch)",
}


class Budget:
    """Converts a budget into iterations.

    Args:
        opt: The equal quantity.
        device: Device on which steps are measured.
        file: Step times that were measured before. With them a resumed study keeps its numbers of
            iterations, on any machine.
    """

    def __init__(self, opt: BudgetOptions, device: torch.device, file: Path) -> None:
        self._opt, self._device, self._file = opt, device, file
        self._times: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}

    def iterations_for(self, runs: Mapping[str, RunOptions]) -> dict[str, int]:
        """Returns the iterations of each method within the budget.

        Args:
            runs: Options of the trained methods by name.

        Raises:
            UserError: if another option of a method does not allow its iterations.
        """
        own = {method: training_options(run)[0].total_iter for method, run in runs.items()}
        if self._opt.of is None:
            return own
        measure: Callable[[RunOptions], float] = {
            "iterations": lambda _: 1.0,
            "time": self._step_time,
            "flops": lambda run: float(training_flops(run, self._device)),
        }[self._opt.kind]
        costs = {method: measure(run) for method, run in runs.items()}
        of = self._opt.of
        amount = costs[of] * own[of] if isinstance(of, str) else of
        iterations = {method: max(1, round(amount / cost)) for method, cost in costs.items()}
        for method, total_iter in iterations.items():
            train, _ = training_options(runs[method])
            for key, message in replace(train, total_iter=total_iter).validate():
                raise UserError(
                    f"method {method}: the budget gives {total_iter} iterations; "
                    f"train.{key}: {message}"
                )
        return iterations

    def save(self) -> None:
        """Writes the measured step times."""
        if self._times:
            write_atomic(self._file, json.dumps(self._times, indent=1))

    def describe(self) -> str | None:
        """Returns the equal quantity in words; None if it is the iterations of the options."""
        of, kind = self._opt.of, self._opt.kind
        if of is None:
            return None
        amount = f"those of {of}" if isinstance(of, str) else f"{of:,g} {BUDGET_UNITS[kind]}"
        return _QUANTITIES[kind].format(amount)

    def _step_time(self, run: RunOptions) -> float:
        """Returns the seconds of a training step, measured unless they are known."""
        opt, data = training_options(run)
        train = plain(opt)
        train.pop("total_iter")
        identity = digest(
            {
                "network_g": plain(run.network_g),
                "network_d": plain(run.network_d),
                "model_type": run.model_type,
                "scale": run.scale,
                "train": train,
                "gt_size": data.get("gt_size"),
                "num_frame": data.get("num_frame"),
            }
        )
        if identity not in self._times:
            self._times[identity] = step_seconds(run, self._device, _NUM_MEASUREMENTS)
        return self._times[identity]


def training_options(run: RunOptions) -> tuple[TrainOptions, Mapping[str, Any]]:
    """Returns the options of a run's training and of its training set.

    Raises:
        UserError: if they are missing.
    """
    if run.train is None or run.datasets.train is None:
        missing = "train" if run.train is None else "datasets.train"
        raise UserError(f"{run.name} cannot be trained: the options have no '{missing}' section")
    return run.train, run.datasets.train


def step_seconds(run: RunOptions, device: torch.device, repeats: int = 1) -> float:
    """Returns the seconds of a training step: the median of repeated measurements."""
    return mean(
        median(step.seconds() for _ in range(repeats)) for step in training_steps(run, device)
    )


def training_steps(run: RunOptions, device: torch.device) -> Iterator[TrainingStep]:
    """Yields training steps of a newly built network, to be measured.

    The first has all frames. If their number varies, a second one has the fewest; as costs are
    linear in the number of frames, the mean of both is the mean over a training.
    """
    train, data = training_options(run)
    net = build_network(run, device).train()
    dataset = build_dataset("train", data, run, net)
    model = build_model(run, net, dataset)
    for batch in _batches(train, net, dataset, train.batch_size, device):
        yield TrainingStep(model, batch, device, train.precision)


def _batches(
    opt: TrainOptions, net: nn.Module, dataset: TrainDataset, batch_size: int, device: torch.device
) -> Iterator[Batch]:
    """Yields a batch with the most frames of a step, and one with the fewest if they differ."""
    limits = varying_frames(net, dataset, opt.num_frame_range)
    ranges = [None] if limits is None else [(n, n) for n in sorted(set(limits), reverse=True)]
    for num_frame_range in ranges:
        stream = SampleStream(dataset, 0, batch_size, num_frame_range=num_frame_range)
        yield next(stream.batches(0, 1, device=device))


def training_flops(run: RunOptions, device: torch.device) -> int:
    """Returns the FLOPs of one training step: three times those of the forward pass of a batch.

    The backward pass computes gradients of inputs and of weights; each takes as much work as the
    forward pass. Losses, discriminators and the optimizer are not counted. If the number of frames
    varies, the result is the mean of the fewest and the most.

    Raises:
        UserError: if the network has operators without a formula.
    """
    train, data = training_options(run)
    net = build_network(run, device).eval()
    dataset = build_dataset("train", data, run, net)
    counts = []
    for sample in _batches(train, net, dataset, 1, device):
        lq = arrange_frames(net, sample["lq"], sample.get("reference", dataset.reference))
        with torch.no_grad():
            run_network(net, lq)  # also loads modules that are loaded at first use
            flops, uncounted = count_flops(partial(run_network, net, lq))
        if not flops or uncounted:
            operators = ", ".join(uncounted) or "its operators"
            raise UserError(
                f"budget: the FLOPs of {run.name} cannot be counted ({operators} have no formula); "
                "use kind 'time' or 'iterations'"
            )
        counts.append(flops)
    return round(3 * mean(counts) * train.batch_size)

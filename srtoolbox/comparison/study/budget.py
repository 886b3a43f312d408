"""What the trainings of a study have in common: iterations, time, or floating-point operations."""

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
from srtoolbox.data.stream import Sample, SampleStream
from srtoolbox.engine.build import build_dataset, build_model, build_network
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.profiling import TrainingStep, count_flops
from srtoolbox.errors import UserError
from srtoolbox.models.frames import arrange_frames, run_network, varying_frames
from srtoolbox.utils.environment import digest
from srtoolbox.utils.files import write_atomic

_MEASUREMENTS = 3


class Budget:
    """Turns a budget into iterations.

    Args:
        section: What is equal.
        device: Where steps are measured.
        known: File of the step times that were measured before: a study that goes on, on whatever
            machine, keeps its numbers of iterations.
    """

    def __init__(self, section: BudgetOptions, device: torch.device, known: Path) -> None:
        self._section, self._device, self._file = section, device, known
        self._times: dict[str, float] = json.loads(known.read_text()) if known.exists() else {}

    def share(self, runs: Mapping[str, RunOptions]) -> dict[str, RunOptions]:
        """The options of trained methods with the iterations that the budget gives each.

        Raises:
            UserError: if a method's other options do not go with its iterations.
        """
        if self._section.of is None:
            return dict(runs)
        measure: Callable[[RunOptions], float] = {
            "iterations": lambda _: 1.0,
            "time": self._step_time,
            "flops": lambda run: float(training_flops(run, self._device)),
        }[self._section.kind]
        amount = self._section.of
        if isinstance(amount, str):
            if amount not in runs:
                raise UserError(f"budget.of: {amount} is not trained; name a method that is")
            amount = measure(runs[amount]) * runs[amount].train.total_iter
        return {
            method: _with_iterations(method, run, max(1, round(amount / measure(run))))
            for method, run in runs.items()
        }

    def save(self) -> None:
        """Keeps what was measured."""
        if self._times:
            write_atomic(self._file, json.dumps(self._times, indent=1))

    def describe(self) -> str | None:
        """What is equal, in words; None if it is the options' own number of iterations."""
        of, kind = self._section.of, self._section.kind
        if of is None:
            return None
        what = {"iterations": "iterations", "time": "training time", "flops": "training FLOPs"}
        amount = f"those of {of}" if isinstance(of, str) else f"{of:,g} {BUDGET_UNITS[kind]}"
        how = {
            "iterations": "",
            "time": " (forward and backward pass of a batch, measured before the trainings)",
            "flops": " (three times the network's forward pass of a batch)",
        }
        return f"equal {what[kind]}, {amount}{how[kind]}"

    def _step_time(self, run: RunOptions) -> float:
        train = plain(run.train)
        train.pop("total_iter")
        identity = digest(
            {
                "network_g": plain(run.network_g),
                "network_d": plain(run.network_d),
                "model_type": run.model_type,
                "scale": run.scale,
                "train": train,
                "gt_size": run.datasets.train.get("gt_size"),
                "num_frame": run.datasets.train.get("num_frame"),
            }
        )
        if identity not in self._times:
            self._times[identity] = mean(
                median(step.seconds() for _ in range(_MEASUREMENTS))
                for step in training_steps(run, self._device)
            )
        return self._times[identity]


def training_steps(run: RunOptions, device: torch.device) -> Iterator[TrainingStep]:
    """Training steps of a freshly built network, to be measured.

    The first has all frames. Where their number varies there is a second one with the fewest; as
    costs grow evenly with the frames, the mean of the two is that of the steps of a training.
    """
    net = build_network(run, device).train()
    dataset = build_dataset("train", run.datasets.train, run, net)
    model, precision = build_model(run, net, dataset), run.train.precision
    for batch in _batches(run, net, dataset, run.train.batch_size, device):
        yield TrainingStep(model, batch, device, precision)


def _batches(
    run: RunOptions, net: nn.Module, dataset: Any, batch_size: int, device: torch.device
) -> Iterator[Sample]:
    """A batch with the most frames of a step, and one with the fewest if that is another number."""
    frames = varying_frames(net, dataset, run.train.num_frame_range)
    ends = [None] if frames is None else [(n, n) for n in sorted({*frames}, reverse=True)]
    for end in ends:
        stream = SampleStream(dataset, 0, batch_size, num_frame_range=end)
        yield next(stream.batches(0, 1, device=device))


def training_flops(run: RunOptions, device: torch.device) -> int:
    """FLOPs of one training step: three times those of the network's forward pass of a batch.

    The backward pass computes gradients of inputs and of weights, each as much work as the forward
    pass. Losses, discriminators and the optimizer are not counted. Where the number of frames
    varies it is the mean of the fewest and the most.
    """
    net = build_network(run, device).eval()
    dataset = build_dataset("train", run.datasets.train, run, net)
    counts = []
    for sample in _batches(run, net, dataset, 1, device):
        lq = arrange_frames(net, sample["lq"], sample.get("reference", dataset.reference))
        with torch.no_grad():
            run_network(net, lq)  # also loads what is loaded on first use
            flops, uncounted = count_flops(partial(run_network, net, lq))
        if not flops or uncounted:
            what = ", ".join(uncounted) or "its operators"
            raise UserError(
                f"budget: the FLOPs of {run.name} cannot be counted ({what} have no formula); use "
                "kind 'time' or 'iterations'"
            )
        counts.append(flops)
    return round(3 * mean(counts) * run.train.batch_size)


def _with_iterations(method: str, run: RunOptions, total_iter: int) -> RunOptions:
    section = replace(run.train, total_iter=total_iter)
    if faults := section.validate():
        key, message = faults[0]
        raise UserError(
            f"method {method}: the budget gives {total_iter} iterations; train.{key}: {message}"
        )
    return replace(run, train=section)

"""Speed and memory of networks, against the way they are usually computed.

Times are only compared within a run: in every round each way is timed once, one after the other,
and what is reported is the median over the rounds of the ratio. So a machine that slows down, or
that others use too, does not favour either.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.deform import reference_path
from srtoolbox.comparison.cost import TrainingStep, peak_memory
from srtoolbox.engine.precision import Precision, autocast, cpu_threads, synchronize
from srtoolbox.engine.run import ArchSpec
from srtoolbox.errors import UserError
from srtoolbox.inference.padding import fits
from srtoolbox.losses import L1Loss
from srtoolbox.models.frames import arrange_frames
from srtoolbox.models.sr_model import SRModel
from srtoolbox.schema import build, option

Mode = Literal["fp32", "fp32+channels_last", "bf16", "bf16+channels_last"]
REFERENCE = "reference"


@dataclass(frozen=True)
class BenchOptions:
    """An option file for `srtoolbox bench`."""

    name: str
    archs: dict[str, ArchSpec]
    input: tuple[int, int, int, int, int] = option(
        default=(4, 5, 3, 32, 32), min=1, doc="Clips, frames, channels, height, width of the LR."
    )
    modes: list[Mode] = option(
        default=["fp32", "fp32+channels_last", "bf16+channels_last"],
        doc="Number and memory formats to measure.",
    )
    rounds: int = option(default=7, min=1, doc="How often everything is timed; the median counts.")
    threads: int | None = option(default=None, min=1, doc="CPU threads; by default torch's choice.")
    plugins: list[str] = option(default=[], doc="Files or modules that register components.")
    experiments_root: Path = option(default=Path("experiments"), doc="Where results are written.")

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        faults = []
        if not self.name or "/" in self.name or self.name.startswith("."):
            faults.append(("name", f"'{self.name}' cannot be the name of a file"))
        if not self.archs:
            faults.append(("archs", "name at least one arch"))
        return faults


@dataclass(frozen=True)
class Measurement:
    """One way of computing one arch; the i-th entries of all lists of an arch go together.

    Attributes:
        arch: Its name in the option file.
        mode: ``"reference"`` or one of the modes.
        forward: Seconds of a forward pass in eval mode, without gradients, by round.
        training: Seconds of a forward and backward pass with an L1 loss, by round.
        forward_memory: Peak MiB of tensors of a forward pass beyond weights and input.
        training_memory: The same of a training step, gradients included.
        deviation: Norm of the SR images' difference from the reference path's, relative to it.
    """

    arch: str
    mode: str
    forward: list[float]
    training: list[float]
    forward_memory: float
    training_memory: float
    deviation: float


def speedup(reference: list[float], other: list[float]) -> float:
    """How many times faster ``other`` is: the median over the rounds of the ratio."""
    return median(a / b for a, b in zip(reference, other, strict=True))


def measure_archs(opt: BenchOptions, device: torch.device) -> list[Measurement]:
    """Measures every arch by the reference path and in every mode.

    Raises:
        UserError: before anything is measured, if an arch does not take the input or cannot learn.
    """
    nets = {name: _build(name, opt).to(device) for name in opt.archs}
    with cpu_threads(opt.threads):
        return [one for name, net in nets.items() for one in _measure(name, net, opt, device)]


class _Way:
    """One way of computing a network on one batch.

    Args:
        net: The network; it is copied.
        lq: (N, T, C, h, w).
        mode: ``"reference"`` (contiguous fp32 on the reference path) or a mode.
    """

    def __init__(self, net: nn.Module, lq: Tensor, mode: str) -> None:
        self.mode, self._device = mode, lq.device
        self._context: Callable[[], AbstractContextManager] = (
            reference_path if mode == REFERENCE else nullcontext
        )
        self._precision: Precision = "bf16" if mode.startswith("bf16") else "fp32"
        layout = torch.channels_last if "channels_last" in mode else torch.contiguous_format
        self._net = copy.deepcopy(net).to(memory_format=layout)
        self._lq = arrange_frames(net, lq, 0)
        n, channels, height, width = lq[:, 0].shape
        gt = torch.rand(n, channels, height * net.scale, width * net.scale, device=lq.device)
        model = SRModel(self._net, {"l_pix": L1Loss()})
        self._step = TrainingStep(model, {"lq": lq, "gt": gt}, lq.device, self._precision)

    @torch.no_grad()
    def forward(self) -> Tensor:
        """The SR image."""
        self._net.eval()
        with self._context(), autocast(self._device, self._precision):
            output = self._net(self._lq)
        return output["sr"] if isinstance(output, dict) else output

    def training(self) -> None:
        """Forward and backward pass."""
        self._net.train()
        with self._context():
            self._step.run()


def _build(name: str, opt: BenchOptions) -> nn.Module:
    """A network as it starts training, or an error if it cannot be measured."""
    torch.manual_seed(0)
    net = build("arch", opt.archs[name])
    _, frames, channels, height, width = opt.input
    try:
        arrange_frames(net, torch.empty(1, frames, channels, 1, 1), 0)
    except UserError as error:
        raise UserError(f"archs.{name}: input has {frames} frames: {error}") from error
    if not (fits(net, height) and fits(net, width)):
        raise UserError(
            f"archs.{name}: takes sizes from {net.min_size} on in multiples of "
            f"{net.size_multiple}, but input has {height}×{width}"
        )
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise UserError(f"archs.{name}: has nothing to learn, so no training step to measure")
    return net


def _measure(
    name: str, net: nn.Module, opt: BenchOptions, device: torch.device
) -> list[Measurement]:
    lq = torch.rand(opt.input, device=device)
    ways = [_Way(net, lq, mode) for mode in (REFERENCE, *opt.modes)]
    expected = ways[0].forward().float()
    facts: list[dict[str, Any]] = []
    for way in ways:  # also the warm-up
        facts.append(
            {
                "deviation": ((way.forward() - expected).norm() / expected.norm()).item(),
                "forward_memory": peak_memory(way.forward, device),
                "training_memory": peak_memory(way.training, device),
            }
        )
    forward = _rounds([way.forward for way in ways], opt.rounds, device)
    training = _rounds([way.training for way in ways], opt.rounds, device)
    return [
        Measurement(name, way.mode, first, second, **fact)
        for way, first, second, fact in zip(ways, forward, training, facts, strict=True)
    ]


def _rounds(works: list[Callable[[], Any]], rounds: int, device: torch.device) -> list[list[float]]:
    """Seconds of each work by round; within a round all are timed one after the other."""
    times = [[_seconds(work, device) for work in works] for _ in range(rounds)]
    return [list(column) for column in zip(*times, strict=True)]


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start

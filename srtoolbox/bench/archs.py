"""Speed and memory of networks, against the way they are usually computed, in one run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.deform import reference_path
from srtoolbox.bench.network import build_net
from srtoolbox.bench.options import BenchOptions
from srtoolbox.bench.report import Figures, Report, machine
from srtoolbox.bench.timing import in_rounds, speedup
from srtoolbox.config.schema import option
from srtoolbox.engine.device.precision import Precision, autocast
from srtoolbox.engine.options import ArchSpec
from srtoolbox.engine.profiling import TrainingStep, peak_memory
from srtoolbox.losses import L1Loss
from srtoolbox.models.frames import arrange_frames
from srtoolbox.models.sr_model import SRModel

Mode = Literal["fp32", "fp32+channels_last", "bf16", "bf16+channels_last"]
REFERENCE = "reference"
_HEAD = (
    "arch",
    "mode",
    "test ms",
    "×",
    "train ms",
    "×",
    "test MiB",
    "train MiB",
    "rel. Δ",
)


@dataclass(frozen=True, kw_only=True)
class ArchsOptions(BenchOptions):
    """Options of ``kind: archs``."""

    archs: dict[str, ArchSpec]
    input: tuple[int, int, int, int, int] = option(
        default=(4, 5, 3, 32, 32), min=1, doc="Clips, frames, channels, height, width of the LR."
    )
    modes: list[Mode] = option(
        default=["fp32", "fp32+channels_last", "bf16+channels_last"],
        doc="Number and memory formats to measure.",
    )

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        lacking = [] if self.archs else [("archs", "name at least one arch")]
        return super().validate() + lacking


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


def measure_archs(opt: ArchsOptions, device: torch.device) -> list[Measurement]:
    """Measures every arch by the reference path and in every mode.

    Raises:
        UserError: before anything is measured, if an arch does not take the input or cannot learn.
    """
    nets = {
        name: build_net(f"archs.{name}", spec, opt.input[1:]).to(device)
        for name, spec in opt.archs.items()
    }
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


def _measure(
    name: str, net: nn.Module, opt: ArchsOptions, device: torch.device
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
    forward = in_rounds([way.forward for way in ways], opt.rounds, device)
    training = in_rounds([way.training for way in ways], opt.rounds, device)
    return [
        Measurement(name, way.mode, first, second, **fact)
        for way, first, second, fact in zip(ways, forward, training, facts, strict=True)
    ]


def report_archs(results: list[Measurement], opt: ArchsOptions, device: torch.device) -> Report:
    """The measurements as a table."""
    ratios = _ratios(results)
    rows = [
        [
            one.arch,
            one.mode,
            f"{median(one.forward) * 1e3:.0f}",
            f"{forward:.2f}",
            f"{median(one.training) * 1e3:.0f}",
            f"{training:.2f}",
            f"{one.forward_memory:.0f}",
            f"{one.training_memory:.0f}",
            f"{one.deviation:.1g}",
        ]
        for one, forward, training in ratios
    ]
    records = [
        {**asdict(one), "forward_ratio": forward, "training_ratio": training}
        for one, forward, training in ratios
    ]
    return Report([Figures(_HEAD, rows, names=2)], _notes(opt, device), records)


def _ratios(results: list[Measurement]) -> list[tuple[Measurement, float, float]]:
    """Each measurement with how many times faster its forward pass and training step are."""
    references = {one.arch: one for one in results if one.mode == REFERENCE}
    return [
        (one, speedup(base.forward, one.forward), speedup(base.training, one.training))
        for one in results
        for base in [references[one.arch]]
    ]


def _notes(opt: ArchsOptions, device: torch.device) -> list[str]:
    with reference_path() as with_torchvision:
        operator = (
            "torchvision's deformable convolution"
            if with_torchvision
            else "the pure deformable convolution (torchvision is missing or cannot be used)"
        )
    size = "×".join(map(str, opt.input))
    return [
        f"Input {size} (clips × frames × channels × height × width; single-image networks take "
        f"the first frames) on {machine(opt, device)}.",
        f"Reference: fp32, contiguous, frame-by-frame alignment, {operator}.",
        "test: a forward pass without gradients; train: forward and backward pass with an L1 loss.",
        f"Times are medians of {opt.rounds} rounds; × is how many times faster than the reference: "
        "the median of the ratios within a round, in which each mode is timed once.",
        "MiB are peak tensor memory beyond weights and input; on a CPU without what an operator "
        "needs only inside itself, which is much for torchvision's.",
        "rel. Δ is the norm of the SR images' difference from the reference's, relative to it, "
        "with freshly initialised weights.",
    ]

"""Measures speed and memory of networks against their usual form, in one run."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal, cast

import torch
from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.archs.layers.deform import reference_path
from srtoolbox.bench.network import build_net
from srtoolbox.bench.options import BenchOptions
from srtoolbox.bench.report import Figures, Report, machine
from srtoolbox.bench.straightforward import straightforward
from srtoolbox.bench.timing import in_rounds, speedup
from srtoolbox.config.schema import option
from srtoolbox.data.base import Batch
from srtoolbox.engine.device.precision import Precision, autocast
from srtoolbox.engine.options import ArchSpec
from srtoolbox.engine.profiling import TrainingStep, peak_memory
from srtoolbox.losses import L1Loss
from srtoolbox.models.frames import arrange_frames, run_network
from srtoolbox.models.sr_model import SRModel
from srtoolbox.utils.own_code import is_own

Mode = Literal["fp32", "fp32+channels_last", "bf16", "bf16+channels_last"]
REFERENCE = "reference"
_HEAD = ("arch", "mode", "test ms", "×", "train ms", "×", "test MiB", "train MiB", "rel. Δ")


@dataclass(frozen=True, kw_only=True)
class ArchsOptions(BenchOptions):
    """An option file for `srtoolbox bench`."""

    archs: dict[str, ArchSpec]
    input: tuple[int, int, int, int, int] = option(
        default=(4, 5, 3, 32, 32), min=1, doc="Clips, frames, channels, height, width of the LR."
    )
    modes: list[Mode] = option(
        default=["fp32", "fp32+channels_last", "bf16+channels_last"],
        doc="Number and memory formats to measure.",
    )

    def validate(self) -> list[tuple[str, str]]:
        """Checks across fields; returns (key, message) of each fault."""
        missing = [] if self.archs else [("archs", "name at least one arch")]
        return super().validate() + missing


@dataclass(frozen=True)
class Measurement:
    """One arch in one mode. Entry ``i`` of each list belongs to round ``i``.

    Attributes:
        arch: Its name in the option file.
        mode: ``"reference"`` or one of the modes.
        forward: Seconds of a forward pass in eval mode, without gradients, by round.
        training: Seconds of a forward and backward pass with an L1 loss, by round.
        forward_memory: Peak MiB of tensors of a forward pass beyond weights and input.
        training_memory: The same of a training step, gradients included.
        deviation: Relative norm of the difference to the SR images of the reference path.
        forward_ratio: Speed-up of the forward pass over the reference.
        training_ratio: Speed-up of the training step over the reference.
    """

    arch: str
    mode: str
    forward: list[float]
    training: list[float]
    forward_memory: float
    training_memory: float
    deviation: float
    forward_ratio: float
    training_ratio: float


def measure_archs(opt: ArchsOptions, device: torch.device) -> list[Measurement]:
    """Measures every arch on the reference path and in every mode.

    Raises:
        UserError: before anything is measured, if an arch does not accept the input or has no
            parameters.
    """
    nets = {
        name: build_net(f"archs.{name}", spec, opt.input[1:]).to(device)
        for name, spec in opt.archs.items()
    }
    return [
        measurement
        for name, net in nets.items()
        for measurement in _measure(name, net, opt, device)
    ]


class _NetworkInMode:
    """A network on one batch, computed in one mode.

    Args:
        net: The network; it is copied.
        lq: (N, T, C, h, w).
        mode: ``"reference"`` (contiguous fp32 on the reference path) or a mode.
    """

    def __init__(self, net: nn.Module, lq: Tensor, mode: str) -> None:
        self.mode, self._device = mode, lq.device
        self._context = reference_path if mode == REFERENCE else nullcontext
        self._precision: Precision = "bf16" if mode.startswith("bf16") else "fp32"
        layout = torch.channels_last if "channels_last" in mode else torch.contiguous_format
        self._net = copy.deepcopy(net).to(memory_format=layout)
        if mode == REFERENCE:
            self._net = straightforward(self._net)
        reference = None if arch_info(net).restores_all else 0
        self._lq = arrange_frames(net, lq, reference)
        if is_own(net):  # its mistakes are named before anything is measured
            with torch.no_grad():
                run_network(self._net.eval(), self._lq)
        n, channels, height, width = lq[:, 0].shape
        scale = cast(int, net.scale)
        channels = arch_info(net).out_channels or channels
        frames = () if reference == 0 else (lq.shape[1],)
        gt = torch.rand(n, *frames, channels, height * scale, width * scale, device=lq.device)
        model = SRModel(self._net, {"l_pix": L1Loss()}, reference)
        batch: Batch = {"key": ["random"] * n, "lq": lq, "gt": gt}
        self._step = TrainingStep(model, batch, lq.device, self._precision)

    @torch.no_grad()
    def forward(self) -> Tensor:
        """Returns the SR images (N, C, H, W), or (N, T, C, H, W) of networks that restore all."""
        self._net.eval()
        with self._context(), autocast(self._device, self._precision):
            output = self._net(self._lq)
        return output["sr"] if isinstance(output, dict) else output

    def training(self) -> None:
        """Runs a forward and a backward pass."""
        self._net.train()
        with self._context():
            self._step.run()


def _measure(
    name: str, net: nn.Module, opt: ArchsOptions, device: torch.device
) -> list[Measurement]:
    lq = torch.rand(opt.input, device=device)
    variants = [_NetworkInMode(net, lq, mode) for mode in (REFERENCE, *opt.modes)]
    expected = variants[0].forward().float()
    facts = [  # measuring them is also the warm-up
        {
            "deviation": ((variant.forward() - expected).norm() / expected.norm()).item(),
            "forward_memory": peak_memory(variant.forward, device),
            "training_memory": peak_memory(variant.training, device),
        }
        for variant in variants
    ]
    forward = in_rounds([variant.forward for variant in variants], opt.rounds, device)
    training = in_rounds([variant.training for variant in variants], opt.rounds, device)
    return [
        Measurement(
            name,
            variant.mode,
            first,
            second,
            forward_ratio=speedup(forward[0], first),
            training_ratio=speedup(training[0], second),
            **fact,
        )
        for variant, first, second, fact in zip(variants, forward, training, facts, strict=True)
    ]


def report_archs(results: list[Measurement], opt: ArchsOptions, device: torch.device) -> Report:
    """Returns the measurements as a table."""
    rows = [
        [
            result.arch,
            result.mode,
            f"{median(result.forward) * 1e3:.0f}",
            f"{result.forward_ratio:.2f}",
            f"{median(result.training) * 1e3:.0f}",
            f"{result.training_ratio:.2f}",
            f"{result.forward_memory:.0f}",
            f"{result.training_memory:.0f}",
            f"{result.deviation:.1g}",
        ]
        for result in results
    ]
    return Report([Figures(_HEAD, rows, names=2)], _notes(opt, device), list(map(asdict, results)))


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
        f"Reference: fp32, contiguous, frame-by-frame alignment, {operator}; DSTCSRNet gate by "
        "gate and frame by frame, with the weights of the attention in memory; the attention of "
        "SwinIR as products and softmax, with a mask for every window; Burstormer and "
        "BIPNet burst by burst, with the reference repeated for every frame; FBANet with the "
        "weights of the attention in memory; BasicVSR and BasicVSR++ with one call of SpyNet per "
        "direction and warps by grids of pixels.",
        "test: a forward pass without gradients; train: forward and backward pass with an L1 loss.",
        f"Times are medians of {opt.rounds} rounds; × is the speed-up over the reference: the "
        "median of the ratios within a round, in which each mode is timed once.",
        "MiB is peak tensor memory beyond weights and input. On a CPU, memory that an operator "
        "allocates internally is not counted; torchvision's operator allocates much.",
        "rel. Δ is the relative norm of the difference to the reference's SR images, with freshly "
        "initialised weights.",
    ]

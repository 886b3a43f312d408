"""Measures speed and memory of networks against their usual form, in one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import nn

from srtoolbox.archs.layers.deform import reference_path
from srtoolbox.bench.modes import SYNTAX, Mode
from srtoolbox.bench.network import build_net
from srtoolbox.bench.options import BenchOptions
from srtoolbox.bench.report import Figures, Report, machine
from srtoolbox.bench.timing import in_rounds, milliseconds, speedup
from srtoolbox.bench.variant import Variant
from srtoolbox.config.schema import option
from srtoolbox.engine.options import ArchSpec
from srtoolbox.engine.training.acceleration import describe_failure
from srtoolbox.errors import UserError

REFERENCE = "reference"
_HEAD = ("arch", "mode", "test ms", "×", "train ms", "×", "test MiB", "train MiB", "rel. Δ")


@dataclass(frozen=True, kw_only=True)
class ArchsOptions(BenchOptions):
    """An option file for `srtoolbox bench`."""

    archs: dict[str, ArchSpec]
    input: tuple[int, int, int, int, int] = option(
        default=(4, 5, 3, 32, 32), min=1, doc="Clips, frames, channels, height, width of the LR."
    )
    modes: list[str] = option(
        default=["fp32", "fp32+channels_last", "bf16+channels_last"],
        doc=f"Modes to measure: {SYNTAX}. compile: torch.compile; graphs: CUDA graphs.",
    )
    compile_backend: Literal["inductor", "aot_eager"] = option(
        default="inductor",
        doc="Backend of torch.compile; aot_eager needs no compiler and makes nothing faster.",
    )

    def validate(self) -> list[tuple[str, str]]:
        """Checks across fields; returns (key, message) of each fault."""
        faults = [] if self.archs else [("archs", "name at least one arch")]
        for number, mode in enumerate(self.modes):
            try:
                Mode.parse(mode)
            except UserError as error:
                faults.append((f"modes.{number}", str(error)))
        return super().validate() + faults


@dataclass(frozen=True)
class Measurement:
    """One arch in one mode. Entry ``i`` of each list belongs to round ``i``.

    Attributes:
        arch: Its name in the option file.
        mode: ``"reference"`` or one of the modes.
        forward: Seconds of a forward pass in eval mode, without gradients, by round.
        training: Seconds of a forward and backward pass with an L1 loss, by round.
        forward_memory: Peak MiB of tensors of a forward pass beyond weights and input; None with
            CUDA graphs.
        training_memory: The same of a training step, gradients included.
        parameters: Number of parameters of the network.
        preparation: Seconds of the first forward pass and training step, compilation included.
        deviation: Relative norm of the difference to the SR images of the reference path.
        forward_ratio: Speed-up of the forward pass over the reference.
        training_ratio: Speed-up of the training step over the reference.
    """

    arch: str
    mode: str
    forward: list[float]
    training: list[float]
    forward_memory: float | None
    training_memory: float | None
    parameters: int
    preparation: float
    deviation: float
    forward_ratio: float
    training_ratio: float

    @property
    def memory(self) -> tuple[float | None, float | None]:
        """Memory of the forward pass and of the training step."""
        return self.forward_memory, self.training_memory


@dataclass(frozen=True)
class Unmeasured:
    """An arch that cannot be computed in a mode.

    Attributes:
        arch: Its name in the option file.
        mode: The mode.
        reason: Why; one line.
        failed: Whether an error is the reason. It is false if the mode needs another device, or if
            the reference failed.
    """

    arch: str
    mode: str
    reason: str
    failed: bool


Result = Measurement | Unmeasured


def measure_archs(opt: ArchsOptions, device: torch.device) -> Iterator[list[Result]]:
    """Measures every arch on the reference path and in every mode.

    A mode that fails, for example because a network cannot be compiled, does not end the others.
    If the reference fails, for example because it runs out of memory, nothing of this arch is
    measured.

    Returns:
        The results of each arch, as soon as it is measured.

    Raises:
        UserError: before anything is measured, if an arch does not accept the input or has no
            parameters.
    """
    nets = {
        name: build_net(f"archs.{name}", spec, opt.input[1:]).to(device)
        for name, spec in opt.archs.items()
    }
    return (_measure(name, net, opt, device) for name, net in nets.items())


def _measure(name: str, net: nn.Module, opt: ArchsOptions, device: torch.device) -> list[Result]:
    try:
        return _measure_modes(name, net, opt, device)
    except RuntimeError as error:
        failed = Unmeasured(name, REFERENCE, describe_failure(error), failed=True)
        return [failed, *(Unmeasured(name, mode, "no reference", False) for mode in opt.modes)]


def _measure_modes(
    name: str, net: nn.Module, opt: ArchsOptions, device: torch.device
) -> list[Result]:
    lq = torch.rand(opt.input).to(device)
    reference = Variant(net, lq, None)
    reference.prepare()
    variants: dict[str, Variant] = {REFERENCE: reference}
    results: dict[str, Result] = {}
    for mode in opt.modes:
        try:
            if Mode.parse(mode).needs_cuda and device.type != "cuda":
                results[mode] = Unmeasured(name, mode, "needs CUDA", failed=False)
                continue
            variant = Variant(net, lq, Mode.parse(mode), opt.compile_backend)
            variant.prepare()
            variants[mode] = variant
        except RuntimeError as error:
            results[mode] = Unmeasured(name, mode, describe_failure(error), failed=True)
    expected = reference.forward().float()
    deviations = [
        ((variant.forward() - expected).norm() / expected.norm()).item()
        for variant in variants.values()
    ]
    memory = [variant.memory() for variant in variants.values()]
    forward = in_rounds([variant.forward for variant in variants.values()], opt.rounds, device)
    training = in_rounds([variant.training for variant in variants.values()], opt.rounds, device)
    for number, (mode, variant) in enumerate(variants.items()):
        results[mode] = Measurement(
            name,
            mode,
            forward[number],
            training[number],
            *memory[number],
            sum(parameter.numel() for parameter in net.parameters()),
            variant.preparation,
            deviations[number],
            forward_ratio=speedup(forward[0], forward[number]),
            training_ratio=speedup(training[0], training[number]),
        )
    if any(Mode.parse(mode).compile for mode in opt.modes):
        torch.compiler.reset()  # it keeps a limited number of compiled programs for all networks
    return [results[mode] for mode in (REFERENCE, *opt.modes)]


def report_archs(results: list[Result], opt: ArchsOptions, device: torch.device) -> Report:
    """Returns the measurements as a table."""
    unmeasured = [result for result in results if isinstance(result, Unmeasured)]
    notes = _notes(opt, device)
    if sizes := [
        f"{result.arch} {result.parameters / 1e6:.3g}"
        for result in results
        if isinstance(result, Measurement) and result.mode == REFERENCE
    ]:
        notes.append(f"Parameters in millions: {', '.join(sizes)}.")
    if prepared := [
        f"{result.arch} in {result.mode} {result.preparation:.1f}"
        for result in results
        if isinstance(result, Measurement) and result.mode != REFERENCE
        if Mode.parse(result.mode).compile or Mode.parse(result.mode).graphs
    ]:
        backend = f"compiled by {opt.compile_backend} or recorded"
        notes.append(f"Seconds of the first calls, {backend}: {', '.join(prepared)}.")
    notes += [f"{one.arch} in {one.mode}: {one.reason}." for one in unmeasured]
    return Report(
        [Figures(_HEAD, [_row(result) for result in results], names=2)],
        notes,
        list(map(asdict, results)),
        [f"{one.arch} in {one.mode}: {one.reason}" for one in unmeasured if one.failed],
    )


def _row(result: Result) -> list[str]:
    if isinstance(result, Unmeasured):
        state = "failed" if result.failed else result.reason
        return [result.arch, result.mode, state, *["–"] * (len(_HEAD) - 3)]
    return [
        result.arch,
        result.mode,
        milliseconds(result.forward),
        f"{result.forward_ratio:.2f}",
        milliseconds(result.training),
        f"{result.training_ratio:.2f}",
        *("–" if one is None else f"{one:.0f}" for one in result.memory),
        f"{result.deviation:.1g}",
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
        "allocates internally is not counted; torchvision's operator allocates much. The memory of "
        "CUDA graphs is not measured.",
        "rel. Δ is the relative norm of the difference to the reference's SR images, with freshly "
        "initialised weights.",
    ]

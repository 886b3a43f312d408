"""Measures the deformable convolution in pure PyTorch against torchvision's operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from srtoolbox.archs.layers.deform import Backend, deform_conv2d
from srtoolbox.bench.network import SEED
from srtoolbox.bench.options import BenchOptions
from srtoolbox.bench.report import Figures, Report, machine
from srtoolbox.bench.timing import in_rounds, milliseconds, speedup
from srtoolbox.config.schema import option
from srtoolbox.engine.device.precision import Precision, autocast
from srtoolbox.engine.profiling import peak_memory

_BACKENDS: tuple[Backend, ...] = ("torchvision", "grid_sample")
_HEAD = ("layer", "format", "backend", "test ms", "×", "train ms", "×", "test MiB", "train MiB")


@dataclass(frozen=True)
class Layer:
    """A deformable 3×3 convolution and its input."""

    images: int = option(default=1, min=1, doc="Images in a batch, e.g. clips times frames.")
    channels: int = option(default=64, min=1, doc="Channels of the input.")
    out_channels: int = option(default=64, min=1, doc="Channels of the output.")
    groups: int = option(default=8, min=1, doc="Groups of channels with offsets of their own.")
    size: tuple[int, int] = option(default=(64, 64), min=1, doc="Height and width.")


@dataclass(frozen=True, kw_only=True)
class DeformOptions(BenchOptions):
    """Options of the benchmark of the deformable convolution."""

    layers: dict[str, Layer]
    formats: list[Precision] = option(default=["fp32", "bf16"], doc="Number formats.")

    def validate(self) -> list[tuple[str, str]]:
        """Checks across fields; returns (key, message) of each fault."""
        faults = [] if self.layers else [("layers", "name at least one layer")]
        faults += [
            (f"layers.{name}.groups", f"must divide the {layer.channels} channels")
            for name, layer in self.layers.items()
            if layer.channels % layer.groups
        ]
        return super().validate() + faults


@dataclass(frozen=True)
class LayerTimes:
    """One layer in one format by one backend. Entry ``i`` of each list belongs to round ``i``.

    Attributes:
        layer: Its name in the option file.
        precision: The number format.
        backend: ``"torchvision"`` or ``"grid_sample"``.
        forward: Seconds of a forward pass without gradients.
        training: Seconds of a forward and a backward pass.
        forward_memory: Peak MiB of a forward pass beyond its input.
        training_memory: The same of a forward and a backward pass, gradients included.
        forward_ratio: Speed-up of the forward pass over torchvision.
        training_ratio: Speed-up of both passes over torchvision.
        deviation: Relative norm of the difference to torchvision's output.
    """

    layer: str
    precision: str
    backend: str
    forward: list[float]
    training: list[float]
    forward_memory: float
    training_memory: float
    forward_ratio: float
    training_ratio: float
    deviation: float


class _Work:
    """A layer by one backend on a given input."""

    def __init__(self, inputs: list[Tensor], precision: Precision, backend: Backend) -> None:
        self._inputs = [tensor.clone().requires_grad_() for tensor in inputs]
        self._precision: Precision = precision
        self._backend: Backend = backend
        self._device = inputs[0].device

    @torch.no_grad()
    def forward(self) -> Tensor:
        return self._run()

    def training(self) -> None:
        for tensor in self._inputs:
            tensor.grad = None
        self._run().float().square().mean().backward()

    def _run(self) -> Tensor:
        x, offset, mask, weight, bias = self._inputs
        with autocast(self._device, self._precision):
            return deform_conv2d(x, offset, weight, bias, mask, backend=self._backend)


def measure_deform(opt: DeformOptions, device: torch.device) -> Iterator[list[LayerTimes]]:
    """Measures every layer in every format by both backends.

    Returns:
        The measurements of each layer in each format, as soon as they are made.

    Raises:
        RunError: if torchvision's operator cannot be used.
    """
    for name, layer in opt.layers.items():
        for precision in opt.formats:
            yield _measure(name, layer, precision, opt.rounds, device)


def _measure(
    name: str, layer: Layer, precision: Precision, rounds: int, device: torch.device
) -> list[LayerTimes]:
    inputs = _inputs(layer, torch.bfloat16 if precision == "bf16" else torch.float32, device)
    works = [_Work(inputs, precision, backend) for backend in _BACKENDS]
    outputs = [work.forward().float() for work in works]  # also the warm-up
    norm = outputs[0].norm()
    deviations = [((output - outputs[0]).norm() / norm).item() for output in outputs]
    calls: list[list[Callable[[], object]]] = [
        [work.forward for work in works],
        [work.training for work in works],
    ]
    memory = [[peak_memory(call, device) for call in column] for column in calls]
    times = [in_rounds(column, rounds, device) for column in calls]
    return [
        LayerTimes(
            name,
            precision,
            backend,
            times[0][number],
            times[1][number],
            memory[0][number],
            memory[1][number],
            speedup(times[0][0], times[0][number]),
            speedup(times[1][0], times[1][number]),
            deviations[number],
        )
        for number, backend in enumerate(_BACKENDS)
    ]


def _inputs(layer: Layer, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Returns x, offset, mask, weight and bias; offsets are of two pixels (standard deviation)."""
    rng = torch.Generator().manual_seed(SEED)
    planes = {"x": layer.channels, "offset": 18 * layer.groups, "mask": 9 * layer.groups}
    x, offset, mask = (
        torch.randn(layer.images, count, *layer.size, generator=rng).to(device, dtype)
        for count in planes.values()
    )
    weight = torch.randn(layer.out_channels, layer.channels, 3, 3, generator=rng)
    weight /= (9 * layer.channels) ** 0.5
    bias = torch.zeros(layer.out_channels, device=device)
    return [x, 2 * offset, mask.sigmoid(), weight.to(device), bias]


def report_deform(results: list[LayerTimes], opt: DeformOptions, device: torch.device) -> Report:
    """Returns the measurements as a table."""
    rows = [
        [
            result.layer,
            result.precision,
            result.backend,
            milliseconds(result.forward),
            f"{result.forward_ratio:.2f}",
            milliseconds(result.training),
            f"{result.training_ratio:.2f}",
            f"{result.forward_memory:.0f}",
            f"{result.training_memory:.0f}",
        ]
        for result in results
    ]
    sizes = [
        f"{name} {layer.images}×{layer.channels}×{layer.size[0]}×{layer.size[1]}, "
        f"{layer.groups} groups"
        for name, layer in opt.layers.items()
    ]
    notes = [
        f"Deformable 3×3 convolution on {machine(opt, device)}; inputs (images × channels × height "
        f"× width): {'; '.join(sizes)}.",
        "grid_sample: pure PyTorch; torchvision: torchvision's operator, which computes in fp32. "
        "In bf16, input, offsets and mask are bf16, as under autocast.",
        f"test: forward pass without gradients; train: forward and backward pass. Times are "
        f"medians of {opt.rounds} rounds; × is the speed-up over torchvision, the median of the "
        "ratios within a round.",
        "On a CPU, the memory that torchvision's operator allocates internally is not counted.",
    ]
    worst = {
        precision: max(one.deviation for one in results if one.precision == precision)
        for precision in dict.fromkeys(one.precision for one in results)
    }
    notes += [
        f"Largest relative difference in {name}: {value:.1g}." for name, value in worst.items()
    ]
    return Report([Figures(_HEAD, rows, names=3)], notes, [asdict(result) for result in results])

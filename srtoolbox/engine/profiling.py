"""Measures what a network costs: time, memory and FLOPs of a frame and of a training step."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from srtoolbox.engine.device.precision import Precision, autocast, resolve, synchronize
from srtoolbox.inference.prediction import PLAIN, EnhanceOptions, predict
from srtoolbox.utils.environment import device_name


class TrainingStep:
    """Forward and backward pass of a model on one batch, to be measured.

    Args:
        model: A registered model; its networks are on ``device``.
        batch: What its ``objective`` takes.
        device: Where to run.
        precision: Number format of the forward pass.
    """

    def __init__(
        self,
        model: Any,
        batch: dict[str, Any],
        device: torch.device,
        precision: Precision = "fp32",
    ) -> None:
        self._model, self._batch, self._device = model, batch, device
        self._precision: Precision = precision

    def memory(self) -> float:
        """Peak MiB beyond weights and samples."""
        return peak_memory(self.run, self._device)

    def seconds(self) -> float:
        """Time of one step; the second of two runs."""
        self.run()
        synchronize(self._device)
        start = time.perf_counter()
        self.run()
        synchronize(self._device)
        return time.perf_counter() - start

    def run(self) -> None:
        """Runs the step once; the gradients stay."""
        for net in self._model.networks.values():
            net.zero_grad(set_to_none=True)
        for phase in self._model.phases:
            with autocast(self._device, self._precision):
                losses = self._model.objective(phase, self._batch)
            sum(losses.values()).backward()


def peak_memory(work: Callable[[], None], device: torch.device) -> float:
    """Largest amount of tensor memory that ``work`` holds at any moment, in MiB.

    On CUDA the caching allocator tells. Elsewhere every tensor is followed from the operator that
    made it to its release: the figure does not depend on what the process used before, and
    leaves out what an operator needs only inside itself.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with _LiveTensors() as live:
        work()
    return live.peak / 2**20


class _LiveTensors(TorchDispatchMode):
    """Adds up the bytes of all tensors that came to life inside and are still held."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):
            self._follow(tensor, counted=False)  # weights and inputs, which views lead back to
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._follow(tensor, counted=True)
        return result

    def _follow(self, tensor: Tensor, counted: bool) -> None:
        storage = tensor.untyped_storage()
        identity, size = storage._cdata, storage.nbytes() if counted else 0
        if identity in self._known:
            return
        self._known.add(identity)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._release, identity, size)

    def _release(self, identity: int, size: int) -> None:
        self._known.discard(identity)
        self.held -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


__all__ = ["COUNTING", "TrainingStep", "count_flops", "measure_inference", "peak_memory"]

_WARM_UP, _FEWEST, _MOST = 2, 7, 40

_PATIENCE = 1.5  # seconds for more than the fewest runs

COUNTING = (
    "FLOPs are 2 per multiply-add of convolutions, matrix products, attention, sampling "
    "(4 multiply-adds per bilinear value, 16 per bicubic one) and deformable convolution "
    "(sampling, then a convolution); element-wise work is not counted"
)


def measure_inference(
    net: nn.Module,
    lq: Tensor,
    reference: int | None,
    enhance: EnhanceOptions = PLAIN,
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """Costs of one SR frame (of all frames, where the network restores all).

    Args:
        net: A registered arch.
        lq: (1, T, C, h, w) on the network's device.
        reference: Index of the reference frame; None if all frames are restored.
        enhance: What is done beside one forward pass, which is measured with it.
        precision: Number format of the forward pass.

    Returns:
        ``params``: number of parameters; ``flops``: see ``COUNTING``; ``uncounted``: operators of
        other packages that have no formula; ``latency`` and ``latency_p95``: seconds, median and
        95th percentile of ``runs`` warm runs; ``memory``: peak MiB beyond weights and input;
        ``input``, ``device`` and ``precision``: what all of it was measured with.
    """
    was_training = net.training
    net.eval()

    def forward() -> None:
        with autocast(lq.device, precision):
            predict(net, lq, reference, enhance)

    try:
        for _ in range(_WARM_UP):  # also loads what is loaded on first use
            forward()
        flops, uncounted = count_flops(forward)
        times = _measure_times(forward, lq.device)
        return {
            "params": sum(parameter.numel() for parameter in net.parameters()),
            "flops": flops,
            "uncounted": uncounted,
            "latency": median(times),
            "latency_p95": sorted(times)[math.ceil(0.95 * len(times)) - 1],
            "runs": len(times),
            "memory": peak_memory(forward, lq.device),
            "input": list(lq.shape),
            "device": device_name(lq.device),
            "precision": resolve(precision, lq.device),
        }
    finally:
        net.train(was_training)


def count_flops(work: Callable[[], None]) -> tuple[int, list[str]]:
    """FLOPs of ``work`` by the rule that ``COUNTING`` says.

    Returns:
        The number, and the names of operators that are not torch's own and have no formula: what
        they do is missing from it.
    """
    formulas = _formulas()
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with counter, _Foreign(formulas) as foreign:
        work()
    return counter.get_total_flops(), sorted(foreign.names)


def _measure_times(work: Callable[[], None], device: torch.device) -> list[float]:
    times: list[float] = []
    while len(times) < _FEWEST or (len(times) < _MOST and sum(times) < _PATIENCE):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return times


class _Foreign(TorchDispatchMode):
    """Notes the operators of other packages that no formula is known for."""

    def __init__(self, formulas: dict[Any, Any]) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._known = formulas

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = getattr(func, "overloadpacket", func)
        if getattr(func, "namespace", "aten") not in _OWN and packet not in self._known:
            self.names.add(str(packet))
        return func(*args, **(kwargs or {}))


_OWN = ("aten", "prim", "prims", "higher_order", "profiler")


def _formulas() -> dict[Any, Callable[..., int]]:
    """Formulas beyond those that torch has, by operator."""
    aten = torch.ops.aten
    formulas: dict[Any, Callable[..., int]] = {
        aten.grid_sampler_2d: _grid_sampler,
        aten.cudnn_grid_sampler: _grid_sampler,
        aten.grid_sampler_3d: _grid_sampler,
        aten.upsample_bilinear2d: _resampling(2),
        aten.upsample_bicubic2d: _resampling(4),
        aten._upsample_bilinear2d_aa: _resampling(2),
        aten._upsample_bicubic2d_aa: _resampling(4),
    }
    if hasattr(torch.ops.torchvision, "deform_conv2d"):  # once torchvision is loaded
        formulas[torch.ops.torchvision.deform_conv2d] = _deform_conv
    return formulas


def _grid_sampler(x: Any, grid: Any, mode: int = 0, *_: Any, out_shape: Any, **__: Any) -> int:
    """Bilinear (or trilinear) sampling has 2 taps per axis, bicubic 4, nearest only moves."""
    taps = {0: 2, 1: 0, 2: 4}[mode] ** (len(x) - 2)
    return 2 * taps * math.prod(out_shape)


def _resampling(taps: int) -> Callable[..., int]:
    """Interpolation on a regular grid; a kernel that is widened to reduce has more taps."""

    def count(x: Any, *_: Any, out_shape: Any, **__: Any) -> int:
        widened = [max(1, old / new) for old, new in zip(x[2:], out_shape[2:], strict=True)]
        return round(2 * taps**2 * math.prod(widened) * math.prod(out_shape))

    return count


def _deform_conv(x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """A bilinear value for every channel and kernel point, then the convolution of them."""
    n, out_channels, height, width = out_shape
    points = math.prod(weight[2:])
    sampled = n * x[1] * points * height * width
    convolved = n * out_channels * weight[1] * points * height * width
    return 8 * sampled + 2 * convolved

"""What a network costs: parameters, FLOPs, latency and memory, measured on the spot."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from srtoolbox.engine.environment import device_name
from srtoolbox.engine.measure import TrainingStep, peak_memory
from srtoolbox.engine.precision import Precision, autocast, resolve, synchronize
from srtoolbox.inference.prediction import PLAIN, EnhanceSection, predict

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
    enhance: EnhanceSection = PLAIN,
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

"""Measures time, memory and FLOPs of inference and of training steps."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from srtoolbox.archs.layers.winograd import direct_convolutions
from srtoolbox.data.base import Batch
from srtoolbox.engine.device.precision import Precision, autocast, resolve, synchronize
from srtoolbox.inference.prediction import PLAIN, EnhanceOptions, predict
from srtoolbox.models.base import Model, compute_losses, sum_losses
from srtoolbox.utils.environment import device_name
from srtoolbox.utils.torch_private import TorchDispatchMode, storage_id, tree_leaves

_NUM_WARM_UP, _MIN_RUNS, _MAX_RUNS = 2, 7, 40
_MAX_EXTRA_SECONDS = 1.5  # for more than the minimum of runs


def measure_inference(
    net: nn.Module,
    lq: Tensor,
    reference: int | None,
    enhance: EnhanceOptions = PLAIN,
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """Measures the cost of one SR frame, or of all frames if the network restores all.

    Args:
        net: A registered arch.
        lq: LR frames (1, T, C, h, w) in [0, 1] on the network's device.
        reference: Index of the reference frame; None if all frames are restored.
        enhance: Inference options beyond one forward pass; their cost is included.
        precision: Number format of the forward pass.

    Returns:
        ``params``: number of parameters; ``flops``: see ``COUNTING``; ``uncounted``: operators
        without a formula, whose FLOPs are missing; ``latency`` and ``latency_p95``: median and
        95th percentile in seconds of ``runs`` runs after the warm-up; ``memory``: peak MiB beyond
        weights and input; ``input``, ``device`` and ``precision``: the conditions.
    """
    was_training = net.training
    net.eval()

    def forward() -> None:
        with autocast(lq.device, precision):
            predict(net, lq, reference, enhance)

    try:
        for _ in range(_NUM_WARM_UP):  # also loads modules that are loaded at first use
            forward()
        flops, uncounted = count_flops(forward)
        times: list[float] = []
        while len(times) < _MIN_RUNS or (
            len(times) < _MAX_RUNS and sum(times) < _MAX_EXTRA_SECONDS
        ):
            times.append(seconds(forward, lq.device))
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


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Returns the seconds that ``work`` takes, including its work on the device."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


@dataclass(frozen=True)
class TrainingStep:
    """Measures forward and backward pass of a model on one batch.

    Args:
        model: A registered model; its networks are on ``device``.
        batch: A batch for its ``objective``.
        device: Device of the step.
        precision: Number format of the forward pass.
    """

    model: Model
    batch: Batch
    device: torch.device
    precision: Precision = "fp32"

    def memory(self) -> float:
        """Returns the peak MiB beyond weights and samples."""
        return peak_memory(self.run, self.device)

    def seconds(self) -> float:
        """Returns the time of one step, after another as warm-up."""
        self.run()
        return seconds(self.run, self.device)

    def run(self) -> None:
        """Runs the step once. Gradients are kept; weights do not change."""
        for net in self.model.networks.values():
            net.zero_grad(set_to_none=True)
        memo: dict[str, Any] = {}
        for phase in self.model.phases:
            with autocast(self.device, self.precision):
                losses = compute_losses(self.model, phase, self.batch, memo=memo)
            if losses:
                sum_losses(losses).backward()


def peak_memory(work: Callable[[], object], device: torch.device) -> float:
    """Returns the largest amount of tensor memory that ``work`` holds at any moment, in MiB.

    On CUDA it is read from the caching allocator. Elsewhere every tensor is followed from the
    operator that made it to its release: the result does not depend on earlier work of the
    process, and leaves out the temporary memory inside an operator.
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
    """Adds up the bytes of all tensors that were made inside and are still held."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):
            self._follow(tensor, counted=False)  # weights and inputs: views share their storage
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._follow(tensor, counted=True)
        return result

    def _follow(self, tensor: Tensor, counted: bool) -> None:
        storage = tensor.untyped_storage()
        identity, size = storage_id(storage), storage.nbytes() if counted else 0
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


def count_flops(work: Callable[[], object]) -> tuple[int, list[str]]:
    """Counts the FLOPs of ``work`` as ``COUNTING`` describes.

    Returns:
        The FLOPs, and the names of operators whose FLOPs are missing: operators of other packages
        and attention operators that have no formula.
    """
    formulas = flop_formulas()
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    # The counter decomposes operators where it can; the inner mode sees what is left.
    with direct_convolutions(), _WithoutFormula({*counter.flop_registry}) as missing, counter:
        work()
    return counter.get_total_flops(), sorted(missing.names)


class _WithoutFormula(TorchDispatchMode):
    """Collects the names of operators that need a formula and have none."""

    _TORCH = ("aten", "prim", "prims", "higher_order", "profiler")

    def __init__(self, known: set[Any]) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._known = known

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = getattr(func, "overloadpacket", func)
        foreign = getattr(func, "namespace", "aten") not in self._TORCH
        if (foreign or "attention" in str(packet)) and packet not in self._known:
            self.names.add(str(packet))
        return func(*args, **(kwargs or {}))


# A formula gets the operator's arguments with the shape of each tensor in place of the tensor.
_Formula = Callable[..., int]
FUSED_ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
    "_scaled_dot_product_attention_math_for_mps",
)


def flop_formulas() -> dict[Any, _Formula]:
    """Returns, by operator, formulas that torch lacks, or has for fewer shapes in some versions."""
    aten = torch.ops.aten
    formulas: dict[Any, _Formula] = {
        aten.grid_sampler_2d: _grid_sampler,
        aten.cudnn_grid_sampler: _grid_sampler,
        aten.grid_sampler_3d: _grid_sampler,
        aten.upsample_bilinear2d: _resampling(2),
        aten.upsample_bicubic2d: _resampling(4),
        aten._upsample_bilinear2d_aa: _resampling(2),
        aten._upsample_bicubic2d_aa: _resampling(4),
        aten._native_multi_head_attention: _multi_head_attention,
        aten._transformer_encoder_layer_fwd: _transformer_layer,
    }
    for name in FUSED_ATTENTION:
        for operator, formula in ((name, _attention), (f"{name}_backward", _attention_backward)):
            if hasattr(aten, operator):  # not every version of torch has all of them
                formulas[getattr(aten, operator)] = formula
    if hasattr(torch.ops.torchvision, "deform_conv2d"):  # only if torchvision is loaded
        formulas[torch.ops.torchvision.deform_conv2d] = _deform_conv
    return formulas


def _grid_sampler(x: Any, grid: Any, mode: int = 0, *_: Any, out_shape: Any, **__: Any) -> int:
    """Bilinear (or trilinear) sampling has 2 taps per axis, bicubic 4; nearest only copies."""
    taps = {0: 2, 1: 0, 2: 4}[mode] ** (len(x) - 2)
    return 2 * taps * math.prod(out_shape)


def _resampling(taps: int) -> _Formula:
    """Interpolation on a regular grid; downsampling with antialiasing widens the kernel."""

    def count(x: Any, *_: Any, out_shape: Any, **__: Any) -> int:
        widened = [max(1, old / new) for old, new in zip(x[2:], out_shape[2:], strict=True)]
        return round(2 * taps**2 * math.prod(widened) * math.prod(out_shape))

    return count


def _deform_conv(x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """A bilinear value for every channel and kernel point, then a convolution of the values."""
    n, out_channels, height, width = out_shape
    points = math.prod(weight[2:])
    sampled = n * x[1] * points * height * width
    convolved = n * out_channels * weight[1] * points * height * width
    return 8 * sampled + 2 * convolved


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Two matrix products: query (…, L, E) with key (…, S, E), then with value (…, S, D).

    Masks do not save work. Key and value may have fewer heads than the query (grouped-query).
    """
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _attention_backward(_: Any, query: Any, key: Any, value: Any, *__: Any, **___: Any) -> int:
    """Five matrix products: the scores again, and the gradients of scores, value, query and key."""
    return 2 * math.prod(query[:-1]) * key[-2] * (3 * query[-1] + 2 * value[-1])


def _multi_head_attention(query: Any, key: Any, value: Any, width: int, *_: Any, **__: Any) -> int:
    """Linear layers of query, key, value and result, each width × width, around the attention."""
    tokens = 2 * math.prod(query[:-1]) + math.prod(key[:-1]) + math.prod(value[:-1])
    return 2 * tokens * width**2 + _attention(query, key, value)


def _transformer_layer(x: Any, width: int, heads: int, *rest: Any, **_: Any) -> int:
    """Multi-head attention, then two linear layers; the first one's weight is argument 14."""
    hidden = rest[11][0]
    return _multi_head_attention(x, x, x, width) + 4 * math.prod(x[:-1]) * width * hidden

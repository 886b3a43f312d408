"""What a piece of work costs: its peak memory, and that of a training step."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from srtoolbox.engine.precision import Precision, autocast, synchronize


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

"""Data-parallel training across processes that ``torchrun`` started.

Gradients are averaged in one collective after the backward pass, not by a wrapper around the
network: super-resolution networks have few parameters for their amount of computation, so
overlapping the two would save little time, and discriminators, frozen groups and gradient
accumulation need no special cases.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from srtoolbox.engine.device.precision import pick_device
from srtoolbox.errors import UserError

_log = logging.getLogger("srtoolbox")

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Number of this process among the processes of a run, and operations over all of them.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """True for the process that writes files and log lines."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replaces tensors, of equal shapes in all processes, by their means over the processes."""
        tensors = list(tensors)
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    @torch.no_grad()
    def average_gradients(self, net: nn.Module) -> None:
        """Averages gradients, and running statistics of norms, over the processes."""
        self.average(p.grad for p in net.parameters() if p.grad is not None)
        self.average(
            buffer
            for name, buffer in net.named_buffers()
            if name.endswith(("running_mean", "running_var"))
        )

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """Returns the means of numbers over the processes."""
        values = torch.tensor(list(figures.values()), dtype=torch.float64)
        self.average([values])
        return dict(zip(figures, values.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Returns whether the flag is set in any process; all of them must call this."""
        if self.size == 1:
            return flag
        value = torch.tensor(int(flag))
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value)

    def gather(self, part: list[T]) -> list[T]:
        """Joins lists in which process ``rank`` has the entries ``rank``, ``rank + size``, …"""
        if self.size == 1:
            return part
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, part)
        longest = max(map(len, parts))
        return [part[i] for i in range(longest) for part in parts if i < len(part)]

    def barrier(self) -> None:
        """Waits until all processes have called this."""
        if self.size > 1:
            dist.barrier()


SINGLE_PROCESS = Ranks()


@contextmanager
def join(device: str = "auto") -> Iterator[tuple[Ranks, torch.device]]:
    """Joins the processes that ``torchrun`` started; without it there is a single process.

    Each process uses the GPU of its local rank. The processes communicate by NCCL on GPUs and by
    Gloo on CPUs.

    Args:
        device: Name of the device, see ``precision.pick_device``.

    Yields:
        The processes and the device of this one.

    Raises:
        UserError: if there are fewer GPUs than processes on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield SINGLE_PROCESS, pick_device(device)
        return
    local = int(os.environ["LOCAL_RANK"])
    chosen = pick_device(device)
    if chosen.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UserError(
                f"torchrun started process {local + 1} on a machine with "
                f"{torch.cuda.device_count()} GPUs; lower --nproc-per-node"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    # Functions in this module have the process group as a default argument. If torch imported it
    # later, they would keep the group and its threads until the interpreter ends, which then
    # sometimes aborts.
    importlib.import_module("torch.distributed.nn.functional")
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend)
    ranks = Ranks(dist.get_rank(), size)
    if not ranks.is_main:
        _log.setLevel(logging.WARNING)
    try:
        yield ranks, chosen
    finally:
        dist.destroy_process_group()


def refuse(command: str) -> None:
    """Raises a ``UserError`` if ``torchrun`` started a command that runs as one process."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(
            f"srtoolbox {command} runs as one process; start it without torchrun"
            + (" (its option 'jobs' spreads trainings over GPUs)" if command == "compare" else "")
        )

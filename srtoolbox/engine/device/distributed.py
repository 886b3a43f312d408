"""Several processes that train as one. ``torchrun`` starts them; this tells each its part.

Gradients are averaged in one collective after the backward pass rather than by a wrapper around
the network: super-resolution networks have few parameters for their work, so there is little to
hide behind it, and discriminators, frozen groups and accumulated batches need no special care.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from srtoolbox.engine.device.precision import pick_device
from srtoolbox.engine.training.sharding import is_sharded
from srtoolbox.errors import UserError

_log = logging.getLogger("srtoolbox")


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, as one of them sees it; alone by default.

    Attributes:
        rank: Which one this is, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replaces tensors, alike in all processes, by their means over the processes."""
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
        """Makes the gradients those of the whole batch, and running statistics those of all.

        Those of a sharded network are so already.
        """
        if not is_sharded(net):
            self.average(p.grad for p in net.parameters() if p.grad is not None)
        self.average(
            buffer
            for name, buffer in net.named_buffers()
            if name.endswith(("running_mean", "running_var"))
        )

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """The means of numbers over the processes."""
        if self.size == 1:
            return figures
        values = torch.tensor(list(figures.values()), dtype=torch.float64)
        dist.all_reduce(values)
        return dict(zip(figures, (values / self.size).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all of them must ask."""
        if self.size == 1:
            return flag
        value = torch.tensor(int(flag))
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value)

    def gather(self, mine: list[Any]) -> list[Any]:
        """A list of which each process has every ``size``-th entry, whole and in order."""
        if self.size == 1:
            return mine
        parts: list[list[Any]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, mine)
        longest = max(map(len, parts))
        return [part[i] for i in range(longest) for part in parts if i < len(part)]

    def barrier(self) -> None:
        """Returns once all processes are here."""
        if self.size > 1:
            dist.barrier()


SINGLE_PROCESS = Ranks()


@contextmanager
def join(device: str = "auto") -> Iterator[tuple[Ranks, torch.device]]:
    """Joins the processes that ``torchrun`` started, if it did, and gives the device of this one.

    Each process takes the GPU of its local rank; on a CPU they talk by gloo.

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
    # Functions there take the group as a default argument: imported later, by torch itself, they
    # would keep it and its threads to the end of the interpreter, which then aborts now and then.
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
    """Raises a ``UserError`` if ``torchrun`` started a command that it cannot help."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError(
            f"srtoolbox {command} is one process; start it without torchrun"
            + (" (its option 'jobs' spreads trainings over GPUs)" if command == "compare" else "")
        )

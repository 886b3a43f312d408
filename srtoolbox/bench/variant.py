"""A network on one batch, computed in one mode."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.archs.layers.deform import reference_path
from srtoolbox.bench.modes import Mode
from srtoolbox.bench.straightforward import straightforward
from srtoolbox.data.base import Batch
from srtoolbox.engine.device.precision import autocast
from srtoolbox.engine.profiling import TrainingStep, peak_memory, seconds
from srtoolbox.losses import L1Loss
from srtoolbox.models.frames import arrange_frames, run_network
from srtoolbox.models.sr_model import SRModel
from srtoolbox.utils.own_code import is_own

_NUM_WARM_UP = 3  # before a graph is recorded


class Variant:
    """A network on one batch, computed in one mode.

    Args:
        net: The network; it is copied.
        lq: (N, T, C, h, w).
        mode: A mode; None: contiguous fp32 on the reference path.
        backend: Backend of ``torch.compile``.

    Attributes:
        preparation: Seconds of the first forward pass and the first training step, in which the
            network is compiled or recorded.
    """

    def __init__(
        self, net: nn.Module, lq: Tensor, mode: Mode | None, backend: str = "inductor"
    ) -> None:
        self.mode, self._device = mode or Mode(), lq.device
        self._context = reference_path if mode is None else nullcontext
        layout = torch.channels_last if self.mode.channels_last else torch.contiguous_format
        self._net = copy.deepcopy(net).to(memory_format=layout)
        if mode is None:
            self._net = straightforward(self._net)
        info = arch_info(net)
        reference = None if info.restores_all else 0
        self._lq = arrange_frames(net, lq, reference)
        if is_own(net):  # its mistakes are named before anything is measured
            with torch.no_grad():
                run_network(self._net.eval(), self._lq)
        if self.mode.compile:
            self._net.compile(backend=backend, mode="reduce-overhead" if self.mode.graphs else None)
        n, channels, height, width = lq[:, 0].shape
        scale = cast(int, net.scale)
        channels = info.out_channels or channels
        frames = () if reference == 0 else (info.frames_returned(lq.shape[1]),)
        gt = torch.rand(n, *frames, channels, height * scale, width * scale).to(lq.device)
        model = SRModel(self._net, {"l_pix": L1Loss()}, reference)
        batch: Batch = {"key": ["random"] * n, "lq": lq, "gt": gt}
        step = TrainingStep(model, batch, lq.device, self.mode.precision)
        self._forward: Callable[[], Any] = self._compute
        self._train: Callable[[], Any] = step.run
        self._recorded = self.mode.graphs and not self.mode.compile
        self.preparation = 0.0

    def prepare(self) -> None:
        """Runs the first forward pass and the first training step, and records their graphs.

        Raises:
            RuntimeError: if the network cannot be compiled or recorded.
        """
        self.preparation = seconds(self._prepare, self._device)

    def _prepare(self) -> None:
        if self._recorded:
            self._net.eval()
            self._forward = Recording(self._forward, self._device)
            self._net.train()
            self._train = Recording(self._train, self._device)
        self.forward()
        self.training()

    @torch.no_grad()
    def _compute(self) -> Tensor:
        with self._context(), autocast(self._device, self.mode.precision):
            output = self._net(self._lq)
        return output["sr"] if isinstance(output, dict) else output

    def forward(self) -> Tensor:
        """Returns the SR images (N, C, H, W), or (N, T, C, H, W) of networks that restore all."""
        self._net.eval()
        return self._forward()

    def training(self) -> None:
        """Runs a forward and a backward pass."""
        self._net.train()
        with self._context():
            self._train()

    def memory(self) -> tuple[float | None, float | None]:
        """Returns the peak MiB of a forward pass and of a training step.

        Both are None with graphs, whose memory stays allocated between the calls.
        """
        if self.mode.graphs:
            return None, None
        self._net.zero_grad(set_to_none=True)  # the gradients of a step are part of its memory
        return peak_memory(self.forward, self._device), peak_memory(self.training, self._device)


class Recording:
    """Work on a CUDA device, recorded as a graph; each call replays it.

    Args:
        work: Makes no decision that depends on values, and always uses the same tensors.
        device: A CUDA device.

    Raises:
        RuntimeError: if the work cannot be recorded, e.g. because it waits for the device.
    """

    def __init__(self, work: Callable[[], Any], device: torch.device) -> None:
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_NUM_WARM_UP):
                work()
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = work()

    def __call__(self) -> Any:
        """Runs the recorded work and returns its result, which the next call overwrites."""
        self._graph.replay()
        return self._result

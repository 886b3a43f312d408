"""What a network costs: parameters, FLOPs, latency and memory, measured on the spot."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from srtoolbox.engine.measure import TrainingStep, peak_memory
from srtoolbox.engine.precision import synchronize
from srtoolbox.inference.prediction import PLAIN, EnhanceSection, predict

__all__ = ["TrainingStep", "measure_inference", "peak_memory"]

_WARM_UP, _ROUNDS = 2, 7


def measure_inference(
    net: nn.Module, lq: Tensor, reference: int, enhance: EnhanceSection = PLAIN
) -> dict[str, Any]:
    """Costs of one SR frame.

    Args:
        net: A registered arch.
        lq: (1, T, C, h, w) on the network's device.
        reference: Index of the reference frame.
        enhance: What is done beside one forward pass, which is measured with it.

    Returns:
        ``params``: number of parameters; ``flops``: 2 per multiply-add, of the operators that
        torch's counter knows (convolutions, matrix products, attention; sampling and
        element-wise work are not counted); ``latency``: seconds per SR frame, median of 7 warm
        runs; ``memory``: peak MiB beyond weights and input.
    """
    was_training = net.training
    net.eval()

    def forward() -> None:
        predict(net, lq, reference, enhance)

    try:
        with FlopCounterMode(display=False) as counter:
            forward()
        times = []
        for _ in range(_WARM_UP + _ROUNDS):
            synchronize(lq.device)
            start = time.perf_counter()
            forward()
            synchronize(lq.device)
            times.append(time.perf_counter() - start)
        return {
            "params": sum(parameter.numel() for parameter in net.parameters()),
            "flops": counter.get_total_flops(),
            "latency": median(times[_WARM_UP:]),
            "memory": peak_memory(forward, lq.device),
        }
    finally:
        net.train(was_training)

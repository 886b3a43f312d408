"""Measures whether a number format is slow on a CPU."""

from __future__ import annotations

import logging
import time
from functools import cache

import torch

from srtoolbox.engine.device.precision import HALF, Precision

_log = logging.getLogger("srtoolbox")
_SLOWER = 1.25  # times as long as fp32: then the format has no instructions on this CPU


@cache
def cpu_slowdown(precision: Precision) -> float:
    """Returns the time of a small convolution on the CPU in this format, divided by that in fp32.

    It takes about a tenth of a second, and changes no random state.

    Args:
        precision: ``bf16`` or ``fp16``.
    """
    images = torch.ones(1, 64, 48, 48)
    weight = torch.full((64, 64, 3, 3), 1e-3, requires_grad=True)

    def seconds(enabled: bool) -> float:
        times = []
        for _ in range(3):  # the first one prepares the kernels
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=HALF[precision], enabled=enabled):
                result = torch.nn.functional.conv2d(images, weight, padding=1)
            torch.autograd.grad(result.float().sum(), weight)
            times.append(time.perf_counter() - start)
        return min(times)

    with torch.enable_grad():
        return seconds(True) / seconds(False)


def slow_format(device: torch.device, precision: Precision) -> str | None:
    """Returns a warning if training in a format is slower than in fp32 on a CPU, else None."""
    if device.type != "cpu" or precision not in HALF:
        return None
    try:
        ratio = cpu_slowdown(precision)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        return f"train.precision {precision}: this CPU cannot use it ({reason}); use auto or fp32"
    if ratio < _SLOWER:
        return None
    return (
        f"train.precision {precision}: a convolution takes {ratio:.1f} times as long as in fp32 on "
        "this CPU, which lacks instructions for it; use auto or fp32"
    )


def warn_of_slow_format(device: torch.device, precision: Precision) -> None:
    """Logs the warning of ``slow_format``."""
    if text := slow_format(device, precision):
        _log.warning("%s", text)

"""Selects devices and number formats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from srtoolbox.engine.device import Precision
from srtoolbox.errors import UserError

__all__ = ["HALF", "Precision", "autocast", "cpu_threads", "device_memory", "loss_scaler"]
__all__ += ["pick_device", "resolve", "synchronize"]

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """Returns the device of this name; ``auto`` is CUDA, else MPS, else the CPU.

    Raises:
        UserError: if the device is unknown or absent.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d{1,4})?", name):
        raise UserError(f"--device {name}: must be auto, cpu, cuda, cuda:0, cuda:1, … or mps")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        count = torch.cuda.device_count()
        here = ["auto", "cpu", *(f"cuda:{index}" for index in range(count))]
        here += ["mps"] if torch.backends.mps.is_available() else []
        raise UserError(
            f"--device {name}: not available here; there are: {', '.join(here)}"
        ) from error
    return device


def resolve(precision: Precision, device: torch.device) -> Precision:
    """Returns the number format for ``auto`` on a device, and any other precision unchanged.

    ``auto`` is bf16 on GPUs with hardware support, because bf16 has the range of fp32 and needs no
    loss scaling. Otherwise it is fp32, because bf16 is slower without hardware support.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    """Returns the context for the forward pass of a network; losses and metrics stay in fp32.

    This call also turns TF32 on or off for the backward pass that follows. (torch uses TF32 in
    convolutions by default; here fp32 means fp32 on a GPU too.)
    """
    precision = resolve(precision, device)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    if precision not in HALF:
        return nullcontext()
    return torch.autocast(device.type, dtype=HALF[precision])


def loss_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Returns the scaler that keeps small gradients in fp16; it is disabled in other formats."""
    return torch.amp.GradScaler(device.type, enabled=resolve(precision, device) == "fp16")


def synchronize(device: torch.device) -> None:
    """Waits for the device, so that subsequent timing is accurate."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def device_memory(device: torch.device) -> float:
    """Returns the peak device memory so far in MiB; 0: unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return 0.0


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Context in which torch uses ``count`` CPU threads; None: their number stays unchanged."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

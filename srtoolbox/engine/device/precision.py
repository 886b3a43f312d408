"""Devices and number formats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

from srtoolbox.errors import UserError

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` takes a GPU where there is one.

    Raises:
        UserError: if the device is unknown or absent.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--device {name}: not available here ({reason}); try cpu") from error
    return device


def resolve(precision: Precision, device: torch.device) -> Precision:
    """What ``auto`` stands for on a device; everything else is itself.

    bf16 on GPUs that compute with it, which needs no loss scaling and loses no range; elsewhere
    fp32, because bf16 on a CPU without the instructions is slower.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    """The context in which a network's forward pass runs; losses and metrics stay in fp32.

    fp32 is fp32 on a GPU too: TF32, which torch allows convolutions by default, is switched by
    entering this, for the backward pass that follows as well.
    """
    precision = resolve(precision, device)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    if precision not in _HALF:
        return nullcontext()
    return torch.autocast(device.type, dtype=_HALF[precision])


def loss_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Scales losses so that small gradients survive in fp16; does nothing in other formats."""
    return torch.amp.GradScaler(device.type, enabled=resolve(precision, device) == "fp16")


def synchronize(device: torch.device) -> None:
    """Waits for the device, so that a clock read next tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def device_memory(device: torch.device) -> float:
    """Largest device memory in use so far, in MiB; 0 where it cannot be told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return 0.0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Lets torch use ``count`` CPU threads inside; None leaves their number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""The private parts of torch that the toolbox uses; no other module may touch them.

``tests/utils/test_torch_private.py`` checks that each exists in the installed torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._pytree import tree_leaves as tree_leaves


def compiled_call(net: nn.Module) -> Callable[..., Any] | None:
    """Returns the compiled forward pass that ``net.compile()`` made; None: not compiled."""
    return net._compiled_call_impl


def set_compiled_call(net: nn.Module, call: Callable[..., Any] | None) -> None:
    """Replaces the compiled forward pass of ``net``; None: it runs as it is written."""
    net._compiled_call_impl = call


@contextmanager
def without_compilation(net: nn.Module) -> Iterator[None]:
    """Runs ``net`` inside as it is written, even if it is compiled."""
    compiled = compiled_call(net)
    set_compiled_call(net, None)
    try:
        yield
    finally:
        set_compiled_call(net, compiled)


def change_counts(tensors: Sequence[Tensor]) -> list[int]:
    """Returns how often each tensor was changed in place."""
    return [tensor._version for tensor in tensors]


def lerp_all(tensors: Sequence[Tensor], ends: Sequence[Tensor], weight: float) -> None:
    """Replaces each tensor by ``tensor + weight * (end - tensor)``, all in one kernel."""
    torch._foreach_lerp_([*tensors], [*ends], weight)  # pyright: ignore[reportPrivateImportUsage]


def supports_found_inf(optimizer: Optimizer) -> bool:
    """Returns whether ``step_if_finite`` works with an optimizer (fused ones)."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def step_if_finite(optimizer: Optimizer, found_inf: Tensor) -> None:
    """Makes a fused optimizer's step, or skips it on the device, where no host has to wait for it.

    Args:
        optimizer: One for which ``supports_found_inf`` is true.
        found_inf: Scalar float32 on the optimizer's device; the step is skipped if it is 1.
    """
    optimizer.grad_scale, optimizer.found_inf = None, found_inf  # type: ignore[attr-defined]
    optimizer.step()
    del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]


def storage_id(storage: torch.UntypedStorage) -> int:
    """Returns a number that identifies a storage as long as it lives."""
    return storage._cdata

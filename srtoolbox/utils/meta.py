"""Networks without numbers, for what their shapes tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWS = {
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
}
"""Names of the functions of ``torch.nn.init`` and of tensors that only draw numbers."""


@contextmanager
def without_memory() -> Iterator[None]:
    """Context in which new tensors, such as the weights of a network, have shapes but no memory.

    It is that of ``torch.device("meta")``, but functions that draw initial weights do nothing with
    tensors that have no memory: torch would work out their shapes anew for each, which takes
    several times as long as building the rest of the network.
    """
    with torch.device("meta"), _NoDraws():
        yield


class _NoDraws(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if getattr(func, "__name__", "") in _DRAWS:
            tensor = args[0] if args else options.get("tensor")
            if isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        return func(*args, **options)

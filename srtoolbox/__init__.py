"""srtoolbox: train super-resolution methods and compare them fairly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srtoolbox.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    DEGRADATION_REGISTRY,
    DISCRIMINATOR_REGISTRY,
    FLOW_REGISTRY,
    LOGGER_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    OPTIMIZER_REGISTRY,
    SCHEDULER_REGISTRY,
)

if TYPE_CHECKING:
    from srtoolbox.comparison.study.run import compare
    from srtoolbox.config.load import load_options
    from srtoolbox.engine.weights.load import load
    from srtoolbox.upscaling.run import upscale

__version__ = "0.1.0"

__all__ = [
    "ARCH_REGISTRY",
    "DATASET_REGISTRY",
    "DEGRADATION_REGISTRY",
    "DISCRIMINATOR_REGISTRY",
    "FLOW_REGISTRY",
    "LOGGER_REGISTRY",
    "LOSS_REGISTRY",
    "METRIC_REGISTRY",
    "MODEL_REGISTRY",
    "OPTIMIZER_REGISTRY",
    "SCHEDULER_REGISTRY",
    "__version__",
    "compare",
    "load",
    "load_options",
    "upscale",
]

_LAZY = {  # functions by the module that defines them
    "compare": "srtoolbox.comparison.study.run",
    "load": "srtoolbox.engine.weights.load",
    "load_options": "srtoolbox.config.load",
    "upscale": "srtoolbox.upscaling.run",
}


def __getattr__(name: str) -> Any:
    """Imports a function at its first use, so that ``import srtoolbox`` stays fast."""
    if name not in _LAZY:
        raise AttributeError(f"module 'srtoolbox' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

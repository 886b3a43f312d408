"""The ranges of components' options.

A constructor states types. The range of a parameter is that of its hint, ``Annotated[int,
Range(min=1)]``, or else that of its name in components of the toolbox and of torch: a name has one
meaning there, and the optimizers and schedulers of torch have no such hints. ``schema`` checks
option files by these ranges, ``components.build`` checks arguments from elsewhere (the arch in a
weight file), and ``json_schema`` writes them down.
"""

from __future__ import annotations

import fnmatch
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union

from srtoolbox.utils.own_code import is_own

MAX_INTEGER = 2**63
"""Integers must be smaller than this, as seeds and sizes of tensors are in torch."""


@dataclass(frozen=True)
class Range:
    """The values that a number, or every number of a list, may have; it is finite in any case.

    Attributes:
        min: Smallest value.
        max: Largest value.
        exclusive_min: The value must be larger than this.
        not_empty: Whether a list needs an entry.
    """

    min: float | None = None
    max: float | None = None
    exclusive_min: float | None = None
    not_empty: bool = False

    def fault(self, value: Any) -> str | None:
        """Returns what is wrong with a value; None for a value inside, and for other types."""
        if isinstance(value, list | tuple):
            if self.not_empty and not value:
                return "needs at least one entry"
            return next((fault for fault in map(self.fault, value) if fault), None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return f"must be finite, got {value}"
        if isinstance(value, int) and abs(value) >= MAX_INTEGER:
            return "must be an integer of at most 64 bits"
        if self.exclusive_min is not None and not value > self.exclusive_min:
            return f"must be > {self.exclusive_min}, got {value}"
        if self.min is not None and not value >= self.min:
            return f"must be >= {self.min}, got {value}"
        if self.max is not None and not value <= self.max:
            return f"must be <= {self.max}, got {value}"
        return None


FINITE = Range()
_COUNT = Range(min=1, max=1000)
_NOT_NEGATIVE = Range(min=0)
_POSITIVE = Range(exclusive_min=0)
_ONE_OR_MORE = Range(min=1)

# By kind of component and name; the first pattern that matches counts.
_BY_NAME: dict[str, dict[str, Range]] = {
    "arch": {
        "num*_feat": Range(min=1, max=4096),
        "num_feat": Range(min=1, max=4096),
        "num_*": _COUNT,
        "embed_dim": Range(min=1, max=4096),
        "deformable_groups": Range(min=1, max=4096),
        "*_size": _COUNT,
        "*_sizes": Range(min=1, max=1000, not_empty=True),
        "*_kernel": Range(min=1, max=99),
        "max_frame": _ONE_OR_MORE,
        "reference": Range(min=0, max=1000),
        "img_range": _POSITIVE,
        "scale": Range(min=1, max=64),
        "time_scale": Range(min=1, max=64),
    },
    "discriminator": {
        "num_*": Range(min=1, max=4096),
        "input_size": Range(min=1, max=65536),
    },
    "dataset": {
        "num_object": Range(min=0, max=1000),
        "num_burst": Range(min=1, max=100_000),
        "num_frame": _COUNT,
        "num_*": _ONE_OR_MORE,
        "scale": Range(min=1, max=64),
        "time_scale": Range(min=1, max=64),
        "*_size": Range(min=1, max=65536),
        "skip_frames": _NOT_NEGATIVE,
        "interval_list": Range(min=1, not_empty=True),
        "max_shift": Range(min=0, max=1000),
        "max_rotation": Range(min=0, max=180),
        "object_shift": Range(min=0, max=1000),
        "still": Range(min=0, max=1),
        "same_noise": Range(min=0, max=1),
        "blur_sigma": Range(min=0, max=100),
        "*_sigma": Range(min=0, max=1000),
        "*_noise": Range(min=0, max=1000),
        "cache_limit": _NOT_NEGATIVE,
    },
    "degradation": {
        "kernel_prob*": _NOT_NEGATIVE,
        "resize_prob*": _NOT_NEGATIVE,
        "*_prob*": Range(min=0, max=1),
        "kernel_size_range*": Range(min=1, max=255),
        "kernel_list*": Range(not_empty=True),
        "resize_list*": Range(not_empty=True),
        "blur_sigma*": Range(exclusive_min=0, max=100),
        "beta*_range*": Range(exclusive_min=0, max=100),
        "motion_length*": Range(min=0, max=254),
        "resize_range*": Range(exclusive_min=0, max=16),
        "noise_range*": Range(min=0, max=255),
        "poisson_scale_range*": Range(min=0, max=100),
        "jpeg_range*": Range(min=1, max=100),
        "margin": Range(min=0, max=4096),
    },
    "loss": {
        "*_weight": _NOT_NEGATIVE,
        "eps": _NOT_NEGATIVE,
        "gain": _NOT_NEGATIVE,
    },
    "optimizer": {
        "lr": _POSITIVE,
        "weight_decay": _NOT_NEGATIVE,
        "momentum": _NOT_NEGATIVE,
        "eps": _NOT_NEGATIVE,
    },
    "scheduler": {
        "eta_min": _NOT_NEGATIVE,
        "max_lr": _POSITIVE,
        "base_lr": _NOT_NEGATIVE,
        "min_lr": _NOT_NEGATIVE,
        "gamma": _POSITIVE,
        "milestones": Range(min=1, not_empty=True),
        "T_max": _ONE_OR_MORE,
        "T_0": _ONE_OR_MORE,
        "T_mult": _ONE_OR_MORE,
        "step_size": _ONE_OR_MORE,
        "step_size_up": _ONE_OR_MORE,
        "step_size_down": _ONE_OR_MORE,
        "total_steps": _ONE_OR_MORE,
        "total_iters": _NOT_NEGATIVE,
        "epochs": _ONE_OR_MORE,
        "steps_per_epoch": _ONE_OR_MORE,
        "patience": _NOT_NEGATIVE,
        "cooldown": _NOT_NEGATIVE,
        "power": _POSITIVE,
    },
}

# Components and options of torch that cannot be used, with the reasons.
_REFUSED: dict[tuple[str, str], str] = {
    ("optimizer", "SparseAdam"): "it needs sparse gradients, which no network here has; try Adam",
    ("optimizer", "LBFGS"): "it runs the network several times per step; try Adam or SGD",
    **{
        ("scheduler", name): "it needs a Python object, which an option file cannot give; try "
        "MultiStepLR or CosineAnnealingLR"
        for name in ("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")
    },
}
_REFUSED_OPTIONS: dict[tuple[str, str], str] = {
    ("optimizer", "maximize"): "it would raise the loss; remove this option",
    ("optimizer", "differentiable"): "no training differentiates its steps; remove this option",
}


@cache
def range_of(kind: str, name: str) -> Range:
    """Returns the range that parameters of this name have in components of a kind."""
    patterns = _BY_NAME.get(kind, {})
    return next((r for p, r in patterns.items() if fnmatch.fnmatchcase(name, p)), FINITE)


def range_in(hint: Any) -> Range | None:
    """Returns the range in a hint, also if the hint is one of a union; None if it has none."""
    notes = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    found = [note for note in notes if isinstance(note, Range)]
    if not found and typing.get_origin(hint) in (Union, UnionType):
        found = [note for note in map(range_in, typing.get_args(hint)) if note is not None]
    return found[0] if found else None


def refusal(kind: str, component: str) -> str | None:
    """Returns why a component cannot be used; None if it can."""
    return _REFUSED.get((kind, component))


def fault_of(
    kind: str, name: str, value: Any, hint: Any = None, component: object = None
) -> str | None:
    """Returns what is wrong with an option of a component; None if nothing is.

    Args:
        kind: Kind of the component.
        name: The parameter.
        value: A value of the right type.
        hint: The parameter's hint.
        component: The component; in a user's own one, names may have other meanings, so that only
            its hints count.
    """
    refused = _REFUSED_OPTIONS.get((kind, name))
    if refused and value is True:
        return refused
    if isinstance(value, Mapping):
        faults = (fault_of(kind, name, entry, hint, component) for entry in value.values())
        return next((fault for fault in faults if fault), None)
    by_name = FINITE if component is not None and is_own(component) else range_of(kind, name)
    return (range_in(hint) or by_name).fault(value)

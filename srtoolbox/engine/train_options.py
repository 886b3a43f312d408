"""The `train` section of option files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from srtoolbox.engine.precision import Precision
from srtoolbox.models.objective import LossSchedule, schedule_faults
from srtoolbox.options import plain
from srtoolbox.schema import Component, option

Optimizer = Annotated[dict, Component("optimizer")]
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that are trained otherwise than the rest."""

    pattern: str = option(doc="Regular expression; searched for in the parameters' names.")
    lr_mult: float = option(default=1.0, min=0, doc="Factor of the learning rate.")
    weight_decay: float | None = option(default=None, min=0, doc="Instead of the optimizer's.")
    frozen_iter: int = option(default=0, min=0, doc="Steps before these are trained at all.")

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        try:
            re.compile(self.pattern)
        except re.error as error:
            return [("pattern", f"'{self.pattern}' is no regular expression ({error})")]
        return []


@dataclass(frozen=True)
class TrainSection:
    """How a network is trained."""

    total_iter: int = option(min=1, doc="Optimizer steps.")
    batch_size: int = option(default=16, min=1, doc="Samples per step, over all devices.")
    num_worker: int = option(default=0, min=0, doc="Data loading processes; 0 loads in the loop.")
    num_frame_range: tuple[int, int] | None = option(
        default=None,
        min=1,
        doc="Fewest and most frames of a step, drawn at random, for networks that take any number; "
        "null: always all that the dataset gives.",
    )
    accumulate: int = option(default=1, min=1, doc="Parts in which a batch goes through the net.")
    optim_g: Optimizer = field(default_factory=lambda: {"type": "Adam", "lr": 1e-4})
    optim_d: Optimizer | None = option(default=None, doc="Discriminator's; null: as optim_g.")
    param_groups: list[ParamGroup] = option(
        default=[], doc="Parameters of network_g by name; the first pattern that fits counts."
    )
    scheduler: Annotated[dict, Component("scheduler", ("T_max", "total_steps"))] | None = None
    warmup_iter: int = option(default=0, min=0, doc="Steps of linear warm-up of the lr.")
    losses: dict[str, Annotated[dict, Component("loss")]] = field(
        default_factory=lambda: {"l_pix": {"type": "L1Loss"}}
    )
    loss_schedule: dict[str, LossSchedule] = option(
        default={}, doc="From when and until when losses count, by their names."
    )
    grad_clip: float | None = option(
        default=None, exclusive_min=0, doc="Largest norm of the gradient."
    )
    ema_decay: float = option(default=0.0, min=0, max=1, doc="Decay of the average; 0 = none.")
    precision: Precision = option(
        default="fp32", doc="Number format of the forward pass; auto: bf16 where a GPU has it."
    )
    channels_last: bool = option(default=False, doc="Memory format of the network.")
    compile: CompileMode | None = option(
        default=None, doc="torch.compile; reduce-overhead replays CUDA graphs."
    )
    checkpointing: bool = option(
        default=False, doc="Recompute the network's blocks in the backward pass to save memory."
    )
    shard: bool = option(
        default=False, doc="Spread the network over torchrun's processes (FSDP2) to save memory."
    )

    @property
    def identity(self) -> dict[str, Any]:
        """What of it decides the weights that a training ends with."""
        decisive = plain(self)
        del decisive["num_worker"]
        if self.num_frame_range is None:  # as in trainings from before there was this option
            del decisive["num_frame_range"]
        return decisive

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        faults = []
        if self.num_frame_range is not None and self.num_frame_range[0] > self.num_frame_range[1]:
            faults.append(("num_frame_range", "the fewest come first, then the most, as [1, 14]"))
        if self.shard and self.compile is not None:
            faults.append(("shard", "a sharded network is not compiled; leave train.compile out"))
        if self.batch_size % self.accumulate:
            faults.append(("accumulate", f"batch_size {self.batch_size} is not a multiple of it"))
        if self.warmup_iter >= self.total_iter:
            faults.append(("warmup_iter", f"must be below total_iter ({self.total_iter})"))
        if self.ema_decay == 1:
            faults.append(("ema_decay", "1 would keep the first weights for ever; 0.999 is usual"))
        if not self.losses:
            faults.append(("losses", "name at least one loss"))
        return faults + schedule_faults(self.losses, self.loss_schedule, self.total_iter)

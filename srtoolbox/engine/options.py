"""The sections of option files for `srtoolbox train` and `srtoolbox test`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from srtoolbox.config.files import plain
from srtoolbox.config.schema import Component, option
from srtoolbox.engine.device.precision import Precision
from srtoolbox.errors import UserError
from srtoolbox.inference.cascade import check_stage, stage_scale
from srtoolbox.inference.prediction import EnhanceOptions
from srtoolbox.metrics import get_protocol
from srtoolbox.models.gan_model import GANOptions
from srtoolbox.models.loss_schedule import LossSchedule, schedule_faults
from srtoolbox.registry import ARCH_REGISTRY, MODEL_REGISTRY, constructor_parameters

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
class TrainOptions:
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


Metric = Annotated[dict, Component("metric")]


@dataclass(frozen=True)
class ValOptions:
    """How networks are scored."""

    protocol: str = option(default="rgb", doc="Name of the evaluation protocol.")
    metrics: dict[str, Metric] = field(
        default_factory=lambda: {"psnr": {"type": "PSNR"}, "ssim": {"type": "SSIM"}}
    )
    val_freq: int = option(default=5000, min=1, doc="Steps between evaluations in training.")
    best_metric: str = option(default="psnr", doc="Metric that chooses the best weights.")
    frame_use: bool = option(
        default=False,
        doc="Also measure, in training, what multi-frame networks owe to the other frames.",
    )
    save_img: bool = option(default=False, doc="Write SR images, in training too.")
    tile: int | None = option(
        default=None,
        min=8,
        doc="Side of tiles in LR pixels; null: whole images while memory lasts.",
    )
    tile_halo: int = option(default=64, min=0, doc="LR pixels seen beyond a tile.")
    enhance: EnhanceOptions = option(factory=EnhanceOptions)

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        faults = []
        try:
            get_protocol(self.protocol)
        except ValueError as error:
            faults.append(("protocol", str(error)))
        if self.best_metric not in self.metrics:
            faults.append(("best_metric", f"'{self.best_metric}' is none of {list(self.metrics)}"))
        return faults

    def describe(self) -> str:
        """The protocol, and what is done beside one forward pass, to stand under a table."""
        tiles = f"In tiles of {self.tile} with a halo of {self.tile_halo}." if self.tile else ""
        parts = (get_protocol(self.protocol).describe(), self.enhance.describe(), tiles)
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class LoggerOptions:
    """How often a run reports and saves."""

    print_freq: int = option(default=100, min=1, doc="Steps between log lines.")
    save_checkpoint_freq: int = option(default=5000, min=1, doc="Steps between checkpoints.")
    keep_checkpoint: int = option(default=2, min=1, doc="How many of the newest are kept.")
    use_tb_logger: bool = option(default=True, doc="Write TensorBoard files.")


DatasetSpec = Annotated[dict, Component("dataset", injected=("scale",))]

ArchSpec = Annotated[dict, Component("arch", injected=("scale",))]

DiscriminatorSpec = Annotated[dict, Component("discriminator", injected=("input_size",))]


@dataclass(frozen=True)
class DatasetsOptions:
    """What is trained on, what is watched in training, what is tested on."""

    train: DatasetSpec | None = None
    val: dict[str, DatasetSpec] = option(factory=dict)
    test: dict[str, DatasetSpec] = option(factory=dict)


@dataclass(frozen=True)
class PathOptions:
    """Where things lie. Relative paths count from the working directory."""

    experiments_root: Path = option(default=Path("experiments"), doc="Where runs write.")
    pretrain_network_g: Path | None = option(default=None, doc="Weights to start from or test.")
    param_key_g: str | None = option(
        default=None, doc="Entry of that file to take; default params_ema, then params."
    )
    strict_load_g: bool = option(default=True, doc="Refuse weights that do not fit entirely.")


@dataclass(frozen=True)
class RunOptions:
    """An option file for `srtoolbox train` and `srtoolbox test`."""

    name: str
    network_g: ArchSpec
    datasets: DatasetsOptions
    scale: int = option(default=4, min=1, doc="Super-resolution factor.")
    manual_seed: int = option(default=0, min=0, doc="Seed of weights and samples.")
    model_type: str = option(default="SRModel", doc="A registered model.")
    network_d: DiscriminatorSpec | None = option(
        default=None, doc="Discriminator of a GANModel; null: UNetDiscriminatorSN."
    )
    gan: GANOptions | None = option(default=None, doc="The adversarial part of a GANModel.")
    plugins: list[str] = option(default=[], doc="Files or modules that register components.")
    path: PathOptions = option(factory=PathOptions)
    train: TrainOptions | None = None
    val: ValOptions = option(factory=ValOptions)
    logger: LoggerOptions = option(factory=LoggerOptions)

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        faults = []
        if self.model_type not in MODEL_REGISTRY:
            faults.append(("model_type", MODEL_REGISTRY.explain_miss(self.model_type)))
        faults += unused_gan(self.model_type, self.network_d, self.gan)
        if not self.name or "/" in self.name or self.name.startswith("."):
            faults.append(("name", f"'{self.name}' cannot be the name of a folder"))
        try:
            self._check_cascade()
        except UserError as error:
            faults.append(("val", str(error)))
        return faults

    def _check_cascade(self) -> None:
        stages = self.val.enhance.cascade
        stage_scale(self.scale, stages)
        if stages > 1:
            arch = ARCH_REGISTRY.get(self.network_g["type"])
            check_stage(arch.__name__, getattr(arch, "num_frame", 1))  # else the instance has it

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return self.path.experiments_root / self.name


def unused_gan(model_type: str, network_d: Any, gan: Any) -> list[tuple[str, str]]:
    """Options of a discriminator that the model would not look at, as (key, message)."""
    if model_type not in MODEL_REGISTRY:
        return []
    known = constructor_parameters(MODEL_REGISTRY.get(model_type))
    given = {"network_d": network_d, "gan": gan}
    return [
        (key, f"model_type {model_type} has no discriminator; set model_type: GANModel")
        for key, value in given.items()
        if value is not None and key not in known
    ]

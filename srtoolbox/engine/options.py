"""Options of `srtoolbox train` and `srtoolbox test`, and those that a study shares with them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from srtoolbox.archs.base import arch_info
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
from srtoolbox.utils.cpu import cpu_count

_log = logging.getLogger("srtoolbox")

_MAX_NAME = 200  # bytes of a name, so that file names can begin with it
MAX_SEED = 2**63 - 1
_WORKERS_PER_CORE = 4
_MAX_BATCH = 65536  # more than any machine has memory for
# Windows reserves these names in each folder, with any extension and in any case.
_RESERVED = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{device}{number}" for device in ("COM", "LPT") for number in "123456789¹²³"]
)


def name_faults(key: str, name: str) -> Iterator[tuple[str, str]]:
    """Yields a fault as (key, message) if a name cannot be the name of a folder."""
    unsafe = not name or name.startswith((".", "~")) or not name.isprintable()
    if unsafe or "/" in name or "\\" in name:
        yield key, f"{name!r} cannot be the name of a folder"
    elif name != name.strip():
        yield key, f"{name!r} begins or ends with a blank; remove it"
    elif name.endswith("."):
        yield key, f"{name!r} ends with a dot, which Windows removes; choose another name"
    elif name.partition(".")[0].rstrip().upper() in _RESERVED:
        yield key, f"{name!r} is reserved by Windows; choose another name"
    elif len(name.encode()) > _MAX_NAME:
        yield key, f"'{name[:20]}…' is too long for the name of a folder"


Optimizer = Annotated[dict, Component("optimizer")]


@dataclass(frozen=True)
class ParamGroup:
    """Parameters with a learning rate, a weight decay or a start of their own."""

    pattern: str = option(doc="Regular expression that is searched for in parameter names.")
    lr_mult: float = option(default=1.0, min=0, doc="Factor of the learning rate.")
    weight_decay: float | None = option(
        default=None, min=0, doc="Weight decay; null: the optimizer's."
    )
    frozen_iter: int = option(
        default=0, min=0, doc="Steps at the start in which these parameters are frozen."
    )

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults as (key, message)."""
        try:
            re.compile(self.pattern)
        except re.error as error:
            return [("pattern", f"'{self.pattern}' is not a regular expression ({error})")]
        return []


_LATER_OPTIONS = {
    "num_frame_range": None,
    "monitor": "train_loss",
    "epoch_iter": None,
    "loss_crop_border": 0,
}


@dataclass(frozen=True)
class TrainOptions:
    """Options for training a network."""

    total_iter: int = option(min=1, doc="Optimizer steps.")
    batch_size: int = option(
        default=16, min=1, max=_MAX_BATCH, doc="Samples per step, over all devices."
    )
    num_worker: int = option(
        default=0, min=0, doc="Data loading processes; 0: load in the training process."
    )
    num_frame_range: tuple[int, int] | None = option(
        default=None,
        min=1,
        doc="Minimum and maximum number of frames, drawn at random for each step, for networks "
        "that take any number of frames; null: always all frames of the dataset.",
    )
    accumulate: int = option(default=1, min=1, max=_MAX_BATCH, doc="Gradient accumulation steps.")
    optim_g: Optimizer = field(default_factory=lambda: {"type": "Adam", "lr": 1e-4})
    optim_d: Optimizer | None = option(
        default=None, doc="Optimizer of the discriminator; null: as optim_g."
    )
    param_groups: list[ParamGroup] = option(
        default=[], doc="Groups of network_g's parameters; the first matching pattern counts."
    )
    scheduler: Annotated[dict, Component("scheduler", ("T_max", "total_steps"))] | None = None
    monitor: str = option(
        default="train_loss",
        doc="Value that scheduler ReduceLROnPlateau watches: train_loss (the mean of each epoch) "
        "or a metric of val.metrics (at each evaluation, on the first dataset).",
    )
    epoch_iter: int | None = option(
        default=None,
        min=1,
        doc="Steps of an epoch for train_loss; null: training samples divided by batch_size, "
        "rounded up.",
    )
    warmup_iter: int = option(default=0, min=0, doc="Steps of linear learning rate warm-up.")
    losses: dict[str, Annotated[dict, Component("loss")]] = field(
        default_factory=lambda: {"l_pix": {"type": "L1Loss"}}
    )
    loss_schedule: dict[str, LossSchedule] = option(
        default={}, doc="Steps in which losses count, by the names of the losses."
    )
    loss_crop_border: int = option(
        default=0, min=0, doc="HR pixels at every side of the images that the losses leave out."
    )
    grad_clip: float | None = option(
        default=None, exclusive_min=0, doc="Maximum norm of the gradient."
    )
    ema_decay: float = option(
        default=0.0,
        min=0,
        max=1,
        doc="Decay of the exponential moving average of the weights; 0: no average.",
    )
    precision: Precision = option(
        default="fp32", doc="Number format of the forward pass; auto: bf16 on GPUs that support it."
    )
    channels_last: bool | Literal["auto"] = option(
        default=False,
        doc="Use the channels-last memory format; auto: if the start of the run measures that a "
        "step is 1.05 times as fast with it.",
    )
    compile: Literal["default", "reduce-overhead", "max-autotune", "auto"] | None = option(
        default=None,
        doc="torch.compile; reduce-overhead replays CUDA graphs; auto: default if the start of the "
        "run measures that a step is 1.15 times as fast and the compilation pays off, else null.",
    )
    checkpointing: bool = option(
        default=False, doc="Recompute the network's blocks in the backward pass to save memory."
    )

    @property
    def identity(self) -> dict[str, Any]:
        """The options that decide the final weights of a training."""
        decisive = plain(self)
        del decisive["num_worker"]
        decisive["shard"] = False  # a removed option: earlier runs keep their hash
        # Runs that are older than these options keep their hash.
        for name, default in _LATER_OPTIONS.items():
            if getattr(self, name) == default:
                del decisive[name]
        return decisive

    @property
    def measured(self) -> tuple[str, ...]:
        """The options that a run decides by a measurement on its machine (``auto``)."""
        return tuple(key for key in ("channels_last", "compile") if getattr(self, key) == "auto")

    @property
    def workers(self) -> int:
        """``num_worker``, capped by the number of CPU cores with a warning."""
        most = _WORKERS_PER_CORE * cpu_count()
        if self.num_worker > most:
            _log.warning(
                "train.num_worker: %d is too many for %d CPU cores; %d are used",
                *(self.num_worker, cpu_count(), most),
            )
        return min(self.num_worker, most)

    @property
    def on_plateau(self) -> bool:
        """Whether the learning rate depends on a monitored value."""
        return self.scheduler is not None and self.scheduler["type"] == "ReduceLROnPlateau"

    @property
    def monitored_metric(self) -> str | None:
        """The metric that the learning rate depends on; None if there is none."""
        return self.monitor if self.on_plateau and self.monitor != "train_loss" else None

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults as (key, message)."""
        faults = []
        if self.num_frame_range is not None and self.num_frame_range[0] > self.num_frame_range[1]:
            faults.append(("num_frame_range", "the minimum comes first, then the maximum: [1, 14]"))
        if self.batch_size % self.accumulate:
            faults.append(("accumulate", f"batch_size {self.batch_size} is not a multiple of it"))
        if self.warmup_iter >= self.total_iter:
            faults.append(("warmup_iter", f"must be below total_iter ({self.total_iter})"))
        if self.ema_decay == 1:
            faults.append(
                ("ema_decay", "1 would keep the first weights forever; a usual value is 0.999")
            )
        if not self.losses:
            faults.append(("losses", "name at least one loss"))
        if not self.on_plateau:
            unused = "only scheduler ReduceLROnPlateau uses it; remove it, or set that scheduler"
            faults += [
                (name, unused)
                for name in ("monitor", "epoch_iter")
                if getattr(self, name) != _LATER_OPTIONS[name]
            ]
        elif self.scheduler is not None and "mode" in self.scheduler:
            faults.append(("scheduler.mode", "remove it; it follows from train.monitor"))
        if self.monitored_metric and self.epoch_iter is not None:
            text = f"'{self.monitor}' is watched at each evaluation; remove it, set val.val_freq"
            faults.append(("epoch_iter", text))
        return faults + schedule_faults(self.losses, self.loss_schedule, self.total_iter)


Metric = Annotated[dict, Component("metric")]


@dataclass(frozen=True)
class ValOptions:
    """Options for evaluating networks, during training and in tests."""

    protocol: str = option(default="rgb", doc="Name of the evaluation protocol.")
    metrics: dict[str, Metric] = field(
        default_factory=lambda: {"psnr": {"type": "PSNR"}, "ssim": {"type": "SSIM"}}
    )
    val_freq: int = option(default=5000, min=1, doc="Steps between evaluations in training.")
    best_metric: str = option(
        default="",
        doc="Metric that selects the best weights; default: psnr or, without it, the first metric.",
    )
    frame_use: bool = option(
        default=False,
        doc="Also measure, in training, the PSNR gain of multi-frame networks from other frames.",
    )
    save_img: bool = option(default=False, doc="Save SR images, in training too.")
    rgb_bands: list[int] | None = option(
        default=None,
        min=1,
        doc="Bands, from 1, that are red, green and blue in pictures of SR images, or one that is "
        "grey; null: the first three, or the first of one or two.",
    )
    tile: int | None = option(
        default=None,
        min=8,
        doc="Side of tiles in LR pixels; null: whole images, and tiles if memory runs out.",
    )
    tile_halo: int = option(
        default=64, min=0, doc="LR pixels around a tile that the network also sees."
    )
    segment: int | None = option(
        default=None,
        min=1,
        doc="Frames that a network that restores all frames of a clip gets at a time; null: all. "
        "Less memory for long clips; it changes results.",
    )
    segment_overlap: int = option(
        default=10, min=0, doc="Frames before and after a segment that the network also sees."
    )
    enhance: EnhanceOptions = option(factory=EnhanceOptions)

    def __post_init__(self) -> None:
        if not self.best_metric and self.metrics:
            best = "psnr" if "psnr" in self.metrics else next(iter(self.metrics))
            object.__setattr__(self, "best_metric", best)

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults as (key, message)."""
        faults = []
        if not self.metrics:
            faults.append(("metrics", "name at least one metric"))
        try:
            get_protocol(self.protocol)
        except ValueError as error:
            faults.append(("protocol", str(error)))
        if self.metrics and self.best_metric not in self.metrics:
            faults.append(
                ("best_metric", f"'{self.best_metric}' is not one of {list(self.metrics)}")
            )
        if self.rgb_bands is not None and len(self.rgb_bands) not in (1, 3):
            text = f"{list(self.rgb_bands)}: name three bands (red, green, blue), or one (grey)"
            faults.append(("rgb_bands", text))
        return faults

    def describe(self) -> str:
        """Returns a footnote for tables: protocol, enhancement, tiles and segments."""
        tiles = f"In tiles of {self.tile} with a halo of {self.tile_halo}." if self.tile else ""
        segments = (
            f"Clips in segments of {self.segment} frames, with {self.segment_overlap} more on each "
            "side, for networks that restore all frames of a clip."
            if self.segment
            else ""
        )
        parts = (get_protocol(self.protocol).describe(), self.enhance.describe(), tiles, segments)
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class LoggerOptions:
    """Options for log lines and checkpoints of a run."""

    print_freq: int = option(default=100, min=1, doc="Steps between log lines.")
    save_checkpoint_freq: int = option(default=5000, min=1, doc="Steps between checkpoints.")
    keep_checkpoint: int = option(default=2, min=1, doc="Number of newest checkpoints to keep.")
    use_tb_logger: bool = option(default=True, doc="Write TensorBoard files.")
    trackers: dict[str, Annotated[dict, Component("logger")]] = option(
        default={},
        doc="Trackers of a training by names of your choice, e.g. {wandb: {type: WandB}}.",
    )


DatasetSpec = Annotated[dict, Component("dataset", injected=("scale",))]

ArchSpec = Annotated[dict, Component("arch", injected=("scale",))]

DiscriminatorSpec = Annotated[dict, Component("discriminator", injected=("input_size",))]


@dataclass(frozen=True)
class DatasetsOptions:
    """Datasets to train on, to evaluate on in training, and to test on."""

    train: DatasetSpec | None = None
    val: dict[str, DatasetSpec] = option(factory=dict)
    test: dict[str, DatasetSpec] = option(factory=dict)


@dataclass(frozen=True)
class PathOptions:
    """Input and output paths; relative ones start at the working directory."""

    experiments_root: Path = option(
        default=Path("experiments"), doc="Folder for the outputs of runs."
    )
    pretrain_network_g: Path | None = option(default=None, doc="Weights to start from or test.")
    param_key_g: str | None = option(
        default=None, doc="Key of the weights in that file; default params_ema, then params."
    )
    strict_load_g: bool = option(
        default=True, doc="Refuse weights that do not match the network entirely."
    )


@dataclass(frozen=True, kw_only=True)
class SharedOptions:
    """Options that have the same meaning in the files of `train`, `test` and `compare`.

    ``comparison.study.plan`` copies exactly these options from a study to each of its runs. A
    subclass in which ``train`` is required declares ``train: TrainOptions = option()``; without
    ``= option()`` it would inherit the default.
    """

    scale: int = option(default=4, min=1, doc="Super-resolution factor.")
    model_type: str = option(default="SRModel", doc="A registered model.")
    network_d: DiscriminatorSpec | None = option(
        default=None, doc="Discriminator of a GANModel; null: UNetDiscriminatorSN."
    )
    gan: GANOptions | None = option(default=None, doc="Adversarial loss of a GANModel.")
    plugins: list[str] = option(default=[], doc="Files or modules that register components.")
    datasets: DatasetsOptions
    path: PathOptions = option(factory=PathOptions)
    train: TrainOptions | None = None
    val: ValOptions = option(factory=ValOptions)
    logger: LoggerOptions = option(factory=LoggerOptions)

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults as (key, message)."""
        faults = self._monitor_faults()
        for part in ("val", "test"):
            for name in getattr(self.datasets, part):
                faults += name_faults(f"datasets.{part}.{name}", name)
        if self.model_type not in MODEL_REGISTRY:
            faults.append(("model_type", MODEL_REGISTRY.explain_miss(self.model_type)))
        return faults

    def _monitor_faults(self) -> list[tuple[str, str]]:
        """Checks that the metric that the learning rate depends on is computed in training."""
        metric = self.train.monitored_metric if self.train else None
        if self.train is None or metric is None:
            return []
        if metric not in self.val.metrics:
            known = ", ".join(["train_loss", *self.val.metrics])
            text = f"there is no '{metric}' in val.metrics; possible values: {known}"
        elif not self.datasets.val:
            text = f"'{metric}' needs a dataset in datasets.val, or use train_loss"
        elif self.val.val_freq >= self.train.total_iter:
            text = (
                f"val.val_freq {self.val.val_freq} gives no evaluation before the last step "
                f"({self.train.total_iter}), so the learning rate cannot fall; lower val.val_freq"
            )
        else:
            return []
        return [("train.monitor", text)]


@dataclass(frozen=True, kw_only=True)
class RunOptions(SharedOptions):
    """An option file for `srtoolbox train` and `srtoolbox test`."""

    name: str
    network_g: ArchSpec
    manual_seed: int = option(default=0, min=0, max=MAX_SEED, doc="Seed of weights and samples.")

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults as (key, message)."""
        faults = super().validate()
        if not faults:
            known = constructor_parameters(MODEL_REGISTRY.get(self.model_type))
            text = f"model_type {self.model_type} has no discriminator; set model_type: GANModel"
            unused = (key for key in ("network_d", "gan") if key not in known)
            faults += [(key, text) for key in unused if getattr(self, key) is not None]
        faults += name_faults("name", self.name)
        stages = self.val.enhance.cascade
        try:
            stage_scale(self.scale, stages)
            if stages > 1:
                arch = ARCH_REGISTRY.get(self.network_g["type"])
                check_stage(arch.__name__, arch_info(arch).num_frame)
        except UserError as error:
            faults.append(("val", str(error)))
        return faults

    @property
    def folder(self) -> Path:
        """Folder for the outputs of this run."""
        return self.path.experiments_root / self.name

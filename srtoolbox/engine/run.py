"""One run as an option file describes it: its sections, its parts, its identity."""

from __future__ import annotations

import copy
import hashlib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from torch import nn

from srtoolbox import __version__
from srtoolbox.engine.environment import digest
from srtoolbox.engine.evaluator import ValSection
from srtoolbox.engine.reporter import LoggerSection
from srtoolbox.engine.train_options import TrainSection
from srtoolbox.engine.weights import load_weights
from srtoolbox.errors import UserError
from srtoolbox.inference.cascade import Cascade, check_stage, stage_scale
from srtoolbox.inference.padding import fits
from srtoolbox.metrics import get_protocol
from srtoolbox.models.frames import arrange_frames, check_time
from srtoolbox.models.gan_model import GANSection
from srtoolbox.options import Tree, plain, read
from srtoolbox.plugins import load_entry_points, load_plugins
from srtoolbox.registry import ARCH_REGISTRY, MODEL_REGISTRY, constructor_parameters
from srtoolbox.schema import Component, build, check, option

Section = TypeVar("Section")
DatasetSpec = Annotated[dict, Component("dataset", injected=("scale",))]
ArchSpec = Annotated[dict, Component("arch", injected=("scale",))]
DiscriminatorSpec = Annotated[dict, Component("discriminator", injected=("input_size",))]

_USUAL_DISCRIMINATOR = {"type": "UNetDiscriminatorSN"}

# Options of a dataset that decide how fast its samples come, not what they are.
_SPEED_OF_DATA = ("cache", "cache_limit")

# Raised when the same options would give other weights than before (a change of the stream, say).
_TRAINING_REVISION = 1


@dataclass(frozen=True)
class DatasetsSection:
    """What is trained on, what is watched in training, what is tested on."""

    train: DatasetSpec | None = None
    val: dict[str, DatasetSpec] = option(factory=dict)
    test: dict[str, DatasetSpec] = option(factory=dict)


@dataclass(frozen=True)
class PathSection:
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
    datasets: DatasetsSection
    scale: int = option(default=4, min=1, doc="Super-resolution factor.")
    manual_seed: int = option(default=0, min=0, doc="Seed of weights and samples.")
    model_type: str = option(default="SRModel", doc="A registered model.")
    network_d: DiscriminatorSpec | None = option(
        default=None, doc="Discriminator of a GANModel; null: UNetDiscriminatorSN."
    )
    gan: GANSection | None = option(default=None, doc="The adversarial part of a GANModel.")
    plugins: list[str] = option(default=[], doc="Files or modules that register components.")
    path: PathSection = option(factory=PathSection)
    train: TrainSection | None = None
    val: ValSection = option(factory=ValSection)
    logger: LoggerSection = option(factory=LoggerSection)

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


def load_options(
    path: str | Path, overrides: Sequence[str] = (), section: type[Section] = RunOptions
) -> tuple[Section, Tree]:
    """Reads an option file, loads its plugins and checks all of it.

    Returns:
        The checked options and the tree that they were read from.
    """
    tree = read(path, overrides)
    return check_options(tree, section), tree


def check_options(tree: Tree, section: type[Section] = RunOptions) -> Section:
    """Options that were read, checked after the plugins that they name were loaded."""
    load_entry_points()
    plugins = tree.get("plugins")
    if isinstance(plugins, list) and all(isinstance(entry, str) for entry in plugins):
        load_plugins(plugins)
    return check(tree, section)


def fingerprint(opt: RunOptions) -> str:
    """The hash of everything that decides what a training ends with.

    Options that only decide how it gets there (workers, logging, evaluation, paths) are left out.
    """
    data = plain(opt.datasets.train) or {}
    for key in _SPEED_OF_DATA:
        data.pop(key, None)
    weights = opt.path.pretrain_network_g
    identity = {
        "revision": _TRAINING_REVISION,
        "version": __version__,
        "code": _source(opt.network_g["type"]),
        "network_g": plain(opt.network_g),
        "model_type": opt.model_type,
        "network_d": plain(opt.network_d),
        "gan": plain(opt.gan),
        "scale": opt.scale,
        "manual_seed": opt.manual_seed,
        "train_data": data,
        "train": opt.train.identity if opt.train else {},
        "pretrain": _content_hash(weights) if weights else None,
    }
    if weights and opt.path.param_key_g:
        identity["pretrain_key"] = opt.path.param_key_g
    return digest(identity)


def build_network(opt: RunOptions, device: torch.device) -> nn.Module:
    """The network of a run on ``device``, its initial weights a function of the run's seed.

    Where a cascade is asked for it is one stage of it: see ``assemble``.
    """
    torch.manual_seed(opt.manual_seed)
    stages = opt.val.enhance.cascade
    scale = stage_scale(opt.scale, stages)
    net = build("arch", opt.network_g, scale=scale)
    if net.scale != scale:
        asked = f" in a cascade of {stages}, so {scale} each" if stages > 1 else ""
        raise UserError(f"network_g.scale is {net.scale} but scale is {opt.scale}{asked}")
    return net.to(device)


def load_pretrained(opt: RunOptions, net: nn.Module) -> str | None:
    """Loads ``path.pretrain_network_g`` if given; returns a line that says what matched."""
    weights = opt.path.pretrain_network_g
    if weights is None:
        return None
    return load_weights(net, weights, opt.path.strict_load_g, opt.path.param_key_g)


def assemble(opt: RunOptions, net: nn.Module) -> nn.Module:
    """What is scored: the network with its weights, or the cascade of which it is the first stage.

    Raises:
        UserError: if the network cannot be a stage, or ``val.enhance.cascade_weights`` do not fit.
    """
    enhance = opt.val.enhance
    if enhance.cascade == 1:
        return net
    later = net
    if enhance.cascade_weights is not None:
        later = copy.deepcopy(net)
        load_weights(later, enhance.cascade_weights, opt.path.strict_load_g)
    return Cascade([net] + [later] * (enhance.cascade - 1))


def build_dataset(name: str, spec: dict[str, Any], opt: RunOptions, net: nn.Module) -> Any:
    """A dataset that fits the run, its network and, unless it is trained on, its protocol.

    Raises:
        UserError: if its scale, frames or channels do not fit, or its files are faulty.
    """
    protocol = get_protocol(opt.val.protocol)
    rules = {name: getattr(protocol, name) for name in ("missing_neighbours", "skip_frames")}
    try:
        flow = getattr(net, "needs_flow", None)
        dataset = build("dataset", spec, scale=opt.scale, flow=flow, **rules)
        if dataset.scale != opt.scale:
            raise UserError(f"its scale is {dataset.scale}, the run's {opt.scale}")
        channels, wanted = getattr(dataset, "channels", 3), getattr(net, "channels", 3)
        if channels != wanted:
            raise UserError(f"it has {channels} channels, but {type(net).__name__} takes {wanted}")
        check_time(net, dataset)
        num_frame = dataset.num_frame or net.num_frame or 1  # None: as many as a clip has
        arrange_frames(net, torch.empty(1, num_frame, channels, 1, 1), dataset.reference)
        if name == "train":
            if hasattr(dataset, "check_training"):
                dataset.check_training()
        else:
            _check_rules(dataset, rules, protocol.name)
    except UserError as error:
        raise UserError(f"datasets.{name}: {error}") from error
    return dataset


def _check_rules(dataset: Any, rules: dict[str, Any], protocol: str) -> None:
    """What the protocol's text says of frames must be true of the frames that are scored."""
    for rule, wanted in rules.items():
        value = getattr(dataset, rule, wanted)
        if value != wanted:
            raise UserError(f"its {rule} is {value}, but protocol {protocol} says {wanted}")


def build_model(opt: RunOptions, net: nn.Module, dataset: Any) -> Any:
    """The model that forms the losses of a training of ``net`` on ``dataset``."""
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    cls = MODEL_REGISTRY.get(opt.model_type)
    known = constructor_parameters(cls)
    losses = {name: build("loss", spec).to(device) for name, spec in opt.train.losses.items()}
    given: dict[str, Any] = {"loss_schedule": opt.train.loss_schedule, "gan": opt.gan}
    if "network_d" in known:
        torch.manual_seed(opt.manual_seed)
        size = getattr(dataset, "gt_size", None)
        spec = opt.network_d or _USUAL_DISCRIMINATOR
        given["network_d"] = build("discriminator", spec, input_size=size)
        given["network_d"].to(device)
    given = {name: value for name, value in given.items() if name in known}
    return cls(network_g=net, losses=losses, reference=dataset.reference, **given)


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


def check_crop(dataset: Any, net: nn.Module) -> None:
    """Training crops go to the network as they are, so their scale and size must suit it."""
    if getattr(dataset, "scale", net.scale) != net.scale:
        raise UserError(
            f"val.enhance.cascade: its stages are trained by themselves; train x{net.scale} "
            "without it, then give the weights (--weights or path.pretrain_network_g) to a cascade"
        )
    size = getattr(dataset, "gt_size", None)
    if size is not None and not fits(net, size // dataset.scale):
        raise UserError(
            f"datasets.train.gt_size {size} gives LR crops of {size // dataset.scale}, but "
            f"{type(net).__name__} takes multiples of {net.size_multiple} from {net.min_size} on"
        )


def _content_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: no such weight file") from error


def _source(arch: str) -> str:
    module = sys.modules[ARCH_REGISTRY.get(arch).__module__]
    try:
        return digest(inspect.getsource(module))
    except (OSError, TypeError):  # no source to be had: the name must do
        return module.__name__

"""Builds the parts of a run from its options: network, datasets, model; and its fingerprint."""

from __future__ import annotations

import copy
import hashlib
import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srtoolbox import __version__
from srtoolbox.config.files import plain
from srtoolbox.config.schema import build
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.weights.load import load_weights
from srtoolbox.errors import UserError
from srtoolbox.inference.cascade import Cascade, stage_scale
from srtoolbox.inference.padding import accepts_size
from srtoolbox.metrics import get_protocol
from srtoolbox.models.frames import arrange_frames, check_time
from srtoolbox.registry import ARCH_REGISTRY, MODEL_REGISTRY, constructor_parameters
from srtoolbox.utils.environment import digest

_USUAL_DISCRIMINATOR = {"type": "UNetDiscriminatorSN"}

# Options of a dataset that decide how fast its samples come, not what they are.
_SPEED_OF_DATA = ("cache", "cache_limit")

# Raised when the same options would give other weights than before (a change of the stream, say).
_TRAINING_REVISION = 1


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


def check_crop(dataset: Any, net: nn.Module) -> None:
    """Training crops go to the network as they are, so their scale and size must suit it."""
    if getattr(dataset, "scale", net.scale) != net.scale:
        raise UserError(
            f"val.enhance.cascade: its stages are trained by themselves; train x{net.scale} "
            "without it, then give the weights (--weights or path.pretrain_network_g) to a cascade"
        )
    size = getattr(dataset, "gt_size", None)
    if size is not None and not accepts_size(net, size // dataset.scale):
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

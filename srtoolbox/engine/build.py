"""Builds network, datasets and model of a run from its options, and computes its fingerprint."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import nn

from srtoolbox import __version__
from srtoolbox.archs.base import arch_info, check_network
from srtoolbox.config.components import named_components
from srtoolbox.config.files import plain
from srtoolbox.config.schema import build
from srtoolbox.data.base import (
    DatasetInfo,
    EvalDataset,
    TrainDataset,
    check_dataset,
    dataset_info,
)
from srtoolbox.engine.options import RunOptions, TrainOptions, ValOptions
from srtoolbox.engine.weights.load import load_weights
from srtoolbox.errors import ComponentError, UserError
from srtoolbox.inference.cascade import Cascade, stage_scale
from srtoolbox.inference.padding import accepts_size
from srtoolbox.losses.base import Loss
from srtoolbox.metrics import (
    AnyMetric,
    ClipMetric,
    Metric,
    Protocol,
    build_metric,
    get_protocol,
)
from srtoolbox.models.base import Model, check_model
from srtoolbox.models.frames import arrange_frames, check_time
from srtoolbox.registry import (
    ARCH_REGISTRY,
    LOSS_REGISTRY,
    MODEL_REGISTRY,
    constructor_parameters,
)
from srtoolbox.utils.console import names_text
from srtoolbox.utils.environment import digest
from srtoolbox.utils.files import check_regular, sha256_of, user_path
from srtoolbox.utils.own_code import calling, place_of

_DEFAULT_DISCRIMINATOR = {"type": "UNetDiscriminatorSN"}

# Options of a dataset that change where and how fast samples are made, but not the samples.
_SPEED_OPTIONS = ("cache", "cache_limit", "on_device")

# Packages whose code their versions identify.
_KNOWN_CODE = {"srtoolbox", "torch", *sys.stdlib_module_names}

# Raise this when the same options lead to other weights than before, e.g. by other samples.
_TRAINING_REVISION = 1


def fingerprint(opt: RunOptions, parts: bool = True) -> str:
    """Returns the hash of all options, sources and files that decide the final weights of a run.

    Options that change only speed, logging, evaluation or paths are left out. Those of the
    evaluation are included if the learning rate depends on a metric (``train.monitor``).

    Args:
        opt: The options of the run.
        parts: Include the source of users' own components beside the network.

    Raises:
        UserError: if the file of pretrained weights cannot be read.
    """
    data = plain(opt.datasets.train) or {}
    data = {key: value for key, value in data.items() if key not in _SPEED_OPTIONS}
    weights = opt.path.pretrain_network_g
    arch = ARCH_REGISTRY.get(opt.network_g["type"])
    identity = {
        "revision": _TRAINING_REVISION,
        "version": __version__,
        "code": _source_hash(arch),
        "network_g": network_identity(opt.network_g),
        "model_type": opt.model_type,
        "network_d": plain(opt.network_d),
        "gan": plain(opt.gan),
        "scale": opt.scale,
        "manual_seed": opt.manual_seed,
        "train_data": data,
        "train": _train_identity(opt.train) if opt.train else {},
        "pretrain": _content_hash(weights) if weights else None,
    }
    if weights and opt.path.param_key_g:
        identity["pretrain_key"] = opt.path.param_key_g
    if parts and (own := own_training_code(opt)):
        identity["own_code"] = own
    if opt.train and (metric := opt.train.monitored_metric):
        identity["monitored"] = _evaluation_identity(opt, metric)
    return digest(identity)


def network_identity(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a network for hashes.

    A weight file from which the network, or one inside of it, is built is represented by the hash
    of its content; it may be moved.

    Raises:
        UserError: if that file cannot be read.
    """
    options: dict[str, Any] = plain(spec)
    for name, value in options.items():
        if isinstance(value, dict) and value.get("type") in ARCH_REGISTRY:
            options[name] = network_identity(value)
    weight_option = arch_info(ARCH_REGISTRY.get(spec["type"])).weight_option
    if weight_option is not None:
        options[weight_option] = _content_hash(user_path(options[weight_option]))
    return options


def own_code(
    parts: Iterable[tuple[str, Mapping[str, Any] | None]], besides: type | None = None
) -> list[str]:
    """Returns hashes of the source files that define users' own components and their base classes.

    Components that the options of others name are included, those of the toolbox and of torch are
    not: their version is known.

    Args:
        parts: Kind and options of each component; None: there is none.
        besides: A class whose source file is left out.
    """
    classes = {
        base.__module__: base
        for kind, spec in parts
        for component in (named_components(kind, spec) if spec is not None else ())
        for base in getattr(component, "__mro__", (component,))  # or a function that builds it
        if base.__module__.partition(".")[0] not in _KNOWN_CODE
    }
    if besides is not None:
        classes.pop(besides.__module__, None)
    return sorted(map(_source_hash, classes.values()))


def own_training_code(opt: RunOptions) -> list[str]:
    """Returns `own_code` of the components of a training, without the source of its network."""
    return own_code(_training_parts(opt), besides=ARCH_REGISTRY.get(opt.network_g["type"]))


def _training_parts(opt: RunOptions) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """Yields kind and options of the components that decide the weights of a training."""
    yield "arch", opt.network_g
    if isinstance(flow := arch_info(ARCH_REGISTRY.get(opt.network_g["type"])).needs_flow, str):
        yield "flow", {"type": flow}
    if (train := opt.train) is None:
        return
    yield "model", {"type": opt.model_type}
    yield "discriminator", opt.network_d
    yield "dataset", opt.datasets.train
    for spec in train.losses.values():
        yield "loss", spec
    yield "optimizer", train.optim_g
    yield "optimizer", train.optim_d
    yield "scheduler", train.scheduler


def _train_identity(opt: TrainOptions) -> dict[str, Any]:
    identity = opt.identity
    for name, spec in identity["losses"].items():
        identity_of = getattr(LOSS_REGISTRY.get(spec["type"]), "identity", dict)
        identity["losses"][name] = identity_of(spec)
    return identity


def _evaluation_identity(opt: RunOptions, metric: str) -> dict[str, Any]:
    """Returns everything that decides the scores of a metric during training, and their steps."""
    val = opt.val
    spec = plain(val.metrics[metric])
    data = plain(next(iter(opt.datasets.val.values())))
    own = own_code([("metric", spec), ("dataset", data)])
    return {
        **({"own_code": own} if own else {}),
        "metric": build_metric(spec).identity(spec),
        "protocol": get_protocol(val.protocol).hash,
        "data": {key: value for key, value in data.items() if key not in _SPEED_OPTIONS},
        "val_freq": val.val_freq,
        "tile": [val.tile, val.tile_halo],
        # Absent without segments, so that runs before this option keep their fingerprint.
        **({"segment": [val.segment, val.segment_overlap]} if val.segment else {}),
        "enhance": plain(val.enhance) if val.enhance.in_training else None,
    }


def build_network(opt: RunOptions, device: torch.device) -> nn.Module:
    """Builds the network of a run on ``device``; the seed of the run decides its weights.

    With ``val.enhance.cascade`` this is one stage; ``assemble`` builds the cascade.

    Raises:
        UserError: if the network is no ``nn.Module``, does not set ``scale``, declares an attribute
            of a wrong type, or has another scale.
    """
    torch.manual_seed(opt.manual_seed)
    stages = opt.val.enhance.cascade
    scale = stage_scale(opt.scale, stages)
    net: nn.Module = build("arch", opt.network_g, scale=scale)
    try:
        check_network(net)
    except UserError as error:
        raise type(error)(f"network_g: {error}") from error
    if net.scale != scale:
        stage = f" in a cascade of {stages} stages, so {scale} each" if stages > 1 else ""
        raise UserError(f"network_g.scale is {net.scale} but scale is {opt.scale}{stage}")
    return net.to(device)


def load_pretrained(opt: RunOptions, net: nn.Module) -> str | None:
    """Loads ``path.pretrain_network_g`` if it is set; returns a line about the loaded tensors."""
    weights = opt.path.pretrain_network_g
    if weights is None:
        return None
    return load_weights(net, weights, opt.path.strict_load_g, opt.path.param_key_g)


def assemble(opt: RunOptions, net: nn.Module) -> nn.Module:
    """Returns the network to evaluate: ``net`` itself, or a cascade that starts with it.

    Raises:
        UserError: if the network cannot be a stage, or ``val.enhance.cascade_weights`` do not
            match it.
    """
    enhance = opt.val.enhance
    if enhance.cascade == 1:
        return net
    later = net
    if enhance.cascade_weights is not None:
        later = copy.deepcopy(net)
        load_weights(later, enhance.cascade_weights, opt.path.strict_load_g)
    return Cascade([net] + [later] * (enhance.cascade - 1))


@overload
def build_dataset(
    name: Literal["train"], spec: Mapping[str, Any], opt: RunOptions, net: nn.Module
) -> TrainDataset: ...


@overload
def build_dataset(
    name: str, spec: Mapping[str, Any], opt: RunOptions, net: nn.Module
) -> EvalDataset: ...


def build_dataset(
    name: str, spec: Mapping[str, Any], opt: RunOptions, net: nn.Module
) -> TrainDataset | EvalDataset:
    """Builds a dataset and checks that it suits run, network and, for evaluation, protocol.

    Args:
        name: Its key in ``datasets``: ``train``, or e.g. ``val.Set5``.
        spec: Its options.
        opt: The run, for ``scale`` and ``val.protocol``.
        net: The network that gets its samples.

    Raises:
        UserError: if its scale, frames, channels or crops do not match, or its files are faulty.
        IncompatibleInput: as the cause, if only its frames do not match the network.
    """
    protocol, info = get_protocol(opt.val.protocol), arch_info(net)
    rules = {rule: getattr(protocol, rule) for rule in ("missing_neighbours", "skip_frames")}
    try:
        needs = {"flow": info.needs_flow, "channels": info.channels}
        dataset = build("dataset", spec, scale=opt.scale, **needs, **rules)
        stated = dataset_info(dataset)
        check_dataset(dataset, training=name == "train")
        own = name != "train" and info.takes_scale and dataset.scale in info.scales
        if dataset.scale != opt.scale and not own:
            raise UserError(f"its scale is {dataset.scale}, the run's {opt.scale}")
        _check_channels(stated, net)
        check_time(net, dataset)
        num_frame = dataset.num_frame or info.num_frame or 1  # None: as many as a clip has
        lq = torch.empty(1, num_frame, stated.channels, 1, 1)
        arrange_frames(net, lq, dataset.reference)
        if name == "train":
            _check_scales(stated, net)
            if stated.check_training is not None:
                stated.check_training()
        else:  # the frame rules that the protocol's description states
            for rule, wanted in rules.items():
                if (value := getattr(stated, rule)) not in (None, wanted):
                    raise UserError(
                        f"its {rule} is {value}, but protocol {protocol.name} says {wanted}"
                    )
            check_scorable(dataset, opt.val, protocol)
    except UserError as error:
        raise UserError(f"datasets.{name}: {error}") from error
    if name == "train":
        check_crop(dataset, net)
    return dataset


def _check_scales(stated: DatasetInfo, net: nn.Module) -> None:
    """Raises a ``UserError`` if a training has several scales but the network has not all."""
    name, info = type(net).__name__, arch_info(net)
    if stated.scales is None:
        return
    if not info.takes_scale:
        raise UserError(
            f"scales: {name} has one scale; remove the option, or use a network that takes "
            "several, such as MDSR"
        )
    if missing := [str(scale) for scale in stated.scales if scale not in info.scales]:
        known = ", ".join(map(str, info.scales))
        raise UserError(f"scales: {name} has {known}, not {', '.join(missing)}")


def _check_channels(stated: DatasetInfo, net: nn.Module) -> None:
    """Raises a ``UserError`` if a dataset has not the channels that a network takes and returns."""
    name, info = type(net).__name__, arch_info(net)
    if stated.channels != info.channels:
        raise UserError(
            f"it has {stated.channels} channels, but {name} takes {info.channels}; choose "
            f"{info.channels} bands of the files (bands), or another network (num_in_ch of "
            "network_g)"
        )
    returned = getattr(info, "out_channels", None)
    # A network that does not state its output restores its input, or makes RGB of RAW.
    allowed = (info.channels, 3) if returned is None else (returned,)
    if stated.gt_channels is not None and stated.gt_channels not in allowed:
        raise UserError(
            f"its ground truth has {stated.gt_channels} channels, but {name} returns {allowed[0]}; "
            f"choose {allowed[0]} bands of the ground truth (bands_gt), or another network "
            "(num_out_ch of network_g)"
        )


def build_model(opt: RunOptions, net: nn.Module, dataset: TrainDataset) -> Model:
    """Builds the model that computes the losses of a training of ``net`` on ``dataset``.

    Raises:
        UserError: for options that the model, a loss or the discriminator does not accept.
    """
    assert opt.train is not None
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    cls = MODEL_REGISTRY.get(opt.model_type)
    known = constructor_parameters(cls)
    channels = _gt_channels(net, dataset)
    for name, spec in opt.train.losses.items():
        loss = LOSS_REGISTRY.get(spec["type"])
        if channels is not None and issubclass(loss, Loss):
            try:
                loss.check_options(spec, channels)
            except UserError as error:
                raise type(error)(f"train.losses.{name}: {error}") from error
    losses = {
        name: _as_module(build("loss", spec), f"train.losses.{name}").to(device)
        for name, spec in opt.train.losses.items()
    }
    _check_loss_channels(losses, channels)
    given: dict[str, Any] = {"loss_schedule": opt.train.loss_schedule, "gan": opt.gan}
    given["loss_crop_border"] = opt.train.loss_crop_border
    if opt.train.loss_crop_border and "loss_crop_border" not in known:
        raise UserError(
            f"train.loss_crop_border: the constructor of model {opt.model_type} has no parameter "
            "loss_crop_border; remove the option, or add the parameter"
        )
    if "network_d" in known:
        torch.manual_seed(opt.manual_seed)
        size = dataset_info(dataset).gt_size
        spec = opt.network_d or _DEFAULT_DISCRIMINATOR
        _check_discriminator_channels(spec, channels)
        injected = {"input_size": size, **({"num_in_ch": channels} if channels else {})}
        network_d = build("discriminator", spec, **injected)
        given["network_d"] = _as_module(network_d, "network_d").to(device)
    given = {name: value for name, value in given.items() if name in known}
    given = {"network_g": net, "losses": losses, "reference": dataset.reference, **given}
    if absent := [name for name in given if name not in known]:
        raise ComponentError(
            f"{cls.__name__}{place_of(cls, '__init__')}: the constructor of a model has the "
            f"parameters network_g, losses and reference; it lacks {', '.join(absent)}"
        )
    with calling(cls, "__init__"):
        model = cls(**given)
    check_model(model)
    return model


def _gt_channels(net: nn.Module, dataset: TrainDataset) -> int | None:
    """Returns the channels of the ground truth; None: neither dataset nor network states them."""
    stated = getattr(dataset, "gt_channels", None) or getattr(net, "out_channels", None)
    channels = arch_info(net).channels
    return stated or (channels if channels == 3 else None)  # others may become RGB images


def _check_loss_channels(losses: Mapping[str, nn.Module], channels: int | None) -> None:
    """Raises a UserError for a loss that cannot compare images of so many channels."""
    for name, loss in losses.items():
        check = getattr(loss, "check_channels", None)
        if check is None or channels is None:
            continue
        try:
            with calling(loss, "check_channels"):
                check(channels)
        except UserError as error:
            raise type(error)(f"train.losses.{name}: {error}") from error


def _check_discriminator_channels(spec: Mapping[str, Any], channels: int | None) -> None:
    """Raises a UserError if the options of a discriminator state another number of channels."""
    given = spec.get("num_in_ch")
    if None not in (given, channels) and given != channels:
        raise UserError(
            f"network_d.num_in_ch is {given}, but the ground truth has {channels} channels; leave "
            "the option out, or set it to this number"
        )


def _as_module(component: Any, key: str) -> nn.Module:
    if not isinstance(component, nn.Module):
        name = f"{type(component).__name__}{place_of(component, '__init__')}"
        raise ComponentError(f"{key}: {name} must derive from torch.nn.Module")
    return component


def check_crop(dataset: TrainDataset | EvalDataset, net: nn.Module) -> None:
    """Checks that the network takes training crops unpadded, and in their scale.

    Raises:
        UserError: if scale or size do not match.
    """
    if dataset.scale != net.scale:
        raise UserError(
            "val.enhance.cascade: stages of a cascade are trained separately; train "
            f"x{net.scale} without it, then give the weights (--weights or "
            "path.pretrain_network_g) to a cascade"
        )
    size = dataset_info(dataset).gt_size
    if size is not None and not accepts_size(net, size // dataset.scale):
        info = arch_info(net)
        raise UserError(
            f"datasets.train.gt_size {size} gives LR crops of {size // dataset.scale}, but "
            f"{type(net).__name__} takes multiples of {info.size_multiple} from {info.min_size} on"
        )


def check_scorable(dataset: EvalDataset, opt: ValOptions, protocol: Protocol) -> None:
    """Checks from headers that metrics and protocol can score all images and clips of a dataset.

    Number of bands, clips and sizes are checked.

    A metric that is not available must suit the bands, too; nothing else of it is checked.

    Args:
        dataset: An evaluation dataset. Facts that it does not state are not checked.
        opt: The metrics.
        protocol: Rules for the crop and the least sizes of metrics.

    Raises:
        UserError: names the metric and the first images or clips that it cannot score; also if
            ``rgb_bands`` names a band that the images do not have.
    """
    metrics: dict[str, AnyMetric] = {}
    for name, spec in opt.metrics.items():
        with suppress(UserError):  # the evaluator raises faults of the metrics themselves
            metrics[name] = build_metric(spec)
    info = dataset_info(dataset)
    shown = max(opt.rgb_bands or [0])
    if info.gt_channels is not None and shown > info.gt_channels:
        raise UserError(
            f"val.rgb_bands: there is no band {shown} in images with {info.gt_channels}"
        )
    for name, metric in metrics.items():
        if info.gt_channels is not None:
            reason = metric.unsuited(info.gt_channels, protocol)
            if reason is not None:
                raise UserError(f"metric '{name}': {reason}")
    metrics = {name: metric for name, metric in metrics.items() if metric.available() is None}
    for name, metric in metrics.items():
        if not isinstance(metric, ClipMetric):
            continue
        if info.clip_names is None:
            raise UserError(
                f"metric '{name}' compares neighbouring frames and needs clips; "
                f"{type(dataset).__name__} provides single images; leave the metric out"
            )
        short = [clip for clip, length in (info.clip_lengths or {}).items() if length < 2]
        if short:
            raise UserError(
                f"metric '{name}' compares neighbouring frames, but {len(short)} clips have fewer "
                f"than two that are scored: {names_text(short)}; remove them, or leave the metric "
                "out"
            )
    if info.gt_sizes is None:
        return
    crop = protocol.border(dataset.scale)
    sizes = info.gt_sizes()
    needs: dict[str, AnyMetric] = {f"metric '{name}'": metric for name, metric in metrics.items()}
    needs["a score"] = Metric()  # a pixel
    for who, metric in sorted(needs.items(), key=lambda item: -item[1].min_size(protocol)):
        small = {
            path: size
            for path, size in sizes.items()
            if not metric.fits(size[0] - 2 * crop, size[1] - 2 * crop, protocol)
        }
        if not small:
            continue
        files = names_text([f"{path} ({size[1]}×{size[0]})" for path, size in small.items()])
        raise UserError(
            f"{len(small)} images are too small: {who} needs {metric.size_text(protocol)} pixels "
            f"after protocol '{protocol.name}' crops {crop} per side: {files}; remove them, leave "
            "the metric out, or choose another protocol"
        )


def _content_hash(path: Path) -> str:
    try:
        check_regular(path)
        return sha256_of(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: no such weight file") from error


@cache
def _source_hash(cls: type) -> str:
    """Returns a hash of the source file that defines a class; its module if there is no source.

    It is the hash at the first call: a file that is edited later does not change the code that
    runs in this process.
    """
    try:
        return digest(inspect.getsource(sys.modules[cls.__module__]))
    except (KeyError, OSError, TypeError):
        return cls.__module__

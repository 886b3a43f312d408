"""Runs users' own components once, so that their mistakes end a command before it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.data.base import TrainDataset
from srtoolbox.data.stream import SampleStream
from srtoolbox.engine.build import build_model, build_network
from srtoolbox.engine.device.precision import autocast
from srtoolbox.engine.options import RunOptions, ValOptions
from srtoolbox.errors import ComponentError, UserError
from srtoolbox.metrics import ClipMetric, MetricUnavailable, build_metric, get_protocol
from srtoolbox.models.base import compute_losses, sum_losses
from srtoolbox.models.frames import arrange_frames, run_network, varying_frames
from srtoolbox.registry import REGISTRIES
from srtoolbox.utils.own_code import calling, is_own

_SIDE = 64  # pixels of the random images


def own_parts(opt: RunOptions) -> list[type]:
    """Returns the users' own classes among the network and, if it is trained, the training's."""
    specs: list[tuple[str, Mapping[str, Any] | None]] = [("arch", opt.network_g)]
    if opt.train is not None:
        specs += [
            *(("loss", spec) for spec in opt.train.losses.values()),
            ("model", {"type": opt.model_type}),
            ("discriminator", opt.network_d),
            ("dataset", opt.datasets.train),
        ]
    classes = [REGISTRIES[kind].get(spec["type"]) for kind, spec in specs if spec is not None]
    return [cls for cls in classes if is_own(cls)]


def probe_training(
    opt: RunOptions, dataset: TrainDataset, device: torch.device, num_process: int = 1
) -> None:
    """Computes losses and gradients of the first batch with a new network, if a part is a user's.

    It does nothing for a training without users' own components. Weights, random numbers and
    samples of the training do not change.

    Args:
        opt: Options with a ``train`` section.
        dataset: The training dataset.
        device: Device of the training.
        num_process: Number of processes that share a batch.

    Raises:
        ComponentError: if the code of a user's own component fails or returns something wrong.
        UserError: if the parts do not match.
    """
    train, own = opt.train, own_parts(opt)
    if not own:
        return
    assert train is not None
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        net = build_network(opt, device)
        model = build_model(opt, net, dataset)
        batch_size = max(1, train.batch_size // (train.accumulate * num_process))
        limits = varying_frames(net, dataset, train.num_frame_range)
        stream = SampleStream(dataset, opt.manual_seed, batch_size, num_frame_range=limits)
        batch = next(stream.batches(0, 1, device=device))
        for network in model.networks.values():
            network.train()
        memo: dict[str, Any] = {}
        for phase in model.phases:
            with autocast(device, train.precision):
                losses = compute_losses(model, phase, batch, memo=memo)
            if losses:
                with calling(own[0], "backward"):
                    sum_losses(losses).backward()
        if is_own(net):
            lq = batch["lq"][:1]
            _run_in_eval_mode(net, lq, batch.get("reference", dataset.reference))


def probe_network(net: nn.Module, num_frame: int | None, reference: int | None) -> None:
    """Runs a user's own network on random frames, in eval mode; others are not run.

    Args:
        net: A registered network.
        num_frame: Number of frames of the dataset; None: any.
        reference: Index of the reference frame; None: all frames are restored.

    Raises:
        ComponentError: if its code fails or it returns something wrong.
    """
    if not is_own(net):
        return
    info = arch_info(net)
    side = info.size_multiple * -(-max(_SIDE, info.min_size) // info.size_multiple)
    frames = info.num_frame if (info.num_frame or 1) > 1 else num_frame
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    lq = torch.rand(
        (1, frames or max(2, (reference or 0) + 1), info.channels, side, side),
        generator=torch.Generator().manual_seed(0),
    ).to(device)
    _run_in_eval_mode(net, lq, reference)


def probe_metrics(val: ValOptions, scale: int, channels: int = 3) -> None:
    """Scores random images with the users' own metrics.

    Args:
        val: The metrics and the protocol.
        scale: Scale of the run.
        channels: Bands of the ground truth.

    Raises:
        ComponentError: if the code of a metric fails or returns no number.
    """
    rules = get_protocol(val.protocol)
    border = rules.border(scale)
    generator = torch.Generator().manual_seed(0)
    for spec in val.metrics.values():
        metric = build_metric(spec)
        if not is_own(metric) or metric.needs_key or metric.available():
            continue  # names of images are not known here
        side = scale * -(-(_SIDE + 2 * border) // scale)
        sr, gt = torch.rand((2, 2, channels, side, side), generator=generator)
        more: dict[str, Any] = {"lq": gt[0, :, ::scale, ::scale]} if metric.needs_lq else {}
        try:
            if isinstance(metric, ClipMetric):
                metric(sr, gt, protocol=rules, scale=scale)
            else:
                metric(sr[0], gt[0], protocol=rules, scale=scale, **more)
        except ComponentError:
            raise
        except (UserError, MetricUnavailable):  # it may need other images than these
            continue


def _run_in_eval_mode(net: nn.Module, lq: Tensor, reference: int | None) -> None:
    net.eval()
    with torch.no_grad():
        run_network(net, arrange_frames(net, lq, reference))

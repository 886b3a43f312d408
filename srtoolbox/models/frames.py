"""Selects and orders the frames that a network expects, runs it, and checks what it returns."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from srtoolbox.archs.base import ArchInfo, arch_info
from srtoolbox.data.base import EvalDataset, TrainDataset, dataset_info
from srtoolbox.data.transforms.flow import batch_flow
from srtoolbox.errors import ComponentError, UserError
from srtoolbox.utils.own_code import calling, describe_value, place_of

_checked: WeakSet[nn.Module] = WeakSet()  # networks whose first output was correct
_trained: WeakSet[nn.Module] = WeakSet()  # networks whose first output in training was correct


class IncompatibleInput(UserError):
    """Network and dataset are both valid, but the network cannot use the dataset's frames."""


def arrange_frames(net: nn.Module, lq: Tensor, reference: int | None) -> Tensor:
    """Selects and orders frames for ``net``.

    A single-image network gets the reference frame. A multi-frame network gets all frames; the
    reference moves to the index at which the network expects it, the others keep their order.
    Without a reference, all frames are restored: the network gets them unchanged. So does a network
    that restores all frames; `restored_frame` then takes that of the reference.

    Args:
        net: A registered network.
        lq: LR frames (N, T, C, h, w).
        reference: Index of the reference frame in ``lq``; None: all frames are restored.

    Returns:
        (N, C, h, w) or (N, T, C, h, w).

    Raises:
        IncompatibleInput: if the network needs another number of frames, or restores one frame
            where all frames are restored.
    """
    info, num_frame = arch_info(net), lq.shape[1]
    if reference is None and not info.restores_all:
        raise IncompatibleInput(
            f"{type(net).__name__} restores one frame, but the dataset's ground truth has all "
            "frames; set target: centre of the dataset"
        )
    if info.num_frame == 1:
        return lq[:, reference]
    if info.num_frame is not None and info.num_frame != num_frame:
        raise IncompatibleInput(
            f"{type(net).__name__} takes {info.num_frame} frames but the dataset gives "
            f"{num_frame}; set num_frame of the dataset or of the network"
        )
    if reference is None or info.restores_all or info.reference == reference:
        return lq
    order = [t for t in range(num_frame) if t != reference]
    order.insert(info.reference, reference)
    return lq[:, order]


def restored_frame(net: nn.Module, sr: Tensor, reference: int | None) -> Tensor:
    """Returns what has a ground truth of the images that a network returns.

    Args:
        net: A registered network.
        sr: Its output (N, C, H, W), or (N, T', C, H, W) if it restores all frames.
        reference: Index of the frame of the input that has a ground truth; None: all have one.

    Returns:
        (N, C, H, W) of the reference, or (N, T', C, H, W) without one.
    """
    info = arch_info(net)
    if reference is None or not info.restores_all:
        return sr
    return sr[:, reference * info.time_scale]


def varying_frames(
    net: nn.Module, dataset: TrainDataset, num_frame_range: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Returns the minimum and maximum number of frames of a training step; None: it is constant.

    The number varies only for networks that take any number of frames.

    Raises:
        UserError: if all frames are restored, or the dataset has fewer frames than the maximum.
    """
    if num_frame_range is None or arch_info(net).num_frame is not None:
        return None
    if dataset.reference is None:
        raise UserError(
            f"train.num_frame_range: {type(net).__name__} restores all frames of a sample here, so "
            "there is no reference to keep; remove the option, or set target: centre of the dataset"
        )
    maximum = num_frame_range[1]
    if dataset.num_frame is not None and maximum > dataset.num_frame:
        raise UserError(
            f"train.num_frame_range goes up to {maximum} frames but datasets.train gives "
            f"{dataset.num_frame}; lower it or raise num_frame of the dataset"
        )
    return num_frame_range


def run_network(
    net: nn.Module, lq: Tensor, flow: Tensor | None = None, scale: int | None = None
) -> Tensor | dict[str, Any]:
    """Runs ``net``, with optical flow as its second input if it declares ``needs_flow``.

    The first output of every network is checked.

    Args:
        net: A registered network.
        lq: The result of ``arrange_frames``.
        flow: Optical flow (N, 2, T - 1, 2, h, w) of these frames in pixels; None: it is computed,
            or read from the cache.
        scale: One of the network's ``scales``, if it declares ``takes_scale``; None: its own.

    Returns:
        SR images (N, C, h·scale, w·scale), or (N, T', C, h·scale, w·scale) if the network restores
        all frames; or a dict with them under ``"sr"``.

    Raises:
        ComponentError: if the network returns anything else, if its output has no gradient in
            training, or if the code of a user's own network fails.
    """
    info = arch_info(net)
    inputs = [lq]
    if info.needs_flow is not None:
        inputs.append(batch_flow(info.needs_flow, lq) if flow is None else flow)
    with calling(net, "forward"):
        output = net(*inputs) if scale is None else net(*inputs, scale=scale)
    if net not in _checked:
        _check_output(net, info, lq, output, scale)
        _checked.add(net)
    if net.training and torch.is_grad_enabled() and net not in _trained:
        _check_gradient(net, output)
        _trained.add(net)
    return output


def _check_output(
    net: nn.Module, info: ArchInfo, lq: Tensor, output: Any, scale: int | None = None
) -> None:
    """Raises a ``ComponentError`` for an output that is not as ``run_network`` documents it."""
    batch, (height, width) = lq.shape[0], lq.shape[-2:]
    scale = int(getattr(net, "scale", 1)) if scale is None else scale
    if info.out_channels is None:  # RAW frames (4 channels) become RGB images
        channels, stated = {lq.shape[-3], 3}, ""
    else:
        channels, stated = {info.out_channels}, f"; its out_channels is {info.out_channels}"
    sr = output.get("sr") if isinstance(output, dict) else output
    names, time = "(N, C, h·scale, w·scale)", ()
    if info.restores_all:
        names, time = "(N, T', C, h·scale, w·scale)", (info.frames_returned(lq.shape[1]),)
    shapes = [
        (batch, *time, channel, height * scale, width * scale) for channel in sorted(channels)
    ]
    if isinstance(sr, Tensor) and sr.is_floating_point() and tuple(sr.shape) in shapes:
        if sr.device != lq.device:
            raise ComponentError(
                f"{type(net).__name__}{place_of(net, 'forward')} returned a tensor on {sr.device} "
                f"for an input on {lq.device}; create tensors on the device of the input "
                "(device=lq.device), and register constants with register_buffer"
            )
        return
    wanted = " or ".join(str(shape) for shape in shapes)
    raise ComponentError(
        f"{type(net).__name__}{place_of(net, 'forward')} returned {_describe(output)} for an input "
        f"of shape {tuple(lq.shape)}; return a floating-point tensor {names} = {wanted}, or a dict "
        f'with it under "sr"{stated}'
    )


def _check_gradient(net: nn.Module, output: Any) -> None:
    """Raises a ``ComponentError`` if no gradient can reach the parameters of a network."""
    sr: Tensor = output["sr"] if isinstance(output, dict) else output
    if not sr.requires_grad and any(weight.requires_grad for weight in net.parameters()):
        raise ComponentError(
            f"{type(net).__name__}{place_of(net, 'forward')} returned a tensor without gradient, "
            "so it cannot be trained; remove .detach(), .data, torch.no_grad() and numpy from "
            "forward, and use the parameters"
        )


def _describe(output: Any) -> str:
    if not isinstance(output, dict):
        return describe_value(output)
    if "sr" in output:
        return f'a dict that has {_describe(output["sr"])} under "sr"'
    return f'a dict without "sr" ({", ".join(map(repr, output)) or "no keys"})'


def check_time(net: nn.Module, dataset: TrainDataset | EvalDataset) -> None:
    """Checks that network and dataset have the same frame rate.

    Raises:
        UserError: if only one of them has frames between the given frames, or not equally many.
    """
    ours, theirs = arch_info(net).time_scale, dataset_info(dataset).time_scale
    if ours == theirs:
        return
    name = type(net).__name__
    if ours > 1:
        raise UserError(
            f"{name} restores the given frames and {ours - 1} between each two of them; use type: "
            f"SpaceTimeClips with time_scale {ours}"
        )
    raise UserError(
        f"the ground truth has {theirs - 1} more frames between each two given ones, but {name} "
        "restores only the given frames; use network_g: {type: TwoStage, network: {type: …}} "
        "with it, or a network for space and time such as MSTTSTVSR"
    )

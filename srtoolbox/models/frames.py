"""From a dataset's stack of frames to the input that a network expects."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from srtoolbox.data.transforms.flow import batch_flow
from srtoolbox.errors import UserError


class IncompatibleInput(UserError):
    """Nothing is wrong with network or dataset, but one gives frames that the other cannot use."""


def arrange_frames(net: nn.Module, lq: Tensor, reference: int | None) -> Tensor:
    """Picks and orders frames for ``net``.

    A single-image network gets the reference frame. A multi-frame network gets all frames with
    the reference moved to where the network expects it; the others keep their order. Without a
    reference every frame is wanted: the network, one that restores them all, gets them as they are.

    Args:
        net: A registered arch; its ``num_frame`` and ``reference`` say what it takes.
        lq: (N, T, C, h, w).
        reference: Index of the reference frame in ``lq``; None if all frames are to be restored.

    Returns:
        (N, C, h, w) or (N, T, C, h, w).

    Raises:
        IncompatibleInput: if the network needs another number of frames than there are, or restores
            one frame where all are wanted.
    """
    num_frame = lq.shape[1]
    if reference is None and not getattr(net, "restores_all", False):
        raise IncompatibleInput(
            f"{type(net).__name__} restores one frame but the dataset's ground truth has all of "
            "them; set target: centre of the dataset"
        )
    if net.num_frame == 1:
        return lq[:, reference]
    if net.num_frame is not None and net.num_frame != num_frame:
        raise IncompatibleInput(
            f"{type(net).__name__} takes {net.num_frame} frames but the dataset gives {num_frame}; "
            "set num_frame of the dataset or of the network"
        )
    if reference is None or net.reference == reference:
        return lq
    wanted = net.reference
    order = [t for t in range(num_frame) if t != reference]
    order.insert(wanted, reference)
    return lq[:, order]


def varying_frames(
    net: nn.Module, dataset: Any, num_frame_range: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Fewest and most frames of a training step, if their number is to vary.

    It does for networks that take any number of frames; all others always get theirs.

    Raises:
        UserError: if all frames are restored, or the dataset has fewer than the most.
    """
    if num_frame_range is None or net.num_frame is not None:
        return None
    name, most = type(net).__name__, num_frame_range[1]
    if dataset.reference is None:
        raise UserError(
            f"train.num_frame_range: {name} restores all frames of a sample here, so there is no "
            "reference to keep; leave it out, or set target: centre of the dataset"
        )
    if most > dataset.num_frame:
        raise UserError(
            f"train.num_frame_range goes up to {most} frames but datasets.train gives "
            f"{dataset.num_frame}; lower it or raise num_frame of the dataset"
        )
    return num_frame_range


def run_network(net: nn.Module, lq: Tensor, flow: Tensor | None = None) -> Any:
    """What ``net`` makes of its input; one that names a flow estimator is given flow too.

    Args:
        net: A registered arch; ``needs_flow`` is the name of the estimator, if it wants flow.
        lq: What ``arrange_frames`` gives.
        flow: (N, 2, T - 1, 2, h, w) of these very frames, where it is there already; else it is
            computed, or taken from the cache.

    Returns:
        The network's output.
    """
    name = getattr(net, "needs_flow", None)
    if name is None:
        return net(lq)
    return net(lq, batch_flow(name, lq) if flow is None else flow)


def check_time(net: nn.Module, dataset: Any) -> None:
    """Network and dataset must mean the same frames in time.

    Raises:
        UserError: if one of them wants frames between the given ones and the other does not.
    """
    ours, theirs = getattr(net, "time_scale", 1), getattr(dataset, "time_scale", 1)
    if ours == theirs:
        return
    name = type(net).__name__
    if ours > 1:
        raise UserError(
            f"{name} restores the given frames and {ours - 1} between each two of them; use type: "
            f"SpaceTimeClips with time_scale {ours}"
        )
    raise UserError(
        f"the dataset has {theirs - 1} frames to be found between each two given ones, but {name} "
        f"restores only what it is given; use network_g: {{type: TwoStage, network: {{type: …}}}} "
        "with it, or a network for space and time such as MSTTSTVSR"
    )

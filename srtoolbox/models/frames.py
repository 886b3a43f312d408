"""From a dataset's stack of frames to the input that a network expects."""

from __future__ import annotations

from torch import Tensor, nn

from srtoolbox.errors import UserError


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
        UserError: if the network needs another number of frames than there are, or restores one
            frame where all are wanted.
    """
    num_frame = lq.shape[1]
    if reference is None and not getattr(net, "restores_all", False):
        raise UserError(
            f"{type(net).__name__} restores one frame but the dataset's ground truth has all of "
            "them; set target: centre of the dataset"
        )
    if net.num_frame == 1:
        return lq[:, reference]
    if net.num_frame is not None and net.num_frame != num_frame:
        raise UserError(
            f"{type(net).__name__} takes {net.num_frame} frames but the dataset gives {num_frame}; "
            "set num_frame of the dataset or of the network"
        )
    if reference is None or net.reference == reference:
        return lq
    wanted = net.reference
    order = [t for t in range(num_frame) if t != reference]
    order.insert(wanted, reference)
    return lq[:, order]

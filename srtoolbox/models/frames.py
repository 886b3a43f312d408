"""From a dataset's stack of frames to the input that a network expects."""

from __future__ import annotations

from torch import Tensor, nn

from srtoolbox.errors import UserError


def arrange_frames(net: nn.Module, lq: Tensor, reference: int) -> Tensor:
    """Picks and orders frames for ``net``.

    A single-image network gets the reference frame. A multi-frame network gets all frames with
    the reference moved to where the network expects it; the others keep their order.

    Args:
        net: A registered arch; its ``num_frame`` and ``reference`` say what it takes.
        lq: (N, T, C, h, w).
        reference: Index of the reference frame in ``lq``.

    Returns:
        (N, C, h, w) or (N, T, C, h, w).

    Raises:
        UserError: if the network needs another number of frames than there are.
    """
    num_frame = lq.shape[1]
    if net.num_frame == 1:
        return lq[:, reference]
    if net.num_frame is not None and net.num_frame != num_frame:
        raise UserError(
            f"{type(net).__name__} takes {net.num_frame} frames but the dataset gives {num_frame}; "
            "set num_frame of the dataset or of the network"
        )
    wanted = net.reference
    if wanted == reference:
        return lq
    order = [t for t in range(num_frame) if t != reference]
    order.insert(wanted, reference)
    return lq[:, order]

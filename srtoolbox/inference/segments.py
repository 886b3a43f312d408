"""Runs recurrent networks on long clips in segments, for devices with little memory."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.inference.ensemble import Runner
from srtoolbox.inference.padding import run_padded


def run_segments(
    net: nn.Module, lq: Tensor, segment: int, overlap: int, run: Runner = run_padded
) -> Tensor:
    """Runs ``net`` on each segment of ``lq`` and joins the results.

    A recurrent network carries features through the whole clip, so its memory grows with the number
    of frames, and every frame has an influence on every other one. In segments it gets ``overlap``
    more frames on each side, whose results are dropped; frames farther away have no influence. So
    results change, the less the larger the overlap is.

    Networks that restore one frame, take a fixed number of frames, or make frames between the given
    ones get all frames at once.

    Args:
        net: A registered arch.
        lq: (N, T, C, h, w) in [0, 1].
        segment: Frames that are restored at a time.
        overlap: Frames before and after them that the network also sees.
        run: Runs the network on the frames of a segment.

    Returns:
        SR images as ``run_padded`` returns them.
    """
    info = arch_info(net)
    takes_segments = info.restores_all and info.num_frame is None and info.time_scale == 1
    if not takes_segments or lq.shape[1] <= segment:
        return run(net, lq)
    result, frames = None, lq.shape[1]
    for start in range(0, frames, segment):
        stop = min(start + segment, frames)
        first = max(start - overlap, 0)
        part = run(net, lq[:, first : min(stop + overlap, frames)])
        if result is None:
            result = part.new_empty(part.shape[0], frames, *part.shape[2:])
        result[:, start:stop] = part[:, start - first : stop - first]
        del part  # its memory is needed for the next segment
    return cast(Tensor, result)

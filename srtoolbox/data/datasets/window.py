"""Selects the frames of a window of a clip."""

from __future__ import annotations

from typing import Literal, get_args

from srtoolbox.errors import check_choice

Rule = Literal["centre", "replicate", "reflection", "mirror", "reflection_circle", "circle"]


def window_indices(centre: int, num_frame: int, length: int, rule: Rule) -> list[int]:
    """Returns the frames of a window around ``centre``, which is at position ``num_frame // 2``.

    A rule replaces frames beyond the ends of the clip. For the first frame of a long clip and
    ``num_frame`` 5, the windows are

    =====================  =========  ==========================================================
    ``centre``             0 0 0 1 2  the frame being restored (as for Jilin-189)
    ``replicate``          0 0 0 1 2  the clip's end frame (differs from ``centre`` at frame 1)
    ``reflection``         2 1 0 1 2  the clip mirrored at its end frame
    ``mirror``             1 0 0 1 2  the clip mirrored, its end frame repeated
    ``reflection_circle``  4 3 0 1 2  frames beyond the window's other side, mirrored
    ``circle``             3 4 0 1 2  the same frames in temporal order
    =====================  =========  ==========================================================

    If a rule selects a frame that the clip does not have, because the clip is shorter than the
    window, that frame is mirrored at the clip's end frames.

    Args:
        centre: Index of the frame to restore.
        num_frame: Number of frames in the window.
        length: Number of frames in the clip.
        rule: Name of the rule.

    Raises:
        UserError: for an unknown rule.
    """
    check_choice("missing_neighbours", rule, get_args(Rule))
    first = centre - num_frame // 2
    last = first + num_frame - 1
    end = length - 1

    def replacement(t: int) -> int:
        if rule == "centre":
            return centre
        if rule == "replicate":
            return min(max(t, 0), end)
        if rule == "mirror":
            return min(t % (2 * length), -(t + 1) % (2 * length))
        if rule == "reflection_circle":
            t = last - t if t < 0 else first + end - t
        elif rule == "circle":
            t += num_frame if t < 0 else -num_frame
        return _reflect(t, end)

    return [t if 0 <= t <= end else replacement(t) for t in range(first, last + 1)]


def _reflect(t: int, end: int) -> int:
    """Maps ``t`` to a frame 0 … ``end`` of a clip that is mirrored at its end frames."""
    t %= max(2 * end, 1)
    return min(t, 2 * end - t)

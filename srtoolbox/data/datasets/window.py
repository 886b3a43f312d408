"""Which frames form a window of a clip."""

from __future__ import annotations

from typing import Literal, get_args

from srtoolbox.errors import UserError

Rule = Literal["centre", "replicate", "reflection", "mirror", "reflection_circle", "circle"]


def window_indices(centre: int, num_frame: int, length: int, rule: Rule) -> list[int]:
    """The frames of a window around ``centre``, which is at position ``num_frame // 2``.

    Frames that a clip does not have are replaced by a rule. The first frame of a clip, with windows
    of five frames, gets

    =====================  =========  ==========================================================
    ``centre``             0 0 0 1 2  the frame being restored (as for Jilin-189)
    ``replicate``          0 0 0 1 2  the clip's end frame (another than the centre at frame 1)
    ``reflection``         2 1 0 1 2  the clip mirrored at its end frame
    ``mirror``             1 0 0 1 2  the clip mirrored, its end frame repeated
    ``reflection_circle``  4 3 0 1 2  what follows on the window's other side, going outwards
    ``circle``             3 4 0 1 2  the same in temporal order
    =====================  =========  ==========================================================

    Clips shorter than the window are mirrored at their end frames where a rule asks for frames that
    they lack.

    Raises:
        UserError: for an unknown rule.
    """
    if rule not in get_args(Rule):
        raise UserError(f"missing_neighbours is one of {', '.join(get_args(Rule))}, got {rule!r}")
    first = centre - num_frame // 2
    last = first + num_frame - 1
    top = length - 1

    def stand_in(t: int) -> int:
        if rule == "centre":
            return centre
        if rule == "replicate":
            return min(max(t, 0), top)
        if rule == "mirror":
            return min(t % (2 * length), -(t + 1) % (2 * length))
        if rule == "reflection_circle":
            t = last - t if t < 0 else first + top - t
        elif rule == "circle":
            t += num_frame if t < 0 else -num_frame
        return _reflect(t, top)

    return [t if 0 <= t <= top else stand_in(t) for t in range(first, last + 1)]


def _reflect(t: int, top: int) -> int:
    """Frame ``t`` of a clip 0 … ``top`` that goes back and forth for ever."""
    t %= max(2 * top, 1)
    return min(t, 2 * top - t)

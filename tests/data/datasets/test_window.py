"""Windows of a clip: the rules at its ends."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srtoolbox.data.datasets.window import Rule, window_indices
from srtoolbox.errors import UserError

RULES = get_args(Rule)


def _by_definition(t: int, centre: int, num_frame: int, length: int, rule: Rule) -> int:
    """The frame that a rule puts at time ``t`` of a window, which the clip may not have."""
    clip = list(range(length))
    reflected = clip + clip[-2:0:-1]  # one period: 0 1 2 3 2 1
    mirrored = clip + clip[::-1]  # 0 1 2 3 3 2 1 0
    first = centre - num_frame // 2
    if t in clip:
        return t
    if rule == "centre":
        return centre
    if rule == "replicate":
        return clip[0] if t < 0 else clip[-1]
    if rule == "mirror":
        return mirrored[t % len(mirrored)]
    if rule == "circle":  # the window is moved by its own length
        t += num_frame if t < 0 else -num_frame
    if rule == "reflection_circle":  # the n-th missing frame is the n-th beyond the other side
        t = first + num_frame - 1 - t if t < 0 else first - (t - clip[-1])
    return reflected[t % len(reflected)]


@settings(deadline=None)
@given(st.data(), st.sampled_from(RULES), st.integers(1, 40), st.integers(1, 25))
def test_every_rule_is_its_definition(
    data: st.DataObject, rule: Rule, length: int, num_frame: int
) -> None:
    centre = data.draw(st.integers(0, length - 1))
    frames = window_indices(centre, num_frame, length, rule)
    assert len(frames) == num_frame
    assert all(0 <= frame < length for frame in frames)
    assert frames[num_frame // 2] == centre
    first = centre - num_frame // 2
    times = range(first, first + num_frame)
    assert frames == [_by_definition(t, centre, num_frame, length, rule) for t in times]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("num_frame", [1, 2, 3, 5, 7, 8])
def test_every_window_of_every_clip(rule: Rule, num_frame: int) -> None:
    for length in (1, 2, 3, 4, 5, 6, 9, 20):
        for centre in range(length):
            frames = window_indices(centre, num_frame, length, rule)
            assert len(frames) == num_frame
            assert all(0 <= t < length for t in frames)
            assert frames[num_frame // 2] == centre
            for position, t in enumerate(frames):  # a frame that the clip has is never replaced
                wanted = centre - num_frame // 2 + position
                assert t == wanted or not 0 <= wanted < length


@pytest.mark.parametrize("rule", RULES)
def test_windows_inside_are_consecutive(rule: Rule) -> None:
    assert window_indices(6, 5, 20, rule) == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("rule", "start", "second", "end"),
    [
        ("centre", [0, 0, 0, 1, 2], [1, 0, 1, 2, 3], [97, 98, 99, 99, 99]),
        ("replicate", [0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [97, 98, 99, 99, 99]),
        ("reflection", [2, 1, 0, 1, 2], [1, 0, 1, 2, 3], [97, 98, 99, 98, 97]),
        ("mirror", [1, 0, 0, 1, 2], [0, 0, 1, 2, 3], [97, 98, 99, 99, 98]),
        ("reflection_circle", [4, 3, 0, 1, 2], [4, 0, 1, 2, 3], [97, 98, 99, 96, 95]),
        ("circle", [3, 4, 0, 1, 2], [4, 0, 1, 2, 3], [97, 98, 99, 95, 96]),
    ],
)
def test_ends(rule: Rule, start: list[int], second: list[int], end: list[int]) -> None:
    assert window_indices(0, 5, 100, rule) == start
    assert window_indices(1, 5, 100, rule) == second
    assert window_indices(99, 5, 100, rule) == end


@pytest.mark.parametrize("rule", ["reflection_circle", "circle"])
def test_circles_repeat_no_frame(rule: Rule) -> None:
    for centre in range(5):
        assert sorted(window_indices(centre, 5, 5, rule)) == list(range(5))


@pytest.mark.parametrize("rule", ["reflection", "mirror", "replicate"])
def test_both_ends_are_treated_alike(rule: Rule) -> None:
    for length in (2, 3, 6):
        for centre in range(length):
            other = window_indices(length - 1 - centre, 7, length, rule)
            mirrored = [length - 1 - t for t in reversed(other)]
            assert window_indices(centre, 7, length, rule) == mirrored


@pytest.mark.parametrize(
    ("rule", "frames"),
    [
        ("reflection", [1, 2, 1, 0, 1, 2, 1]),
        ("mirror", [2, 1, 0, 0, 1, 2, 2]),
        ("replicate", [0, 0, 0, 0, 1, 2, 2]),
        ("centre", [0, 0, 0, 0, 1, 2, 0]),
    ],
)
def test_clips_shorter_than_the_window(rule: Rule, frames: list[int]) -> None:
    assert window_indices(0, 7, 3, rule) == frames


def test_unknown_rule() -> None:
    with pytest.raises(UserError, match=r"must be 'centre', .* or 'circle', got 'center'"):
        window_indices(0, 5, 9, "center")

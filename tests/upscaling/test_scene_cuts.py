from __future__ import annotations

import numpy as np
import pytest
from support.scenes import each, fade, scene

from srtoolbox.upscaling.scene_cuts import AUTO, REACH, difference, is_cut, look_of


def cuts(frames: np.ndarray, threshold: float = AUTO) -> list[int]:
    """The frames after which the detector finds a cut; it sees only the frames around each."""
    looks = {index: look_of(frame) for index, frame in enumerate(frames)}
    found = []
    for index in range(len(frames) - 1):
        near = range(index - REACH, index + 2 + REACH)
        if is_cut({at: looks[at] for at in near if at in looks}, index, threshold):
            found.append(index)
    return found


@pytest.mark.parametrize("step", [0, 1, 4])
def test_cuts_are_found(step):
    missed = 0
    for seed in range(20):
        frames = [scene(seed + add, 5, step=step) for add in (0, 1, 2, 30)]
        found = cuts(np.concatenate(frames))
        assert set(found) <= {4, 9, 14}
        missed += 3 - len(found)
    assert missed == 0


def test_a_cut_at_the_ends_of_a_clip():
    one, other = scene(0, 4), scene(1, 4)
    assert cuts(np.concatenate([one, other[:1]])) == [3]
    assert cuts(np.concatenate([one[:1], other])) == [0]
    assert cuts(np.concatenate([one[:1], other[:1]])) == [0]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_types_are_ranges(dtype):
    frames = np.concatenate([scene(0, 4), scene(1, 4)])
    same = frames.astype(dtype) * 257 if dtype == np.uint16 else frames.astype(dtype) / 255
    assert cuts(same) == [3]
    for one, other in zip(frames, same, strict=True):
        assert difference(look_of(one), look_of(other)) < 0.003


NO_CUTS = {
    "pan": lambda seed: scene(seed, 10, step=8),
    "fast pan": lambda seed: scene(seed, 8, step=16),
    "stop of a pan": lambda seed: scene(seed, 8, step=10)[[0, 1, 2, 3, 4, 4, 4, 4]],
    "noise": lambda seed: each(
        scene(seed, 8), lambda frame, at: frame + np.random.default_rng(at).normal(0, 40, (36, 64))
    ),
    "short flash": lambda seed: each(scene(seed, 9), lambda f, at: f + 90 * (at == 4)),
    "longer flash": lambda seed: each(scene(seed, 9), lambda f, at: f + 90 * (at in (4, 5))),
    "black frame": lambda seed: each(scene(seed, 9), lambda f, at: f * (at != 4)),
    "fade in": lambda seed: each(scene(seed, 14), lambda f, at: f * min(1, max(0, at - 3) / 6)),
    "fade out": lambda seed: each(scene(seed, 14), lambda f, at: f * min(1, max(0, 9 - at) / 6)),
    "dissolve": lambda seed: np.concatenate(
        [
            one := scene(seed, 4),
            fade(one[-1], (other := scene(seed + 1, 4))[0], 5),
            other,
        ]
    ),
    "black": lambda seed: np.zeros((5, 3, 36, 64), np.uint8),
}


@pytest.mark.parametrize("kind", NO_CUTS)
def test_other_changes_are_no_cuts(kind):
    assert [seed for seed in range(12) if cuts(NO_CUTS[kind](seed))] == []


def test_the_threshold():
    frames = np.concatenate([scene(0, 4), scene(1, 4)])
    own = difference(look_of(frames[3]), look_of(frames[4]))
    assert AUTO < own < 1
    assert cuts(frames, 0.5 * own) == [3]
    assert cuts(frames, min(1.0, 1.5 * own)) == []


def test_another_size_is_another_scene():
    assert difference(look_of(scene(0, 1)[0]), look_of(scene(0, 1)[0][:, :, :30])) == 1

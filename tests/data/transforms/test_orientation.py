"""Crops, flips and rotations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from srtoolbox.data.transforms.orientation import (
    orient_array,
    orient_batch,
    random_crop_origin,
    random_orientation,
)


def test_crops_reach_every_place_and_stay_inside() -> None:
    rng = np.random.default_rng(0)
    origins = {random_crop_origin(5, 7, 4, rng) for _ in range(300)}
    assert origins == {(y, x) for y in range(2) for x in range(4)}


def test_a_crop_of_the_whole_image() -> None:
    assert random_crop_origin(4, 4, 4, np.random.default_rng(0)) == (0, 0)


def test_all_eight_symmetries_differ() -> None:
    image = np.arange(12).reshape(3, 2, 2)
    assert len({orient_array(image, code).tobytes() for code in range(8)}) == 8


def test_mirror_before_turn() -> None:
    image = np.array([[1, 2], [3, 4]])
    assert orient_array(image, 1 + 2 * 1).tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turn", [False, True])
def test_an_option_does_not_change_other_draws(flip: bool, turn: bool) -> None:
    ours, full = np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(20):
        code = random_orientation(flip, turn, ours)
        both = random_orientation(True, True, full)
        assert code % 2 == (both % 2 if flip else 0)
        assert code // 2 == (both // 2 if turn else 0)
    assert ours.integers(2**62) == full.integers(2**62)


@pytest.mark.parametrize("code", range(8))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_orientations_are_those_of_numpy(code: int, dtype: type) -> None:
    image = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).astype(dtype)
    batch = orient_batch(torch.from_numpy(image)[None], [code])
    wanted = image[..., ::-1] if code % 2 else image
    assert batch.dtype == torch.from_numpy(image).dtype
    assert np.array_equal(batch[0].numpy(), np.rot90(wanted, code // 2, (-2, -1)))


def test_each_image_of_a_batch_has_its_own_orientation() -> None:
    batch = torch.arange(3 * 4).reshape(3, 1, 2, 2)
    turned = orient_batch(batch, [0, 1, 2])
    assert turned[0].equal(batch[0])
    assert turned[1].equal(batch[1].flip(-1))
    assert turned[2].equal(torch.rot90(batch[2], 1, (-2, -1)))


def test_orientations_are_drawn_as_the_options_say() -> None:
    def drawn(use_hflip: bool, use_rot: bool) -> set[int]:
        rng = np.random.default_rng(0)
        return {random_orientation(use_hflip, use_rot, rng) for _ in range(200)}

    assert drawn(True, True) == set(range(8))
    assert drawn(True, False) == {0, 1}
    assert drawn(False, True) == {0, 2, 4, 6}
    assert drawn(False, False) == {0}

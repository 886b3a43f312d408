"""Augmented mosaics: every packed channel keeps its colour and its position on the GT."""

from __future__ import annotations

import numpy as np
import pytest

from srtoolbox.data.degradations.raw import mosaic
from srtoolbox.data.transforms.bayer import orient_bayer, pack, unpack
from srtoolbox.data.transforms.orientation import orient_array

SIDE = 12  # sensor pixels


def scene(scale: int) -> tuple[np.ndarray, np.ndarray]:
    """A burst of two frames and its ground truth (3, H, W), of three unlike smooth colours."""
    fine = scale // 2
    place = (np.arange(SIDE * fine) + 0.5) / fine
    x, y = np.meshgrid(place, place)
    truth = np.stack([x + 3 * y, 100 + 5 * x + y, 300 - 2 * x + 7 * y])
    # A linear function's mean over a sensor pixel is its value at the centre.
    sensor = truth.reshape(3, SIDE, fine, SIDE, fine).mean((2, 4))
    colour = np.array([[0, 1], [1, 2]])[np.arange(SIDE)[:, None] % 2, np.arange(SIDE) % 2]
    plane = np.take_along_axis(sensor, colour[None], 0)[0]
    return pack(np.stack([plane, plane + 1000])), truth


def test_packing_is_undone_and_in_the_order_red_green_green_blue() -> None:
    plane = np.arange(24).reshape(4, 6)
    packed = pack(plane)
    assert packed.shape == (4, 2, 3)
    assert packed[:, 0, 0].tolist() == [0, 1, 6, 7]
    assert np.array_equal(unpack(packed), plane)
    frames = np.random.default_rng(0).random((2, 4, 3, 5))
    assert np.array_equal(pack(unpack(frames)), frames)


@pytest.mark.parametrize("code", range(8))
@pytest.mark.parametrize("scale", [2, 8])
def test_channels_keep_their_colour_and_place(code: int, scale: int) -> None:
    lq, gt = orient_bayer(*scene(scale), code, scale)
    assert lq.shape == (2, 4, SIDE // 2 - 1, SIDE // 2 - 1)
    assert gt.shape == (3, scale * lq.shape[2], scale * lq.shape[3])
    assert lq.flags.c_contiguous
    assert gt.flags.c_contiguous
    fine, side = scale // 2, SIDE - 2
    sensor = gt.reshape(3, side, fine, side, fine).mean((2, 4))
    for c, (y, x) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected = sensor[(0, 1, 1, 2)[c], y::2, x::2]
        np.testing.assert_allclose(lq[0, c], expected, atol=1e-9)
        np.testing.assert_allclose(lq[1, c], expected + 1000, atol=1e-9)


@pytest.mark.parametrize("code", [1, 2, 4, 5, 6, 7])  # transposed (3), red stays where it was
def test_a_plain_flip_would_mix_the_colours(code: int) -> None:
    lq, gt = scene(2)
    flipped, truth = orient_array(lq, code), orient_array(gt, code)
    assert np.abs(flipped[0, 0] - truth[0, ::2, ::2]).max() > 0.5


def test_the_eight_orientations_are_those_of_the_device() -> None:
    import torch

    from srtoolbox.data.transforms.orientation import orient

    image = np.arange(30.0).reshape(5, 6)
    for code in range(8):
        assert np.array_equal(orient_array(image, code), orient(torch.from_numpy(image), code))


def test_oblong_bursts() -> None:
    rng = np.random.default_rng(0)
    lq, gt = orient_bayer(rng.random((1, 4, 5, 7)), rng.random((3, 40, 56)), 2, 8)
    assert lq.shape == (1, 4, 6, 4)
    assert gt.shape == (3, 48, 32)


def test_packing_is_that_of_the_synthesis() -> None:
    import torch

    grey = np.random.default_rng(0).random((6, 8))
    made = mosaic(torch.from_numpy(np.stack([grey] * 3)))
    assert np.array_equal(made, pack(grey))

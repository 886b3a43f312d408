"""Interpolation kernels equal those of torch and OpenCV."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from srtoolbox.data.resize.array import imresize
from srtoolbox.data.resize.kernels import INTERPOLATIONS, Interpolation, interpolate, taps
from srtoolbox.errors import UserError

SIZES = [(20, 30), (57, 80), (13, 90), (40, 17), (1, 1)]


def image(height: int = 40, width: int = 56) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (2, 3, height, width)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("bilinear", "bilinear"), ("bicubic", "bicubic"), ("nearest", "nearest-exact")],
)
def test_as_in_torch(size: tuple[int, int], ours: Interpolation, theirs: str) -> None:
    align = None if theirs == "nearest-exact" else False
    expected = F.interpolate(image(), size=size, mode=theirs, align_corners=align)
    torch.testing.assert_close(interpolate(image(), size, ours), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(20, 28), (13, 17), (33, 50), (1, 1), (39, 55)])
def test_area_as_in_opencv(size: tuple[int, int]) -> None:
    pixels = image()[0].numpy().transpose(1, 2, 0).copy()
    expected = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    ours = interpolate(image(), size, "area")[0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_area_keeps_the_mean() -> None:
    for size in ((20, 28), (10, 7), (80, 112)):
        means = interpolate(image(), size, "area").mean((-2, -1))
        torch.testing.assert_close(means, image().mean((-2, -1)))


def test_bicubic_with_antialiasing_is_that_of_matlab() -> None:
    expected = imresize(image()[0].numpy().transpose(1, 2, 0), None, out_size=(10, 14))
    ours = interpolate(image(), (10, 14), "bicubic-aa")[0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_all_names() -> None:
    assert get_args(Interpolation) == INTERPOLATIONS
    for kernel in INTERPOLATIONS:
        same = interpolate(image(), (40, 56), kernel)
        assert torch.equal(same, image())
        flat = torch.full((1, 1, 9, 13), 7.0, dtype=torch.float64)
        resized = interpolate(flat, (5, 20), kernel)
        torch.testing.assert_close(resized, torch.full_like(resized, 7.0))


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(INTERPOLATIONS[:4]))
def test_weights(length: int, out_length: int, kernel: Interpolation) -> None:
    index, weights = taps(length, out_length, kernel)
    assert index.shape == weights.shape
    assert index.shape[1] == out_length
    assert 0 <= index.min() <= index.max() < length
    np.testing.assert_allclose(weights.sum(0), 1)
    assert kernel == "bicubic" or weights.min() >= 0


def test_an_image_does_not_depend_on_its_batch() -> None:
    for kernel in INTERPOLATIONS[:4]:
        both = interpolate(image(), (23, 31), kernel)
        assert torch.equal(interpolate(image()[1:], (23, 31), kernel)[0], both[1])


def test_mistakes() -> None:
    with pytest.raises(UserError, match="kernel must be 'nearest', 'area'"):
        interpolate(image(), (10, 10), "lanczos")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="size must be at least"):
        interpolate(image(), (0, 10), "area")

"""Blur kernels: odd, of sum 1, of the stated width, direction and pass band."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srtoolbox.data.degradations.kernels import gaussian_kernel, motion_kernel, sinc_kernel
from srtoolbox.errors import UserError

odd_sizes = st.integers(0, 20).map(lambda half: 2 * half + 1)
widths = st.floats(1e-4, 20)
angles = st.floats(-math.pi, math.pi)
fast = settings(max_examples=50, deadline=None)


def moments(kernel: np.ndarray) -> np.ndarray:
    """The covariance of the places of a kernel's weight, x first."""
    offset = np.arange(len(kernel)) - len(kernel) // 2
    x, y = np.meshgrid(offset, offset)
    return np.array([[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)])


@fast
@given(odd_sizes, widths, widths, angles, st.floats(0.1, 8), st.booleans())
def test_gaussian_relatives(
    size: int, first: float, second: float, angle: float, beta: float, plateau: bool
) -> None:
    kernel = gaussian_kernel(size, (first, second), angle, beta=beta, plateau=plateau)
    assert kernel.shape == (size, size)
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)
    assert kernel.argmax() == kernel.size // 2 or kernel.max() == pytest.approx(
        kernel[size // 2, size // 2]
    )


@fast
@given(odd_sizes, st.floats(0.01, math.pi))
def test_sinc(size: int, cutoff: float) -> None:
    kernel = sinc_kernel(size, cutoff)
    assert kernel.shape == (size, size)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel, kernel.T)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1])


@fast
@given(odd_sizes, st.floats(0, 1), angles)
def test_motion(size: int, share: float, angle: float) -> None:
    kernel = motion_kernel(size, share * (size - 1), angle)
    assert kernel.shape == (size, size)
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-9)


def test_the_covariance_is_the_stated_one() -> None:
    angle = math.radians(30)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    expected = turn @ np.diag([9.0, 2.25]) @ turn.T
    kernel = gaussian_kernel(41, (3.0, 1.5), angle)
    np.testing.assert_allclose(moments(kernel), expected, rtol=1e-3)


def test_values_of_the_relatives() -> None:
    """Ratios to the middle: exp(-q^β / 2) and 1 / (1 + q^β) at q = (4 / 2)² = 4."""
    for beta in (0.5, 1, 2):
        general = gaussian_kernel(21, (2.0, 2.0), beta=beta)
        assert general[10, 14] / general[10, 10] == pytest.approx(math.exp(-(4**beta) / 2))
        plateau = gaussian_kernel(21, (2.0, 2.0), beta=beta, plateau=True)
        assert plateau[10, 14] / plateau[10, 10] == pytest.approx(1 / (1 + 4**beta))


def test_a_shifted_centre() -> None:
    kernel = gaussian_kernel(25, (1.2, 1.2), centre=1.5)
    offset = np.arange(25) - 12
    assert (kernel.sum(0) * offset).sum() == pytest.approx(1.5, abs=1e-6)
    assert (kernel.sum(1) * offset).sum() == pytest.approx(1.5, abs=1e-6)


@pytest.mark.parametrize("cutoff", [math.pi / 3, math.pi / 2])
def test_the_sinc_kernel_passes_low_frequencies(cutoff: float) -> None:
    response = np.abs(np.fft.fft2(sinc_kernel(81, cutoff), (512, 512)))
    frequency = 2 * np.pi * np.abs(np.fft.fftfreq(512))
    radius = np.hypot(frequency[:, None], frequency)
    assert response[radius < 0.7 * cutoff].min() > 0.85
    assert response[(radius > 1.4 * cutoff) & (radius < math.pi)].max() < 0.15
    assert sinc_kernel(21, cutoff).min() < 0


@pytest.mark.parametrize("degrees", [0, 30, 90, 135])
def test_motion_has_its_length_and_direction(degrees: float) -> None:
    angle = math.radians(degrees)
    values, vectors = np.linalg.eigh(moments(motion_kernel(31, 18, angle)))
    assert values[1] == pytest.approx(18**2 / 12, rel=0.02)
    assert values[0] < 0.3  # of the shared pixels
    along = vectors[:, 1] @ [math.cos(angle), math.sin(angle)]
    assert abs(along) == pytest.approx(1, abs=1e-3)


def test_no_blur() -> None:
    for kernel in (motion_kernel(5, 0, 1), gaussian_kernel(5, (1e-4, 1e-4)), sinc_kernel(1, 2)):
        middle = len(kernel) // 2
        assert kernel[middle, middle] == pytest.approx(1)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="odd size, got 4"):
        gaussian_kernel(4, (1, 1))
    with pytest.raises(UserError, match="above 0"):
        gaussian_kernel(5, (0, 1))
    with pytest.raises(UserError, match="cut-off frequency"):
        sinc_kernel(5, 4)
    with pytest.raises(UserError, match="paths up to 4: 6"):
        motion_kernel(5, 6, 0)

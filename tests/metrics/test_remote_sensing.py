"""SAM and ERGAS against torchmetrics' values and arithmetic."""

from __future__ import annotations

import math

import pytest
import torch

from srtoolbox.metrics import ERGAS, SAM, Protocol, get_protocol

_PLAIN = Protocol("t")


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    ramp = torch.arange(3 * 40 * 33, dtype=torch.float64).reshape(3, 40, 33)
    gt = 0.5 + 0.4 * torch.sin(ramp * 0.37)
    return (gt + 0.05 * torch.cos(ramp * 0.11 + 1)).clamp(0, 1), gt


def test_agrees_with_torchmetrics():
    """Values of torchmetrics 1.9.0 for these two images in 0 to 255; its angle is in radians."""
    sr, gt = _pair()
    assert SAM()(sr, gt, protocol=_PLAIN, scale=4) == pytest.approx(2.2097053095133, rel=1e-12)
    assert ERGAS()(sr, gt, protocol=_PLAIN, scale=4) == pytest.approx(1.7711995149011, rel=1e-12)


def test_angle_by_hand():
    """Red against yellow is 45 degrees, against green 90; brightness does not count."""
    red, yellow, green = (
        torch.tensor(color, dtype=torch.float64).reshape(3, 1, 1).expand(3, 4, 4)
        for color in ([1, 0, 0], [0.6, 0.6, 0], [0, 1, 0])
    )
    assert SAM()(red, yellow, protocol=_PLAIN, scale=4) == pytest.approx(45)
    assert SAM()(red, green, protocol=_PLAIN, scale=4) == pytest.approx(90)
    assert SAM()(red, red * 0.2, protocol=_PLAIN, scale=4) == 0
    assert SAM()(red, red * 0, protocol=_PLAIN, scale=4) == pytest.approx(90)
    assert SAM()(red * 0, red * 0, protocol=_PLAIN, scale=4) == 0


def test_spectra_are_of_rgb_under_luma_protocols():
    sr, gt = _pair()
    protocol = get_protocol("basicsr-y")
    cropped = [image[:, 3:-3, 3:-3] for image in (sr, gt)]
    for metric in (SAM(), ERGAS()):
        value = metric(sr, gt, protocol=protocol, scale=3)
        assert value == metric(*cropped, protocol=_PLAIN, scale=3)


def test_relative_error_by_hand():
    """Bands of mean 200, 100 and 50, each wrong by 10 everywhere."""
    gt = torch.tensor([200.0, 100, 50]).reshape(3, 1, 1).expand(3, 4, 4) / 255
    expected = 100 / 2 * math.sqrt((0.05**2 + 0.1**2 + 0.2**2) / 3)
    assert ERGAS()(gt + 10 / 255, gt, protocol=_PLAIN, scale=2) == pytest.approx(expected)
    assert ERGAS()(gt + 10 / 255, gt, protocol=_PLAIN, scale=4) == pytest.approx(expected / 2)


def test_black_bands():
    gt = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    gt[1] = 0
    assert ERGAS()(gt, gt, protocol=_PLAIN, scale=4) == 0
    assert ERGAS()(gt + 0.1, gt, protocol=_PLAIN, scale=4) == math.inf

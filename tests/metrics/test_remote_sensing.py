"""SAM and ERGAS against torchmetrics' values and arithmetic, UIQI against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from srtoolbox.errors import UserError
from srtoolbox.metrics import ERGAS, SAM, UIQI, Protocol, get_protocol

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


def test_any_number_of_bands_and_masks():
    """SAM and ERGAS of the valid pixels of five bands, pixel by pixel."""
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(5, 12, 13, generator=generator, dtype=torch.float64)
    sr = (gt + 0.1 * torch.rand(gt.shape, generator=generator)).clamp(0, 1)
    mask = torch.rand(1, 12, 13, generator=generator) > 0.3
    valid = mask[0].numpy()
    x, y = (image.numpy()[:, valid].T for image in (sr, gt))
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, y, strict=True)]
    options = {"protocol": get_protocol("probav"), "scale": 4, "mask": mask}
    assert SAM()(sr, gt, **options) == pytest.approx(np.degrees(np.arccos(cosines)).mean())
    relative = ((x - y) ** 2).mean(0) / y.mean(0) ** 2
    assert ERGAS()(sr, gt, **options) == pytest.approx(25 * np.sqrt(relative.mean()))


def _uiqi(sr: torch.Tensor, gt: torch.Tensor, mask: torch.Tensor, size: int) -> float:
    """The mean over all windows without masked pixels, from means and variances of each."""
    bands = []
    for x, y in zip(sr.double().numpy(), gt.double().numpy(), strict=True):
        values = []
        for row in range(x.shape[0] - size + 1):
            for column in range(x.shape[1] - size + 1):
                place = slice(row, row + size), slice(column, column + size)
                if not mask[0].numpy()[place].all():
                    continue
                a, b = x[place].ravel(), y[place].ravel()
                (var_a, cov), (_, var_b) = np.cov(a, b)
                light = 2 * a.mean() * b.mean() / (a.mean() ** 2 + b.mean() ** 2)
                flat = np.ptp(a) == np.ptp(b) == 0
                values.append(light if flat else light * 2 * cov / (var_a + var_b))
        bands.append(np.mean(values))
    return np.mean(bands)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("size", [8, 3])
def test_uiqi_by_loops(channels, size):
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(channels, 18, 16, generator=generator)
    gt[:, :9, :9] = 0.3  # windows that are constant in one or both images
    sr = (gt + 0.1 * torch.rand(gt.shape, generator=generator)).clamp(0, 1)
    sr[:, :10, :10] = 0.35
    mask = torch.ones(1, 18, 16, dtype=torch.bool)
    whole = {"protocol": get_protocol("probav"), "scale": 4}
    metric = UIQI() if size == 8 else UIQI(window=size)
    assert metric(sr, gt, **whole) == pytest.approx(_uiqi(sr, gt, mask, size), rel=1e-9)
    mask[0, 14:15, 6:9] = False
    expected = _uiqi(sr, gt, mask, size)
    assert metric(sr, gt, mask=mask, **whole) == pytest.approx(expected, rel=1e-9)


def test_uiqi_by_hand():
    """Constant images differ in luminance alone; a negative has the correlation -1."""
    sr, gt = torch.full((2, 8, 8), 0.2), torch.full((2, 8, 8), 0.4)
    options = {"protocol": get_protocol("probav"), "scale": 2}
    assert UIQI()(sr, gt, **options) == pytest.approx(0.8)
    assert UIQI()(sr * 0, gt, **options) == 0
    assert UIQI()(sr * 0, gt * 0, **options) == 1
    ramp = torch.linspace(0.25, 0.75, 64, dtype=torch.float64).view(1, 8, 8)
    assert UIQI()(1 - ramp, ramp, **options) == pytest.approx(-1)
    assert UIQI()(ramp, ramp, **options) == pytest.approx(1, abs=1e-12)
    assert math.isnan(UIQI()(ramp * math.nan, ramp, **options))
    with pytest.raises(UserError, match=r"UIQI: needs 8×8 pixels, but .* leaves 4×4"):
        UIQI()(ramp, ramp, protocol=get_protocol("bands"), scale=2)
    with pytest.raises(UserError, match="UIQI: window must be at least 2 pixels, got 1"):
        UIQI(window=1)

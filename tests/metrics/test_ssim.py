"""SSIM against scikit-image; BasicSR's values are checked beside PSNR's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from srtoolbox.errors import UserError
from srtoolbox.metrics import SSIM, Protocol, get_protocol


def _pair(channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(channels, 40, 33, generator=generator)
    sr = (gt + 0.1 * torch.randn(gt.shape, generator=generator)).clamp(0, 1)
    return sr, gt


@pytest.mark.parametrize("name", ["basicsr-y", "matlab-y", "rgb", "jilin189-table"])
@pytest.mark.parametrize("channels", [1, 3])
def test_agrees_with_scikit_image(name, channels):
    metrics = pytest.importorskip("skimage.metrics")
    protocol, (sr, gt) = get_protocol(name), _pair(channels)
    x, y = (protocol.prepare(image, 3).numpy() for image in (sr, gt))
    _, full = metrics.structural_similarity(
        x,
        y,
        channel_axis=0,
        data_range=protocol.ssim_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    ours = SSIM()(sr, gt, protocol=protocol, scale=3)
    assert ours == pytest.approx(full[:, 5:-5, 5:-5].mean(), abs=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_uniform_windows_are_the_default_of_scikit_image(channels):
    metrics = pytest.importorskip("skimage.metrics")
    sr, gt = _pair(channels)
    protocol = Protocol("t", ssim_window="uniform", round_8bit=False, crop_border=2)
    x, y = (protocol.prepare(image, 4).numpy() for image in (sr, gt))
    expected = metrics.structural_similarity(x, y, channel_axis=0, data_range=255)
    ours = SSIM()(sr, gt, protocol=protocol, scale=4)
    assert ours == pytest.approx(expected, abs=1e-12)
    with pytest.raises(UserError, match=r"SSIM: needs 7×7 pixels"):
        SSIM()(sr[:, :10], gt[:, :10], protocol=protocol, scale=4)


@pytest.mark.parametrize("uniform", [False, True])
def test_any_number_of_bands_with_scikit_image(uniform):
    metrics = pytest.importorskip("skimage.metrics")
    sr, gt = _pair(13)
    window = "uniform" if uniform else "gaussian"
    protocol = Protocol("t", color="bands", grey="direct", round_8bit=False, ssim_window=window)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    x, y = (image.double().numpy() for image in (sr, gt))
    _, full = metrics.structural_similarity(
        x, y, channel_axis=0, data_range=1, full=True, **({} if uniform else gaussian)
    )
    border = 3 if uniform else 5
    windows = full[:, border:-border, border:-border]
    assert SSIM()(sr, gt, protocol=protocol, scale=4) == pytest.approx(windows.mean(), abs=1e-12)
    mask = torch.ones(1, *sr.shape[1:], dtype=torch.bool)
    mask[:, 12, 20] = mask[:, 0, 0] = False
    away = np.ones(sr.shape[1:], bool)  # centres of windows without these pixels
    away[12 - border : 13 + border, 20 - border : 21 + border] = False
    away[: border + 1, : border + 1] = False
    expected = windows[:, away[border:-border, border:-border]].mean()
    ours = SSIM()(sr, gt, protocol=protocol, scale=4, mask=mask)
    assert ours == pytest.approx(expected, abs=1e-12)


def test_constants_by_hand():
    """Two flat images differ in luminance alone."""
    sr, gt = torch.full((3, 11, 11), 100 / 255), torch.full((3, 11, 11), 120 / 255)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert SSIM()(sr, gt, protocol=Protocol("t"), scale=4) == pytest.approx(expected, abs=1e-12)


def test_symmetric_and_one_for_identical_images():
    sr, gt = _pair()
    protocol = Protocol("t")
    forward, backward = (SSIM()(*p, protocol=protocol, scale=4) for p in ((sr, gt), (gt, sr)))
    assert forward == backward < 1
    assert SSIM()(gt, gt, protocol=protocol, scale=4) == pytest.approx(1, abs=1e-12)
    assert math.isnan(SSIM()(sr * math.nan, gt, protocol=protocol, scale=4))


def test_images_too_small_are_named():
    image = torch.rand(3, 14, 20)
    with pytest.raises(UserError, match=r"10×16.*14×20"):
        SSIM()(image, image, protocol=Protocol("t", crop_border=2), scale=4)

"""Losses on structure against independent formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from srtoolbox.errors import UserError
from srtoolbox.losses import EdgeLoss, FFTLoss, GradientWeightedLoss, SSIMLoss

SOBEL = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
LAPLACE = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
ALL = [EdgeLoss, FFTLoss, GradientWeightedLoss, SSIMLoss]


def pair(shape: tuple[int, ...] = (2, 3, 16, 19)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


def convolve(image: torch.Tensor, kernel: torch.Tensor, padding: int = 0) -> torch.Tensor:
    channels = image.shape[1]
    return F.conv2d(image, kernel.expand(channels, 1, 3, 3), padding=padding, groups=channels)


@pytest.mark.parametrize("loss", ALL)
def test_what_all_have_in_common(loss: type) -> None:
    sr, gt = pair()
    assert loss()(gt, gt).item() == pytest.approx(0, abs=1e-6)
    value = loss()(sr, gt)
    assert value.shape == ()
    assert loss(loss_weight=0.5)(sr, gt).item() == pytest.approx(value.item() / 2)
    sr.requires_grad_()
    loss()(sr, gt).backward()
    assert sr.grad.isfinite().all()
    assert sr.grad.any()
    assert loss()(sr.detach().bfloat16(), gt).dtype == torch.float32
    with pytest.raises(UserError, match=r"sr is \(2, 3, 16, 19\) but gt is \(3, 16, 19\)"):
        loss()(sr, gt[0])
    clip = loss()(sr.detach()[None], gt[None])
    assert clip.item() == pytest.approx(value.item(), rel=1e-5)


def test_edges() -> None:
    sr, gt = pair()
    dx, dy = ((convolve(sr, k) - convolve(gt, k)).abs() for k in (SOBEL, SOBEL.T))
    assert EdgeLoss()(sr, gt).item() == pytest.approx(((dx + dy) / 2).mean().item(), rel=1e-5)
    laplace = (convolve(sr, LAPLACE) - convolve(gt, LAPLACE)).abs().mean().item()
    assert EdgeLoss(operator="laplacian")(sr, gt).item() == pytest.approx(laplace, rel=1e-5)
    assert EdgeLoss()(gt + 0.1, gt).item() == pytest.approx(0, abs=1e-6)  # brightness is no edge
    with pytest.raises(UserError, match="'sobel' or 'laplacian'"):
        EdgeLoss(operator="canny")


def test_gradient_weighted_l1() -> None:
    sr, gt = pair()
    dx, dy = (
        (convolve(sr, k, padding=1) - convolve(gt, k, padding=1)).abs() for k in (SOBEL, SOBEL.T)
    )
    expected = (1 + 4 * dx) * (1 + 4 * dy) * (sr - gt).abs()
    assert GradientWeightedLoss()(sr, gt).item() == pytest.approx(expected.mean().item(), rel=1e-5)
    summed = GradientWeightedLoss(reduction="sum")(sr, gt).item()
    assert summed == pytest.approx(expected.sum().item(), rel=1e-5)
    plain = GradientWeightedLoss(gain=0)(sr, gt).item()
    assert plain == pytest.approx((sr - gt).abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize("norm", ["backward", "ortho"])
def test_spectrum(norm: str) -> None:
    sr, gt = pair()
    spectrum = np.fft.fft2(sr.double().numpy(), norm=norm) - np.fft.fft2(
        gt.double().numpy(), norm=norm
    )
    expected = (np.abs(spectrum.real) + np.abs(spectrum.imag)).mean() / 2
    assert FFTLoss(norm=norm)(sr, gt).item() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UserError, match="'backward' or 'ortho'"):
        FFTLoss(norm="forward")


def test_ssim() -> None:
    sr, gt = pair((2, 1, 20, 23))
    gt = 0.8 * gt + 0.2 * sr
    x = torch.arange(11.0, dtype=torch.float64) - 5
    line = torch.exp(-(x**2) / 4.5)
    window = torch.outer(line, line)
    window = (window / window.sum())[None, None]

    def mean(image: torch.Tensor) -> torch.Tensor:
        return F.conv2d(image.double(), window)

    a, b = mean(sr), mean(gt)
    variance_a, variance_b = mean(sr.double() ** 2) - a**2, mean(gt.double() ** 2) - b**2
    covariance = mean(sr.double() * gt.double()) - a * b
    similarity = ((2 * a * b + 1e-4) * (2 * covariance + 9e-4)) / (
        (a**2 + b**2 + 1e-4) * (variance_a + variance_b + 9e-4)
    )
    assert SSIMLoss()(sr, gt).item() == pytest.approx(1 - similarity.mean().item(), abs=1e-5)


def test_ssim_of_averages() -> None:
    sr, gt = pair()

    def mean(image: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(image.double(), 3, stride=1, padding=1, count_include_pad=True)

    a, b = mean(sr), mean(gt)
    variance = mean(sr.double() ** 2) - a**2 + mean(gt.double() ** 2) - b**2
    covariance = mean(sr.double() * gt.double()) - a * b
    similarity = ((2 * a * b + 1e-4) * (2 * covariance + 9e-4)) / (
        (a**2 + b**2 + 1e-4) * (variance + 9e-4)
    )
    expected = 1 - similarity.mean().item()
    assert SSIMLoss(window="average")(sr, gt).item() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UserError, match="SSIMLoss: window must be 'gaussian' or 'average'"):
        SSIMLoss(window="uniform")


def test_ssim_of_dstcs_authors(dstc_pairs) -> None:
    for sr, gt, golden in dstc_pairs:
        inner = (sr[None, :, 4:-4, 4:-4], gt[None, :, 4:-4, 4:-4])
        loss = SSIMLoss(window="average")(*inner).item()
        assert loss == pytest.approx(golden["loss_ssim"], rel=1e-5)


def test_ssim_is_the_metric() -> None:
    from srtoolbox.metrics import SSIM, Protocol

    sr, gt = pair()
    sr, gt = (sr[:1] * 255).round() / 255, (gt[:1] * 255).round() / 255
    metric = SSIM()(sr[0], gt[0], protocol=Protocol("t"), scale=4)
    assert SSIMLoss()(sr, gt).item() == pytest.approx(1 - metric, abs=1e-5)


@pytest.mark.parametrize(("loss", "size"), [(EdgeLoss, 2), (SSIMLoss, 10)])
def test_small_images_are_refused(loss: type, size: int) -> None:
    image = torch.zeros(1, 3, size, 20)
    with pytest.raises(UserError, match=rf"needs {size + 1}×{size + 1} pixels, got {size}×20"):
        loss()(image, image)

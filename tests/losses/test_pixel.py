"""Pixel losses: values by hand, gradients, reductions, precision."""

from __future__ import annotations

import math

import pytest
import torch

from srtoolbox.errors import UserError
from srtoolbox.losses import CharbonnierLoss, L1Loss, MSELoss, PSNRLoss

SR = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(1, 1, 2, 2)
GT = torch.tensor([0.0, 0.75, 0.25, 0.0]).view(1, 1, 2, 2)


@pytest.mark.parametrize(
    ("loss", "mean"),
    [
        (L1Loss, (0 + 0.5 + 0.25 + 1) / 4),
        (MSELoss, (0 + 0.25 + 0.0625 + 1) / 4),
        (CharbonnierLoss, (0 + 0.5 + 0.25 + 1) / 4),
    ],
)
def test_values(loss: type, mean: float) -> None:
    assert loss()(SR, GT).item() == pytest.approx(mean, abs=1e-6)
    assert loss(reduction="sum")(SR, GT).item() == pytest.approx(4 * mean, abs=4e-6)
    assert loss(loss_weight=0.1)(SR, GT).item() == pytest.approx(mean / 10, abs=1e-6)
    assert loss()(GT, GT).item() == pytest.approx(0, abs=1e-6)


def test_charbonnier_eps_stands_under_the_root() -> None:
    loss = CharbonnierLoss(eps=0.01)
    assert loss(GT, GT).item() == pytest.approx(0.1)
    expected = ((SR - GT).double().square() + 0.01).sqrt().mean().item()
    assert loss(SR, GT).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [L1Loss, MSELoss, CharbonnierLoss, PSNRLoss])
def test_gradient_is_finite_at_zero(loss: type) -> None:
    sr = GT.clone().requires_grad_()
    loss()(sr, GT).backward()
    assert torch.equal(sr.grad, torch.zeros_like(GT))


@pytest.mark.parametrize("loss", [L1Loss, MSELoss, CharbonnierLoss, PSNRLoss])
def test_low_precision_outputs_are_compared_in_fp32(loss: type) -> None:
    sr, gt = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    half = sr.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss()(half, gt)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss()(half.float(), gt).item(), rel=1e-6)


def test_psnr_is_negative_and_in_db() -> None:
    sr = torch.stack([GT[0] + 0.1, GT[0] + 0.01])
    gt = GT.repeat(2, 1, 1, 1)
    over_images = PSNRLoss(over="image", eps=0)(sr, gt).item()
    assert over_images == pytest.approx(-(20 + 40) / 2, rel=1e-5)
    over_batch = 10 * math.log10((0.1**2 + 0.01**2) / 2)
    assert PSNRLoss(eps=0)(sr, gt).item() == pytest.approx(over_batch, rel=1e-5)
    assert PSNRLoss(loss_weight=0.03)(sr, gt).item() == pytest.approx(0.03 * over_batch, rel=1e-4)
    clips = PSNRLoss(over="image", eps=0)(sr[None], gt[None]).item()
    assert clips == pytest.approx(over_images)
    assert PSNRLoss()(gt, gt).item() == pytest.approx(-80)
    with pytest.raises(UserError, match="PSNRLoss: over must be 'batch' or 'image', got 'clip'"):
        PSNRLoss(over="clip")


def test_values_of_dstcs_authors(dstc_pairs) -> None:
    for sr, gt, golden in dstc_pairs:
        inner = (sr[None, :, 4:-4, 4:-4], gt[None, :, 4:-4, 4:-4])
        assert PSNRLoss()(*inner).item() == pytest.approx(golden["loss_psnr"], rel=1e-5)
        assert L1Loss()(*inner).item() == pytest.approx(golden["loss_l1"], rel=1e-5)


def test_shapes_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"sr is \(1, 3, 4, 4\) but gt is \(3, 4, 4\)"):
        L1Loss()(torch.zeros(1, 3, 4, 4), torch.zeros(3, 4, 4))

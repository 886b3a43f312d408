"""Losses of multi-frame networks."""

from __future__ import annotations

import pytest
import torch

from srtoolbox.archs import TDAN
from srtoolbox.errors import UserError
from srtoolbox.losses import AlignmentLoss, MSELoss, TemporalConsistencyLoss
from srtoolbox.models import SRModel


@pytest.mark.parametrize(
    ("criterion", "mean"), [("mse", (0.01 + 0.09) / 4), ("l1", 0.1), ("charbonnier", 0.1)]
)
def test_alignment(criterion: str, mean: float) -> None:
    lq = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    aligned = torch.stack((lq, lq + 0.1, lq - 0.3, lq), dim=1)
    loss = AlignmentLoss(loss_weight=2.0, criterion=criterion)
    assert loss({"aligned": aligned}, lq).item() == pytest.approx(2 * mean, rel=1e-4)


def test_tdan_is_trained_by_it() -> None:
    torch.manual_seed(0)
    net = TDAN(
        2,
        num_feat=8,
        num_extract_block=1,
        num_reconstruct_block=1,
        deformable_groups=2,
        num_frame=3,
    )
    batch = {"lq": torch.rand(2, 3, 3, 8, 8), "gt": torch.rand(2, 3, 16, 16)}
    model = SRModel(net, {"l_pix": MSELoss(), "l_align": AlignmentLoss()}, reference=1)
    values = model.objective("g", batch)
    aligned = net(batch["lq"])["aligned"]
    expected = (aligned - batch["lq"][:, 1:2]).square().mean().item()
    assert values["l_align"].item() == pytest.approx(expected, rel=1e-5)
    values["l_align"].backward()
    assert net.recon_lr.weight.grad.any()
    assert net.fea_ex[0].weight.grad is None  # which comes after the alignment


def test_other_outputs_are_refused() -> None:
    lq = torch.zeros(1, 3, 4, 4)
    with pytest.raises(UserError, match="no output 'aligned'; its outputs are sr, mask, flow"):
        AlignmentLoss()({"mask": lq, "flow": lq}, lq)
    for wrong in (lq, torch.zeros(1, 5, 3, 4, 5)):
        with pytest.raises(UserError, match=r"'aligned' is \(1, .*reference \(1, 3, 4, 4\)"):
            AlignmentLoss()({"aligned": wrong}, lq)
    with pytest.raises(UserError, match="must be 'mse', 'l1' or 'charbonnier'"):
        AlignmentLoss(criterion="ssim")


def test_temporal_consistency() -> None:
    gt = torch.rand(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    offset = torch.tensor([0.0, 0.1, -0.2]).view(1, 3, 1, 1, 1)
    loss = TemporalConsistencyLoss()
    assert loss(gt + 0.3, gt).item() == pytest.approx(0, abs=1e-6)  # constant in time
    assert loss(gt + offset, gt).item() == pytest.approx((0.1 + 0.3) / 2, rel=1e-5)
    for wrong in (gt[:, 0], gt[:, :1]):
        with pytest.raises(UserError, match="restores several frames"):
            loss(wrong, wrong)

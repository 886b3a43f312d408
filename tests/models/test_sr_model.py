"""The regression model: what the network sees and how losses are named."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srtoolbox.losses import L1Loss, MSELoss
from srtoolbox.models import SRModel
from srtoolbox.registry import MODEL_REGISTRY


class Nearest(nn.Module):
    num_frame, reference, scale = 1, 0, 2

    def __init__(self, named: bool = False) -> None:
        super().__init__()
        self.named, self.gain = named, nn.Parameter(torch.ones(()))

    def forward(self, lq: Tensor) -> Tensor | dict[str, Tensor]:
        sr = self.gain * lq.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return {"sr": sr, "features": lq} if self.named else sr


def batch() -> dict[str, Tensor]:
    lq = torch.rand(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    gt = lq[:, 1].repeat_interleave(2, -1).repeat_interleave(2, -2)
    return {"lq": lq, "gt": gt, "key": ["a", "b"]}


def test_it_is_registered_and_has_one_phase() -> None:
    assert MODEL_REGISTRY.get("SRModel") is SRModel
    net = Nearest()
    model = SRModel(net, {})
    assert model.phases == ("g",)
    assert model.networks == {"g": net}


def test_the_reference_frame_is_compared() -> None:
    for named in (False, True):
        exact = SRModel(Nearest(named), {"l_pix": L1Loss()}, reference=1)
        assert exact.objective("g", batch())["l_pix"].item() == 0
        other = SRModel(Nearest(named), {"l_pix": L1Loss()}, reference=0)
        assert other.objective("g", batch())["l_pix"].item() > 0


def test_losses_keep_their_names_and_gradients() -> None:
    net = Nearest()
    losses = {"l_pix": L1Loss(loss_weight=2.0), "l_sq": MSELoss()}
    values = SRModel(net, losses, reference=0).objective("g", batch())
    assert list(values) == ["l_pix", "l_sq"]
    sum(values.values()).backward()
    assert net.gain.grad is not None

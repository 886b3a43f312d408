"""A training step that is measured is a whole one, and changes nothing."""

from __future__ import annotations

import torch

from srtoolbox.archs import EDSR
from srtoolbox.engine.profiling import TrainingStep
from srtoolbox.losses import L1Loss
from srtoolbox.models import SRModel

CPU = torch.device("cpu")


def step_of(batch: int) -> tuple[EDSR, TrainingStep]:
    net = EDSR(scale=2, num_feat=8, num_block=1)
    sample = {"lq": torch.rand(batch, 1, 3, 8, 8), "gt": torch.rand(batch, 3, 16, 16), "key": []}
    return net, TrainingStep(SRModel(net, {"l_pix": L1Loss()}, 0), sample, CPU)


def test_gradients_are_computed_and_weights_stay() -> None:
    net, step = step_of(2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert step.seconds() > 0
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_memory_grows_with_the_batch_and_holds_the_gradients() -> None:
    net, small = step_of(1)
    _, large = step_of(8)
    gradients = sum(p.numel() * p.element_size() for p in net.parameters()) / 2**20
    assert gradients < small.memory() < large.memory()

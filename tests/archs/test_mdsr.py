from __future__ import annotations

import pytest
import torch

from srtoolbox.archs.mdsr import MDSR
from srtoolbox.errors import UserError
from srtoolbox.utils.meta import without_memory

SMALL = {"num_feat": 8, "num_block": 1}


@pytest.mark.parametrize(("num_block", "expected"), [(16, 3_227_203), (80, 7_953_987)])
def test_has_the_published_number_of_parameters(num_block, expected):
    """3.2 and 8.0 million in the paper; these sums follow from its description."""
    with without_memory():
        net = MDSR(num_block=num_block)
    assert sum(p.numel() for p in net.parameters()) == expected


def test_all_scales_share_one_file_of_weights():
    nets = [MDSR(scale, **SMALL).eval() for scale in MDSR.scales]
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
    lq = torch.rand(1, 3, 5, 6)
    with torch.no_grad():
        for net in nets:
            for other in nets:
                assert torch.equal(net(lq, other.scale), other(lq))


def test_mean_colour_is_not_in_the_state_dict():
    parts = {"conv_first", "pre", "body", "conv_after_body", "upsample", "conv_last"}
    assert {key.partition(".")[0] for key in MDSR(**SMALL).state_dict()} == parts


def test_one_batch_of_each_scale_reaches_every_parameter():
    net = MDSR(**SMALL)
    for scale in net.scales:
        net(torch.rand(1, 3, 6, 6), scale).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_parts_of_other_scales_are_declared_dead():
    net = MDSR(3, **SMALL)
    assert net.dead_parameters == ("pre.x2.", "pre.x4.", "upsample.x2.", "upsample.x4.")
    net(torch.rand(1, 3, 6, 6)).sum().backward()
    dead = {name for name, p in net.named_parameters() if p.grad is None}
    assert dead == {n for n, _ in net.named_parameters() if n.startswith(net.dead_parameters)}


def test_other_scale_is_refused_by_forward():
    with pytest.raises(UserError, match="MDSR: scale 8 is not available; use one of 2, 3, 4"):
        MDSR(**SMALL)(torch.rand(1, 3, 6, 6), 8)

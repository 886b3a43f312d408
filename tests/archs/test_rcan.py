from __future__ import annotations

import pytest
import torch
from torch import nn

from srtoolbox.archs.rcan import RCAN, ChannelAttentionBlock, ResidualGroup
from srtoolbox.errors import UserError
from srtoolbox.inference.halo import measure_halo
from srtoolbox.utils.meta import without_memory

SMALL = {"num_feat": 8, "num_group": 2, "num_block": 2, "squeeze_factor": 4}


@pytest.mark.parametrize(
    ("scale", "num_block", "expected"),
    [
        (2, 20, 15_444_643),
        (3, 20, 15_629_283),
        (4, 20, 15_592_355),
        (8, 20, 15_740_067),
        (2, 16, 12_467_203),
        (3, 16, 12_651_843),
        (4, 16, 12_614_915),
    ],
)
def test_has_the_published_number_of_parameters(scale, num_block, expected):
    with without_memory():
        net = RCAN(scale, num_block=num_block)
    assert sum(p.numel() for p in net.parameters()) == expected


def test_the_defaults_are_published():
    """BasicSR's constructor has 16 blocks, its option files and the paper have 20."""
    with without_memory():
        net = RCAN()
    groups = list(net.body.children())
    assert len(groups) == 10
    assert {len(group.residual_group) for group in groups} == {20}
    assert groups[0].residual_group[0].rcab[3].attention[1].weight.shape == (4, 64, 1, 1)


def test_has_the_published_names():
    keys = RCAN(**SMALL).state_dict()
    assert {key.partition(".")[0] for key in keys} == {
        "conv_first", "body", "conv_after_body", "upsample", "conv_last"
    }  # fmt: skip
    block = "body.1.residual_group.1.rcab"
    for name in ("0", "2", "3.attention.1", "3.attention.3"):
        assert f"{block}.{name}.weight" in keys
    assert "body.1.conv.bias" in keys


def test_the_attention_weighs_channels_by_their_means():
    torch.manual_seed(0)
    block, x = ChannelAttentionBlock(8, 4, 0.7), torch.randn(2, 8, 5, 6)
    first, _, second, attention = block.rcab
    feat = second(torch.relu(first(x)))
    down, up = attention.attention[1], attention.attention[3]
    weights = torch.sigmoid(up(torch.relu(down(feat.mean((2, 3), keepdim=True)))))
    torch.testing.assert_close(block(x), x + 0.7 * weights * feat)


def test_a_group_adds_its_input():
    group, x = ResidualGroup(8, 2, 4, 1.0), torch.randn(1, 8, 5, 6)
    nn.init.zeros_(group.conv.weight)
    nn.init.zeros_(group.conv.bias)
    torch.testing.assert_close(group(x), x)


def test_tiles_are_not_exact():
    torch.manual_seed(0)
    net = RCAN(2, **SMALL).eval()
    assert not measure_halo(net, 1, torch.device("cpu")).is_exact


@pytest.mark.parametrize("factor", [0, 9])
def test_an_attention_without_inner_channels_is_refused(factor):
    with pytest.raises(
        UserError, match=rf"RCAN: squeeze_factor must be from 1 .* \(8\), got {factor}"
    ):
        RCAN(num_feat=8, squeeze_factor=factor)

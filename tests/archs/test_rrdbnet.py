from __future__ import annotations

import pytest
import torch
from torch import nn

from srtoolbox.archs.rrdbnet import RRDB, RRDBNet
from srtoolbox.utils.meta import without_memory


@pytest.mark.parametrize(("scale", "expected"), [(2, 16_703_171), (4, 16_697_987)])
def test_has_the_published_number_of_parameters(scale, expected):
    with without_memory():
        net = RRDBNet(scale)
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", ["small", "default"])
def test_agrees_with_the_reference(golden, scale, size):
    expected = golden(f"rrdbnet_x{scale}_{size}")
    net = expected.load(RRDBNet(**expected.entry["config"]))
    with torch.no_grad():
        output = net(expected.arrays["input"])
    torch.testing.assert_close(output, expected.arrays["output"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("scale", "fold"), [(1, 4), (2, 2), (4, 1)])
def test_smaller_scales_fold_pixels_into_channels(scale, fold):
    net = RRDBNet(scale, num_feat=4, num_block=1, num_grow_ch=2)
    assert net.conv_first.in_channels == 3 * fold**2
    assert net.size_multiple == net.min_size == fold


def test_blocks_start_close_to_the_identity():
    x = torch.rand(1, 8, 6, 6)
    assert (RRDB(8, 4)(x) - 1.2 * x).abs().max() < 0.05
    silent = RRDB(8, 4)
    for parameter in silent.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(silent(x), 1.2 * x)

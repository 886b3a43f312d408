from __future__ import annotations

import pytest
import torch

from srtoolbox.archs.rdn import RDN
from srtoolbox.utils.meta import without_memory


@pytest.mark.parametrize(("scale", "expected"), [(2, 22_123_395), (4, 22_271_107)])
def test_has_the_published_number_of_parameters(scale, expected):
    with without_memory():
        net = RDN(scale)
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["rdn_x2_small", "rdn_x3_small", "rdn_x2_default", "rdn_x4_default"]
)
def test_agrees_with_the_reference(golden, name):
    expected = golden(name)
    config = expected.entry["config"]
    net = RDN(
        config["upscale_factor"],
        num_feat=config["mid_channels"],
        num_block=config["num_blocks"],
        num_layer=config["num_layers"],
        num_grow_ch=config["channel_growth"],
    )
    expected.load(net)
    with torch.no_grad():
        output = net(expected.arrays["input"])
    torch.testing.assert_close(output, expected.arrays["output"], rtol=0, atol=1e-4)

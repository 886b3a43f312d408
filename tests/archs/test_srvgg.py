from __future__ import annotations

import pytest
import torch
from torch import nn

from srtoolbox.archs.srvgg import SRVGGNetCompact
from srtoolbox.errors import UserError
from srtoolbox.inference.halo import measure_halo
from srtoolbox.inference.tiling import run_tiled
from srtoolbox.utils.meta import without_memory


@pytest.mark.parametrize(
    ("num_conv", "expected"),
    [
        (16, (595_459, 600_652, 609_307, 621_424)),
        (32, (1_187_331, 1_192_524, 1_201_179, 1_213_296)),
    ],
)
def test_has_the_published_number_of_parameters(num_conv, expected):
    for scale, number in zip(SRVGGNetCompact.scales, expected, strict=True):
        with without_memory():
            net = SRVGGNetCompact(scale, num_conv=num_conv)
        assert sum(p.numel() for p in net.parameters()) == number


def test_convolutions_have_even_numbers_and_activations_odd_ones():
    net = SRVGGNetCompact(num_feat=4, num_conv=2)
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert {key: shape for key, shape in shapes.items() if key.endswith("weight")} == {
        "body.0.weight": (4, 3, 3, 3),
        "body.1.weight": (4,),
        "body.2.weight": (4, 4, 3, 3),
        "body.3.weight": (4,),
        "body.4.weight": (4, 4, 3, 3),
        "body.5.weight": (4,),
        "body.6.weight": (48, 4, 3, 3),
    }
    assert net.body[1].weight.tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("act_type", "kind"), [("prelu", nn.PReLU), ("relu", nn.ReLU), ("leakyrelu", nn.LeakyReLU)]
)
def test_activations(act_type, kind):
    net = SRVGGNetCompact(num_feat=4, num_conv=1, act_type=act_type)
    assert [type(layer) for layer in list(net.body)[1::2]] == [kind, kind]
    slopes = {layer.negative_slope for layer in net.body if isinstance(layer, nn.LeakyReLU)}
    assert slopes in (set(), {0.1})


@pytest.mark.parametrize("scale", SRVGGNetCompact.scales)
def test_the_result_is_added_to_repeated_pixels(scale):
    net, lq = SRVGGNetCompact(scale, num_feat=4, num_conv=1), torch.rand(2, 3, 5, 7)
    nn.init.zeros_(net.body[-1].weight)
    nn.init.zeros_(net.body[-1].bias)
    expected = lq.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    assert torch.equal(net(lq), expected)


def test_tiles_need_a_pixel_for_each_convolution():
    torch.manual_seed(0)
    net = SRVGGNetCompact(2, num_feat=8, num_conv=3).eval()
    halo = measure_halo(net, 1, torch.device("cpu"))
    assert halo.is_exact and halo.pixels <= 5
    lq = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        torch.testing.assert_close(run_tiled(net, lq, 8, 5), net(lq))


def test_impossible_options_are_refused():
    with pytest.raises(UserError, match="act_type must be 'prelu', 'relu' or 'leakyrelu', got 'x'"):
        SRVGGNetCompact(act_type="x")
    with pytest.raises(UserError, match=r"num_out_ch is 1 but num_in_ch is 3; .* equal numbers"):
        SRVGGNetCompact(num_out_ch=1)

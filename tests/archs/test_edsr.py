from __future__ import annotations

import pytest
import torch

from srtoolbox.archs.edsr import EDSR
from srtoolbox.utils.meta import without_memory

LARGE = {"num_feat": 256, "num_block": 32, "res_scale": 0.1}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"scale": 2}, 1_369_859),
        ({"scale": 3}, 1_554_499),
        ({"scale": 4}, 1_517_571),
        ({"scale": 4, **LARGE}, 43_089_923),
    ],
)
def test_has_the_published_number_of_parameters(options, expected):
    with without_memory():
        net = EDSR(**options)
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", ["small", "default"])
def test_agrees_with_the_reference(golden, scale, size):
    check(golden(f"edsr_x{scale}_{size}"))


@pytest.mark.slow
def test_large_agrees_with_the_reference(golden):
    check(golden("edsr_x4_large_default"))


def check(expected):
    options = dict(expected.entry["config"])
    net = expected.load(EDSR(options.pop("upscale"), **options))
    with torch.no_grad():
        output = net(expected.arrays["input"])
    torch.testing.assert_close(output, expected.arrays["output"], rtol=0, atol=1e-4)


def test_mean_is_not_in_the_state_dict():
    layers = (
        "conv_first",
        "body.0.conv1",
        "body.0.conv2",
        "conv_after_body",
        "upsample.0",
        "conv_last",
    )
    keys = set(EDSR(2, num_feat=4, num_block=1).state_dict())
    assert keys == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def test_output_starts_from_the_mean_colour():
    net = EDSR(2, num_feat=4, num_block=1)
    torch.nn.init.zeros_(net.conv_last.weight)
    torch.nn.init.zeros_(net.conv_last.bias)
    output = net(torch.rand(1, 3, 5, 6))
    torch.testing.assert_close(output, net.mean.expand(1, 3, 10, 12))

from __future__ import annotations

import numpy as np
import pytest
import torch

from srtoolbox.archs.isr import ISR_RDN, ISR_RRDN, load_keras
from srtoolbox.errors import UserError
from srtoolbox.utils.meta import without_memory

SMALL_RDN = {"num_feat": 16, "num_block": 4, "num_layer": 3, "num_grow_ch": 16}
SMALL_RRDN = {"num_feat": 16, "num_block": 2, "num_layer": 4, "num_grow_ch": 16}


@pytest.mark.parametrize(
    ("arch", "options", "expected"),
    [
        (ISR_RDN, {"scale": 2}, 16_347_635),
        (ISR_RDN, {"scale": 3}, 16_352_375),
        (ISR_RDN, {"scale": 4}, 16_359_011),
        (ISR_RDN, {"scale": 2, "upscaling": "shuffle"}, 16_347_392),
        (ISR_RDN, {"scale": 2, "num_layer": 3, "num_block": 10}, 2_619_635),
        (ISR_RDN, {"scale": 4, "num_layer": 3, "num_block": 10}, 2_631_011),
        (ISR_RRDN, {}, 4_176_100),
        (ISR_RRDN, {"num_block": 4}, 1_684_900),
        (ISR_RRDN, {"scale": 2, "num_feat": 64, "num_grow_ch": 64}, 16_644_128),
    ],
)
def test_has_the_published_number_of_parameters(arch, options, expected):
    with without_memory():
        net = arch(**options)
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("rdn_ups_C3D4G16_x2", lambda: ISR_RDN(2, **SMALL_RDN)),
        ("rdn_shuffle_C3D4G16_x3", lambda: ISR_RDN(3, **SMALL_RDN, upscaling="shuffle")),
        ("rrdn_C4D3G16T2_x4", lambda: ISR_RRDN(4, **SMALL_RRDN)),
    ],
)
def test_agrees_with_the_reference(reference, name, make):
    with np.load(reference / f"goldens/isr_{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    weights = {str(key): torch.from_numpy(arrays[f"w{i}"]) for i, key in enumerate(arrays["names"])}
    lq, expected = (torch.from_numpy(arrays[key]).movedim(-1, 1) for key in ("x", "y"))
    net = make().eval()
    load_keras(net, weights)
    with torch.no_grad():  # outputs are below 0.05
        torch.testing.assert_close(net(lq), expected, rtol=0, atol=1e-6)


def test_starts_from_uniform_weights():
    net = ISR_RRDN(2, **SMALL_RRDN)
    weight = net.conv_body.weight
    assert 0.045 < weight.abs().max() <= 0.05
    assert not net.conv_body.bias.any()


def test_unknown_upscaling_is_refused():
    with pytest.raises(UserError, match="upscaling must be 'ups' or 'shuffle', got 'nearest'"):
        ISR_RDN(2, **SMALL_RDN, upscaling="nearest")


def keras_arrays(net):
    """Returns random arrays with the names and shapes of the original weights."""
    arrays = {}
    for layer, module in net.keras_layers().items():
        conv = net.get_submodule(module)
        arrays[f"model/{layer}/{layer}/kernel:0"] = conv.weight.detach().permute(2, 3, 1, 0)
        arrays[f"model/{layer}/{layer}/bias:0"] = conv.bias.detach()
    return arrays


@pytest.mark.parametrize("make", [lambda: ISR_RDN(2, **SMALL_RDN), lambda: ISR_RRDN(2)])
def test_every_parameter_has_a_name_in_keras(make):
    net = make()
    modules = list(net.keras_layers().values())
    assert len(set(modules)) == len(modules)
    assert {f"{m}.{kind}" for m in modules for kind in ("weight", "bias")} == set(net.state_dict())


def test_weights_of_another_configuration_are_refused():
    net = ISR_RDN(2, **SMALL_RDN)
    arrays = keras_arrays(net)
    load_keras(ISR_RDN(2, **SMALL_RDN), arrays)
    with pytest.raises(UserError, match="ISR_RDN: F_1_4/kernel is missing; build the network"):
        load_keras(ISR_RDN(2, **{**SMALL_RDN, "num_layer": 4}), arrays)
    with pytest.raises(UserError, match=r"GFF_1/kernel has the shape \(16, 64, 1, 1\).*instead of"):
        load_keras(ISR_RDN(2, **{**SMALL_RDN, "num_block": 3}), arrays)
    with pytest.raises(UserError, match="no layer for extra/bias"):
        load_keras(net, {**arrays, "extra/bias:0": torch.zeros(1)})

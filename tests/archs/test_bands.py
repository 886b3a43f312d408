"""Every registered network with other numbers of bands than three."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.networks import NAMES, SMALL, outputs
from torch import Tensor, nn

import srtoolbox
from srtoolbox.archs.base import arch_info, channels_text
from srtoolbox.archs.layers.bands import RGB_MEAN, mean_of_bands
from srtoolbox.config.schema import build
from srtoolbox.engine.weights.describe import describe_weights
from srtoolbox.engine.weights.guess import guess_arch
from srtoolbox.engine.weights.load import load_weights, save_weights
from srtoolbox.errors import UserError
from srtoolbox.models.frames import run_network
from srtoolbox.registry import ARCH_REGISTRY, constructor_parameters

ADDS_ITS_INPUT = (
    "BasicVSR",
    "BasicVSRPlusPlus",
    "Bicubic",
    "DSTCSRNetPlus",
    "EDVR",
    "FBANet",
    "SRVGGNetCompact",
)  # so input and output have equal numbers
every_arch = pytest.mark.parametrize("name", NAMES)


def small(name: str, seed: int = 0, **bands: int) -> nn.Module:
    torch.manual_seed(seed)
    arch = ARCH_REGISTRY.get(name)
    return arch(arch.scales[0], **SMALL.get(name, {}), **bands)


def make_lq(net: nn.Module) -> Tensor:
    info, draw = arch_info(net), torch.Generator().manual_seed(1)
    side = max(8, info.min_size)
    side += -side % info.size_multiple
    frames = () if info.num_frame == 1 else (info.num_frame or 3,)
    return torch.rand(1, *frames, info.channels, side, side, generator=draw)


def check(net: nn.Module, num_in: int, num_out: int) -> None:
    """Runs a network forward and backward."""
    info = arch_info(net)
    assert (info.channels, info.out_channels) == (num_in, num_out)
    lq = make_lq(net)
    output = run_network(net.train(), lq)  # computes the flow of networks that need it
    result = output if isinstance(output, dict) else {"sr": output}
    assert result["sr"].shape[-3] == num_out
    assert result["sr"].shape[-1] == lq.shape[-1] * net.scale
    parameters = [p for p in net.parameters() if p.requires_grad]
    if parameters:
        sum(tensor.square().mean() for tensor in result.values()).backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
        assert gradients and all(g.isfinite().all() for g in gradients)


@every_arch
@pytest.mark.parametrize("bands", [1, 4])
def test_every_number_of_bands(name: str, bands: int) -> None:
    check(small(name, num_in_ch=bands), bands, bands)


@every_arch
@pytest.mark.parametrize(("num_in", "num_out"), [(4, 1), (3, 5), (1, 3)])
def test_another_number_of_bands_in_the_output(name: str, num_in: int, num_out: int) -> None:
    bands = {"num_in_ch": num_in, "num_out_ch": num_out}
    if name in ADDS_ITS_INPUT:
        words = f"{name}: num_out_ch is {num_out} but num_in_ch is {num_in}; .* equal numbers"
        with pytest.raises(UserError, match=words):
            small(name, **bands)
    else:
        check(small(name, **bands), num_in, num_out)


@every_arch
def test_the_number_of_bands_comes_last_and_is_three_by_default(name: str) -> None:
    *_, inputs, outs = constructor_parameters(ARCH_REGISTRY.get(name)).values()
    assert (inputs.name, outs.name, outs.default) == ("num_in_ch", "num_out_ch", None)
    assert inputs.default in (3, None)
    default, three = small(name), small(name, num_in_ch=3, num_out_ch=3)
    assert arch_info(default).channels == arch_info(default).out_channels == 3
    states = [net.state_dict() for net in (default, three)]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@every_arch
def test_there_is_at_least_one_band(name: str) -> None:
    with pytest.raises(UserError, match="num_in_ch must be at least 1, got 0"):
        small(name, num_in_ch=0)


@pytest.mark.parametrize("name", ["DSRNet", "EDSR", "MDSR", "RCAN"])
def test_only_three_bands_have_a_mean_colour(name: str) -> None:
    net = small(name, num_in_ch=4)
    assert not [key for key in net.state_dict() if "mean" in key]
    for buffer in net.buffers():
        assert not buffer.any()
    with torch.no_grad():  # without weights the output is the mean
        for bands in (3, 4):
            net = small(name, num_in_ch=bands)
            for key, parameter in net.named_parameters():
                if "shifter" not in key:
                    parameter.zero_()
            sr = outputs(net.eval(), make_lq(net))["sr"].mean((0, 2, 3))
            expected = torch.tensor(RGB_MEAN) if bands == 3 else torch.zeros(4)
            torch.testing.assert_close(sr, expected)


def test_the_mean_of_other_numbers_of_bands_is_zero() -> None:
    assert mean_of_bands(3).flatten().tolist() == pytest.approx(RGB_MEAN)
    assert torch.equal(mean_of_bands(5), torch.zeros(1, 5, 1, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("Bicubic", "TwoStage")])
def test_weights_of_four_bands(name: str, tmp_path: Path) -> None:
    net, path = small(name, num_in_ch=4).eval(), tmp_path / "net.pth"
    arch = {"type": name, "scale": net.scale, **SMALL.get(name, {}), "num_in_ch": 4}
    save_weights(path, arch, net)
    loaded, found = srtoolbox.load(path)
    assert found["num_in_ch"] == arch_info(loaded).channels == 4
    lq = make_lq(net)
    with torch.no_grad():
        assert torch.equal(outputs(net, lq)["sr"], outputs(loaded, lq)["sr"])
    with pytest.raises(UserError, match=r"net\.pth: does not fit") as caught:
        load_weights(small(name), path)
    assert "instead of" in str(caught.value) and "\n" not in str(caught.value)
    lines = describe_weights(path)
    assert any(line.endswith("channels: 4") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        {"type": "EDSR", "scale": 3, "num_feat": 48, "num_block": 9, "num_in_ch": 4},
        {
            "type": "EDSR",
            "scale": 2,
            "num_feat": 8,
            "num_block": 2,
            "num_in_ch": 3,
            "num_out_ch": 1,
        },
        {"type": "DSRNet", "scale": 2, "num_feat": 16, "num_in_ch": 1},
        {"type": "RRDBNet", "scale": 2, "num_feat": 8, "num_block": 2},
        {"type": "RRDBNet", "scale": 4, "num_feat": 8, "num_block": 2, "num_in_ch": 13},
        {"type": "RRDBNet", "scale": 2, "num_feat": 8, "num_block": 2, "num_in_ch": 4},
        {"type": "TDAN", "scale": 4, "num_feat": 16, "num_in_ch": 8, "num_out_ch": 3},
        {"type": "EDVR", "scale": 4, "num_feat": 16, "num_in_ch": 4},
        {"type": "UpConv7", "scale": 2, "num_in_ch": 1},
        {"type": "DSTCSRNet", "scale": 8, "num_feat": 16, "num_in_ch": 4, "num_out_ch": 1},
    ],
    ids=str,
)
def test_the_number_of_bands_is_found_by_the_shapes(spec: dict) -> None:
    state = build("arch", spec).state_dict()
    assert guess_arch({f"module.{key}": value for key, value in state.items()}) == spec


def test_channels_in_words() -> None:
    assert channels_text(small("EDSR")) == "3"
    assert channels_text(small("EDSR", num_in_ch=4, num_out_ch=1)) == "4 in, 1 out"
    plug_in = type("Mine", (nn.Module,), {"scales": (2,), "channels": 4})
    assert channels_text(plug_in()) == "4"


def test_two_stages_share_their_number_of_bands() -> None:
    network = {"type": "EDSR", "num_feat": 4, "num_block": 1}
    build_two = ARCH_REGISTRY.get("TwoStage")
    for options in ({"network": {**network, "num_in_ch": 5}}, {"network": network, "num_in_ch": 5}):
        info = arch_info(build_two(2, **options))
        assert (info.channels, info.out_channels) == (5, 5)
    with pytest.raises(UserError, match="its network maps 5 bands to 5; set them in network only"):
        build_two(2, {**network, "num_in_ch": 5}, num_in_ch=4)

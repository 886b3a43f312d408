from __future__ import annotations

import pytest
import torch
from support.networks import SMALL

from srtoolbox.config.schema import build
from srtoolbox.engine.weights.convert import convert
from srtoolbox.engine.weights.describe import describe_weights
from srtoolbox.engine.weights.guess import guess_arch, read_options
from srtoolbox.engine.weights.load import load
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY
from srtoolbox.upscaling.networks import load_network


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "EDSR", "scale": 3, "num_feat": 48, "num_block": 9},
        {"type": "DSRNet", "scale": 2, "num_feat": 16},
        {"type": "RRDBNet", "scale": 4, "num_feat": 8, "num_block": 2},
        {"type": "TDAN", "scale": 4, "num_feat": 16},
        {"type": "Burstormer", "scale": 4, "num_feat": 16, "fusion": "real"},
        {"type": "FBANet", "scale": 4, "num_feat": 16},
    ],
    ids=lambda spec: spec["type"],
)
def test_options_that_shapes_show_are_found(spec):
    state = build("arch", spec).state_dict()
    assert guess_arch({f"module.{key}": value for key, value in state.items()}) == spec


RCAN = {"num_feat": 12, "num_group": 2, "num_block": 3, "squeeze_factor": 4}
SRVGG = {"num_feat": 8, "num_conv": 3}
SWINIR = {
    "img_size": 16,
    "embed_dim": 12,
    "depths": [2, 3],
    "num_heads": [2, 3],
    "window_size": 4,
    "mlp_ratio": 4.0,
    "resi_connection": "1conv",
    "upsampler": "pixelshuffle",
}


@pytest.mark.parametrize(
    "spec",
    [
        *({"type": "RCAN", "scale": scale, **RCAN} for scale in (2, 3, 4, 8)),
        {"type": "RCAN", "scale": 2, **RCAN, "num_in_ch": 4, "num_out_ch": 3},
        *({"type": "SRVGGNetCompact", "scale": scale, **SRVGG} for scale in (1, 2, 3, 4)),
        {"type": "SRVGGNetCompact", "scale": 2, **SRVGG, "num_in_ch": 4},
        *({"type": "SwinIR", "scale": scale, **SWINIR} for scale in (2, 3, 4, 8)),
        {"type": "SwinIR", "scale": 3, **SWINIR, "upsampler": "pixelshuffledirect"},
        {"type": "SwinIR", "scale": 4, **SWINIR, "upsampler": "nearest+conv", "num_in_ch": 1},
        {"type": "SwinIR", "scale": 2, **SWINIR, "resi_connection": "3conv", "img_size": 4},
        {"type": "SwinIR", "scale": 2, **SWINIR, "num_in_ch": 3, "num_out_ch": 1},
        {
            "type": "SwinIR",
            "scale": 2,
            **SWINIR,
            "upsampler": "pixelshuffledirect",
            "num_in_ch": 5,
        },
    ],
    ids=lambda spec: f"{spec['type']}_x{spec['scale']}",
)
def test_some_archs_read_all_options_from_their_tensors(spec, tmp_path):
    state = build("arch", spec).state_dict()
    assert guess_arch(state) == read_options(state) == spec
    torch.save({"params": {f"module.{key}": v for key, v in state.items()}}, tmp_path / "net.pth")
    net, arch = load(tmp_path / "net.pth")
    assert arch == spec
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


DIRECT = {"type": "SwinIR", **SWINIR, "upsampler": "pixelshuffledirect"}


@pytest.mark.parametrize(
    ("scale", "bands"),
    [
        (2, {"num_in_ch": 1}),
        (2, {"num_in_ch": 1, "num_out_ch": 3}),
        (2, {"num_in_ch": 3, "num_out_ch": 1}),
        (4, {"num_in_ch": 5, "num_out_ch": 3}),
        (8, {}),
    ],
)
def test_scale_and_bands_of_one_convolution(scale, bands):
    spec = {**DIRECT, "scale": scale, **bands}
    assert read_options(build("arch", spec).state_dict()) == spec


@pytest.mark.parametrize(
    ("spec", "other"),
    [
        ({"scale": 4, "num_in_ch": 1}, {"scale": 2, "num_in_ch": 1, "num_out_ch": 4}),
        ({"scale": 2, "num_in_ch": 4}, {"scale": 4, "num_in_ch": 4, "num_out_ch": 1}),
    ],
)
def test_scales_with_the_same_tensors_are_not_chosen_silently(spec, other, tmp_path):
    spec, other = {**DIRECT, **spec}, {**DIRECT, **other}
    path = tmp_path / "net.pth"
    net = build("arch", spec)
    torch.save({"params": net.state_dict()}, path)
    words = r"net\.pth: its tensors fit SwinIR with scale 2, num_in_ch \d.* or scale 4, num_in_ch"
    for read in (load, describe_weights, load_network):
        with pytest.raises(UserError, match=words):
            read(path)
    for chosen in (spec, other):
        given = [f"scale={chosen['scale']}"]
        assert (
            load_network(path, overrides=given).out_channels == build("arch", chosen).out_channels
        )
        convert(path, tmp_path / "out.safetensors", overrides=given)
        assert load(tmp_path / "out.safetensors")[1] == chosen


def test_an_own_arch_with_similar_names_changes_nothing(monkeypatch):
    class Plain(torch.nn.Module):
        scales = (4,)

        def __init__(self, scale: int = 4) -> None:
            super().__init__()
            self.scale = scale
            self.body = torch.nn.Sequential(*(torch.nn.Conv2d(3, 3, 3) for _ in range(4)))

    monkeypatch.setattr(ARCH_REGISTRY, "_entries", {**ARCH_REGISTRY._entries, "ZPlain": Plain})
    spec = {"type": "SRVGGNetCompact", "scale": 2, **SRVGG}
    assert guess_arch(build("arch", spec).state_dict()) == spec


def test_what_tensors_do_not_decide_is_not_read():
    for act_type in ("relu", "leakyrelu"):
        spec = {"type": "SRVGGNetCompact", **SRVGG, "act_type": act_type}
        assert guess_arch(build("arch", spec).state_dict()) is None
    assert read_options(build("arch", {"type": "EDSR"}).state_dict()) is None


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), (0,), (0, 0, 0, 0), (3, 3)])
def test_tensors_of_other_shapes_under_the_same_names(shape):
    for spec in (
        {"type": "RCAN", **RCAN},
        {"type": "SRVGGNetCompact", **SRVGG},
        {"type": "SwinIR", **SWINIR},
        {"type": "SwinIR", **SWINIR, "upsampler": "pixelshuffledirect"},
    ):
        state = build("arch", spec).state_dict()
        for end in ("first.weight", "body.0.weight", "fc1.bias", "bias_table", "_mask"):
            key = next((key for key in state if key.endswith(end)), None)
            if key is not None:
                assert guess_arch({**state, key: torch.zeros(shape)}) is None
        assert guess_arch(dict.fromkeys(state, torch.zeros(shape))) is None


def test_another_number_of_tensors_is_no_match():
    state = build("arch", {"type": "EDSR", "scale": 2, "num_feat": 8, "num_block": 2}).state_dict()
    assert guess_arch({**state, "extra.weight": torch.zeros(2)}) is None
    del state["conv_last.bias"]
    assert guess_arch(state) is None


def test_options_that_shapes_do_not_show_are_not_invented():
    spec = {"type": "TDAN", **SMALL["TDAN"], "scale": 4}
    assert guess_arch(build("arch", spec).state_dict()) is None


def test_names_of_nothing():
    assert guess_arch({"a": torch.zeros(3)}) is None

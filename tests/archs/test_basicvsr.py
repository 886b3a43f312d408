"""SpyNet, BasicVSR and BasicVSR++ agree with outputs of the published code, and their traps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.goldens import hash_of_names, load_golden, set_weights_by_rules
from torch import Tensor, nn

from srtoolbox.archs import basicvsrpp
from srtoolbox.archs.basicvsr import BasicVSR
from srtoolbox.archs.basicvsrpp import BasicVSRPlusPlus
from srtoolbox.archs.layers.deform import offset_magnitudes, reference_path
from srtoolbox.archs.layers.video import spynet as spynet_module
from srtoolbox.archs.layers.video.spynet import SpyNet, as_rgb
from srtoolbox.bench.straightforward import straightforward
from srtoolbox.engine.profiling import peak_memory
from srtoolbox.engine.weights.load import load_weights
from srtoolbox.errors import UserError
from srtoolbox.utils.meta import without_memory

OPTIONS = {  # names of options in the published code
    "mid_channels": "num_feat",
    "num_blocks": "num_block",
    "max_residue_magnitude": "max_residue",
}
SMALL: dict[str, Any] = {"num_feat": 8, "num_block": 1, "num_flow_level": 3, "num_flow_feat": 4}
SMALL_PP: dict[str, Any] = {**SMALL, "num_extract_block": 1, "num_reconstruct_block": 1}


def load(reference: Path, name: str) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Returns the description, the input and the output of a reference network."""
    entry, arrays = load_golden(reference, "video", name)
    made = np.random.RandomState(entry["seed"] + 7).rand(*entry["input_shape"])
    return entry, torch.from_numpy(made.astype(np.float32)), arrays["output"]


def build(entry: dict[str, Any]) -> nn.Module:
    """Builds a reference network with its weights, which follow from their names."""
    options = {OPTIONS.get(key, key): value for key, value in entry["config"].items()}
    if not options.pop("is_low_res_input", True):
        options["scale"] = 1
    arch = {"spynet": SpyNet, "basicvsr": BasicVSR, "basicvsrpp": BasicVSRPlusPlus}[entry["kind"]]
    return set_weights_by_rules(arch(**options), entry)


@torch.no_grad()
def run(net: nn.Module, entry: dict[str, Any], lq: Tensor) -> Tensor:
    """Runs a network as the reference was run."""
    if entry["kind"] == "spynet":
        return net(lq[0], lq[1])
    if entry["protocol"] is None:
        return net(lq)
    output = net(torch.cat([lq, lq.flip(1)], 1))
    if entry["protocol"] == "mirror":
        return output
    assert entry["protocol"] == "flip_seq"
    first, second = output.chunk(2, 1)
    return (first + second.flip(1)) / 2


def number_of_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "spynet_70x40",
        "basicvsr_small",
        "basicvsr_small_1frame",
        "basicvsr_small_flipseq",
        pytest.param("basicvsr_default", marks=pytest.mark.slow),
        "basicvsrpp_small",
        "basicvsrpp_small_1frame",
        "basicvsrpp_small_mirror",
        "basicvsrpp_samesize_small",
        pytest.param("basicvsrpp_default", marks=pytest.mark.slow),
    ],
)
def test_agrees_with_the_published_code(reference: Path, name: str) -> None:
    entry, lq, expected = load(reference, name)
    net = build(entry)
    assert number_of_parameters(net) == entry["params"]
    assert hash_of_names(net) == entry["state_dict_hash"]
    output = run(net, entry, lq)
    assert list(output.shape) == entry["output"]["full_shape"]
    step = entry["output"]["stride"]
    tolerance = 2e-4 if entry["kind"] == "spynet" else 1e-4
    torch.testing.assert_close(output[..., ::step, ::step], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("build_net", "expected"),
    [
        (SpyNet, 1_440_300),
        (BasicVSR, 6_291_311),
        (lambda: BasicVSR(num_block=15), 4_075_631),
        (BasicVSRPlusPlus, 7_322_927),
        (lambda: BasicVSRPlusPlus(1), 7_396_783),
        (lambda: BasicVSRPlusPlus(num_feat=128, num_block=25), 43_780_463),
    ],
)
def test_has_the_published_number_of_parameters(build_net: Any, expected: int) -> None:
    with without_memory():
        assert number_of_parameters(build_net()) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["basicvsr_small", "basicvsrpp_small", "basicvsrpp_samesize_small"]
)
def test_the_usual_form_has_the_same_output(reference: Path, name: str) -> None:
    entry, lq, _ = load(reference, name)
    net = build(entry)
    lq = lq[:, :3]
    with torch.no_grad(), reference_path():
        expected = straightforward(net)(lq)
    with torch.no_grad():
        torch.testing.assert_close(net(lq), expected, rtol=0, atol=3e-5)


def test_the_usual_form_has_the_same_gradients() -> None:
    # A position on the border of two pixels has two gradients; with these weights there is none.
    torch.manual_seed(1)
    net = noisy(BasicVSRPlusPlus(**SMALL_PP)).double()
    lq = clip(3, 16, 20).double()
    gradients = []
    for form in (net, straightforward(net)):
        net.zero_grad()
        form(lq).square().mean().backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    for ours, usual in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, usual, rtol=1e-5, atol=1e-7)


def clip(frames: int, height: int, width: int, bands: int = 3, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(1, frames, bands, height, width, generator=draw)


def noisy(net: nn.Module) -> nn.Module:
    """Adds noise to all weights, so that no layer is zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return net


# The published SpyNet fails below 33 pixels, and the published BasicVSR++ asks for 64.
@pytest.mark.parametrize("size", [(1, 1), (16, 32), (32, 70), (33, 33)])
@pytest.mark.parametrize("arch", [BasicVSR, BasicVSRPlusPlus])
def test_small_frames_need_no_padding(arch: Any, size: tuple[int, int]) -> None:
    options = {"num_feat": 8, "num_block": 1, "num_hr_feat": 8, "num_flow_feat": 4}
    net = noisy(arch(**options)).eval()
    assert (net.size_multiple, net.min_size) == (1, 1) if arch is BasicVSRPlusPlus else True
    with torch.no_grad():
        sr = net(clip(2, *size))
    assert sr.shape == (1, 2, 3, 4 * size[0], 4 * size[1])
    assert sr.isfinite().all()


@pytest.mark.parametrize("size", [(40, 33), (31, 65), (96, 64), (34, 129)])
def test_odd_levels_of_the_pyramid(size: tuple[int, int]) -> None:
    net = SpyNet(6, 4)
    one, other = clip(2, *size)[0].split(1)
    with torch.no_grad():
        assert net(one, other).shape == (1, 2, *size)


def test_flow_points_from_the_first_image_to_the_second() -> None:
    net = SpyNet(1, 2)
    seen: list[Tensor] = []
    net.basic_module[0].basic_module.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    one, other = clip(2, 8, 8)[0].split(1)
    with torch.no_grad():
        flow = net(one, other)
    mean, std = net.mean, net.std
    torch.testing.assert_close(seen[0][:, :3], (one - mean) / std)
    torch.testing.assert_close(seen[0][:, 3:6], (other - mean) / std)
    assert not seen[0][:, 6:].any()
    assert flow.shape == (1, 2, 8, 8)


def test_pairs_of_a_long_clip_are_processed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    net, lq = noisy(SpyNet(3, 4)), clip(6, 20, 12)
    with torch.no_grad():
        whole = net.between_neighbours(lq)
        monkeypatch.setattr(spynet_module, "PAIR_PIXELS", {"cpu": 500, "cuda": 1})
        parts = net.between_neighbours(lq)
        one = net(lq[:, 2], lq[:, 3]), net(lq[:, 3], lq[:, 2])
    for flow, same, single in zip(whole, parts, one, strict=True):
        torch.testing.assert_close(flow, same, rtol=0, atol=1e-5)
        torch.testing.assert_close(flow[:, 2], single, rtol=0, atol=1e-5)


def test_one_frame_has_no_flow() -> None:
    to_next, to_previous = SpyNet(2, 4).between_neighbours(clip(1, 5, 7))
    assert to_next.shape == to_previous.shape == (1, 0, 2, 5, 7)


# The published BasicVSR++ keeps a flag once it has seen a clip with its reversal.
@pytest.mark.parametrize("arch", [BasicVSR, BasicVSRPlusPlus])
def test_a_clip_and_its_reversal_change_nothing_for_the_next_clip(arch: Any) -> None:
    options = SMALL_PP if arch is BasicVSRPlusPlus else SMALL
    net = noisy(arch(**options)).eval()
    lq, half = clip(4, 12, 12), clip(2, 12, 12, seed=1)
    with torch.no_grad():
        before = net(lq)
        net(torch.cat([half, half.flip(1)], 1))
        assert torch.equal(net(lq), before)


def test_the_two_directions_of_a_mirrored_clip_have_the_same_flows() -> None:
    net, half = noisy(SpyNet(3, 4)), clip(3, 12, 16)
    with torch.no_grad():
        to_next, to_previous = net.between_neighbours(torch.cat([half, half.flip(1)], 1))
    torch.testing.assert_close(to_previous, to_next.flip(1))


def test_every_pass_sees_the_whole_clip() -> None:
    net = noisy(BasicVSRPlusPlus(**SMALL_PP)).eval()
    lq = clip(5, 12, 12)
    for changed in (0, 4):
        other = lq.clone()
        other[:, changed] += 0.1
        with torch.no_grad():
            difference = (net(other) - net(lq)).abs().amax((0, 2, 3, 4))
        assert (difference > 1e-6).all()


def test_alignment_starts_with_the_flow_and_half_of_the_mask() -> None:
    net = BasicVSRPlusPlus(**SMALL_PP)
    with offset_magnitudes(net) as magnitudes, torch.no_grad():
        net(clip(3, 16, 16))
        assert set(magnitudes) == {f"deform_align.{branch}" for branch in net.deform_align}
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            if key.startswith("spynet"):
                parameter.zero_()
    with offset_magnitudes(net) as magnitudes, torch.no_grad():
        net(clip(3, 16, 16))
    assert all(value == 0 for value in magnitudes.values())


def test_weights_of_spynet_alone_start_a_training(tmp_path: Path) -> None:
    spynet, net = noisy(SpyNet(2, 4)), BasicVSR(**{**SMALL, "num_flow_level": 2})
    trunk, path = net.upconv1.weight.clone(), tmp_path / "spynet.pth"
    for prefix in ("", "module."):
        state = {f"{prefix}{name}": value for name, value in spynet.state_dict().items()}
        torch.save({"params": state}, path)
        with pytest.raises(UserError, match="does not fit BasicVSR"):
            load_weights(net, path)
        line = load_weights(net, path, strict=False)
        assert f"{len(state)} of {len(net.state_dict())} tensors loaded" in line
        for name, value in spynet.state_dict().items():
            assert torch.equal(net.spynet.state_dict()[name], value)
        net.spynet.load_state_dict(SpyNet(2, 4).state_dict())
    assert torch.equal(net.upconv1.weight, trunk)
    torch.save(net.state_dict(), path)
    assert "loaded" in load_weights(BasicVSR(**{**SMALL, "num_flow_level": 2}), path)


def test_flow_of_other_bands_is_that_of_their_mean() -> None:
    lq = clip(2, 6, 6, bands=5)
    torch.testing.assert_close(as_rgb(lq), lq.mean(2, keepdim=True).repeat(1, 1, 3, 1, 1))
    rgb = clip(2, 6, 6)
    assert as_rgb(rgb) is rgb


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deformable_groups": 3}, "deformable_groups must be even, got 3"),
        ({"deformable_groups": 10}, r"deformable_groups \(10\) must divide the features \(128\)"),
        ({"num_flow_feat": 5}, "features even and at least 2, got 6 and 5"),
        ({"num_out_ch": 1}, "equal numbers"),
        ({"scale": 2}, "scale 2 is not available; use one of 1, 4"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BasicVSRPlusPlus(**options)


@pytest.mark.parametrize("size", [1, 100_000, 2**26])
def test_blocks_of_memory_change_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, lq = noisy(BasicVSRPlusPlus(**SMALL_PP)).eval(), clip(5, 9, 7)
    expected = net(lq)  # with gradients, blocks are not used
    monkeypatch.setattr(basicvsrpp, "_BLOCK_SIZE", size)
    with torch.no_grad():
        assert torch.equal(net(lq), expected)


@pytest.mark.slow
def test_memory_grows_by_four_maps_of_features_per_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 64 features a frame of 160×160 needs 25 MiB, so 100 frames fit into 4 GB."""
    monkeypatch.setattr(basicvsrpp, "_BLOCK_SIZE", 2**17)  # of four maps, as few as of a large clip
    net = BasicVSRPlusPlus(**{**SMALL_PP, "num_feat": 64}).eval()

    def memory(frames: int) -> float:
        lq = clip(frames, 12, 12)
        with torch.no_grad():
            return peak_memory(lambda: net(lq), torch.device("cpu"))

    map_of_features = net.num_feat * 12 * 12 * 4 / 2**20
    assert (memory(20) - memory(10)) / 10 < 4.5 * map_of_features

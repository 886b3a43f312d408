from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.archs import burstormer
from srtoolbox.archs.burstormer import Burstormer, RolledPairFusion, burst_pool
from srtoolbox.archs.layers.restormer import TransposedAttention
from srtoolbox.errors import UserError
from srtoolbox.utils.meta import without_memory

RAW = {"scale": 8, "num_in_ch": 4, "num_out_ch": 3}


def tiny(seed: int = 0, **options) -> Burstormer:
    """Returns a small network in which every weight has an influence."""
    torch.manual_seed(seed)
    net = Burstormer(**{"num_feat": 8, **options}).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return net


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (RAW, 2_488_386),
        ({**RAW, "fusion": "real"}, 3_263_778),
        ({}, 2_478_738),
    ],
)
def test_has_the_published_number_of_parameters(options, expected):
    with without_memory():
        net = Burstormer(**options)
    assert sum(p.numel() for p in net.parameters()) == expected


def test_the_pool_averages_neighbouring_channels_instead_of_frames():
    x = torch.randn(2, 14, 6, 3, 4)
    pooled = burst_pool(x)
    assert pooled.shape == (2, 8, 6, 3, 4)
    assert torch.equal(pooled[:, 0], x[:, 0])
    for frame in range(7):  # its first half comes from one frame, its second half from the next
        for half in (0, 1):
            pairs = x[:, 2 * frame + half].unflatten(1, (3, 2)).mean(2)
            torch.testing.assert_close(pooled[:, 1 + frame, 3 * half : 3 * half + 3], pairs)


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 9, 15])
def test_the_pool_takes_any_number_of_frames(monkeypatch, frames):
    x = torch.randn(2, frames, 8, 3, 5, dtype=torch.float64)
    pooled = burst_pool(x)
    assert pooled.shape == (2, 8, 8, 3, 5)
    given, wanted = frames * 8, 7 * 8
    channels = x.flatten(1, 2)
    for number in (0, 17, wanted - 1):
        part = slice(number * given // wanted, -(-(number + 1) * given // wanted))
        expected = channels[:, part].mean(1)
        torch.testing.assert_close(pooled[:, 1:].flatten(1, 2)[:, number], expected)
    monkeypatch.setattr(burstormer, "is_exporting", lambda: True)
    torch.testing.assert_close(burst_pool(x), pooled)


def test_eight_frames_are_pooled_too():
    x = torch.randn(1, 8, 8, 2, 2)
    assert not torch.allclose(burst_pool(x)[:, 1:], x[:, 1:])


def test_the_first_frame_is_not_moved():
    net = tiny()
    layer = net.align.alignment0
    seen: list[Tensor] = []
    layer.back_projection.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 3, 8, 8, 8)
    with torch.no_grad():
        _, motion = layer(x, torch.randn(4, 8, 8, 8))
    assert torch.equal(seen[0][:, 0], x[:, 0])
    assert (seen[0][:, 1:] - x[:, 1:]).abs().mean() > 0.01
    assert motion is not None and motion.shape == (4, 8, 8, 8)


def test_displacements_double_with_the_size_but_not_at_the_end():
    net, seen = tiny(), {}
    for name in ("alignment2", "alignment1", "alignment0", "cascade_alignment"):

        def keep(module, inputs, output, name=name):
            seen[name] = (inputs[1] if len(inputs) > 1 else None, output[1])

        net.align.get_submodule(name).register_forward_hook(keep)
    with torch.no_grad():
        net(torch.rand(1, 3, 3, 8, 8))
        align = net.align
        for name, before, up in (
            ("alignment1", "alignment2", align.offset_up2),
            ("alignment0", "alignment1", align.offset_up1),
        ):
            torch.testing.assert_close(seen[name][0], 2 * up(seen[before][1]))
    assert seen["alignment2"][0] is None
    assert seen["cascade_alignment"][0] is seen["alignment0"][1]


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_across_the_channels_of_a_head(heads):
    torch.manual_seed(0)
    layer, x = TransposedAttention(8, heads).double(), torch.randn(2, 8, 5, 6).double()
    nn.init.normal_(layer.temperature)
    query, key = layer.qk_dwconv(layer.qk(x)).flatten(2).split(8, 1)
    value = layer.v_dwconv(layer.v(x)).flatten(2)
    size, attended = 8 // heads, []
    for head in range(heads):
        q, k, v = (t[:, head * size : (head + 1) * size] for t in (query, key, value))
        q, k = (t / t.norm(dim=2, keepdim=True) for t in (q, k))
        weights = (q @ k.transpose(1, 2) * layer.temperature[head]).softmax(2)
        assert weights.shape == (2, size, size)
        attended.append(weights @ v)
    expected = layer.project_out(torch.cat(attended, 1).view_as(x))
    torch.testing.assert_close(layer(x), expected)
    with pytest.raises(UserError, match=r"num_head \(3\) must divide the features \(8\)"):
        TransposedAttention(8, 3)


def test_a_map_of_zeros_has_a_finite_gradient():
    layer = TransposedAttention(8, 1)
    x = torch.zeros(1, 8, 4, 4, requires_grad=True)
    layer(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_real_bursts_are_fused_in_two_sets_of_pairs():
    torch.manual_seed(0)
    layer, x = RolledPairFusion(4), torch.randn(2, 8, 4, 3, 3)
    seen: list[Tensor] = []
    layer.encoder1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert layer(x).shape == (2, 32, 3, 3)
    pairs = [(0, 1), (2, 3), (4, 5), (6, 7), (7, 0), (1, 2), (3, 4), (5, 6)]
    expected = [torch.cat((burst[a], burst[b])) for burst in x for a, b in pairs]
    assert torch.equal(seen[0], torch.stack(expected))


@pytest.mark.parametrize("fusion", ["synthetic", "real"])
@pytest.mark.parametrize("frames", [1, 5])
def test_bursts_of_a_batch_do_not_mix(fusion, frames):
    net = tiny(fusion=fusion).double()
    lq = torch.rand(3, frames, 3, 8, 12, dtype=torch.float64)
    with torch.no_grad():
        each = torch.cat([net(burst[None]) for burst in lq])
        torch.testing.assert_close(net(lq), each, rtol=0, atol=1e-11)


def test_inference_in_parts_of_few_images_gives_the_same(monkeypatch):
    from srtoolbox.archs.layers import restormer

    net, lq = tiny().double(), torch.rand(1, 5, 3, 8, 8, dtype=torch.float64)
    expected = net(lq)
    for limit in (1, 3 * 42 * 64, 2**20):
        monkeypatch.setitem(restormer._INFERENCE_VALUES, "cpu", limit)
        with torch.no_grad():
            torch.testing.assert_close(net(lq), expected, rtol=0, atol=1e-11)


def test_skip_adds_the_enlarged_first_frame():
    net, lq = tiny(skip=True), torch.rand(1, 3, 3, 8, 8)
    with torch.no_grad():
        with_skip = net(lq)
        net.skip = False
        enlarged = nn.functional.interpolate(lq[:, 0], scale_factor=4, mode="bilinear")
        torch.testing.assert_close(with_skip, net(lq) + enlarged)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_feat": 12}, r"even and a multiple of deformable_groups \(8\), got 12"),
        ({"num_feat": 9, "deformable_groups": 3}, "num_feat must be even"),
        ({"fusion": "both"}, "fusion must be 'synthetic' or 'real', got 'both'"),
        ({"skip": True, "num_in_ch": 4, "num_out_ch": 3}, "needs equal numbers"),
    ],
)
def test_other_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Burstormer(**options)

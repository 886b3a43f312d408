from __future__ import annotations

import pytest
import torch
from support.networks import SMALL
from torch import Tensor, nn

from srtoolbox.archs.bipnet import BIPNet, GlobalContext, GroupFusion
from srtoolbox.errors import UserError
from srtoolbox.models.frames import arrange_frames
from srtoolbox.utils.meta import without_memory

RAW = {"scale": 8, "num_in_ch": 4, "num_out_ch": 3}


def tiny(seed: int = 0, **options) -> BIPNet:
    """Returns a small network in which every weight has an influence."""
    torch.manual_seed(seed)
    net = BIPNet(**{**SMALL["BIPNet"], **options}).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return net


@pytest.mark.parametrize(("options", "expected"), [(RAW, 6_674_400), ({}, 6_673_824)])
def test_has_the_published_number_of_parameters(options, expected):
    with without_memory():
        net = BIPNet(**options)
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize(("scale", "strides"), [(2, [1, 1, 2]), (4, [1, 2, 2]), (8, [2, 2, 2])])
def test_the_last_steps_double_the_size(scale, strides):
    net = tiny(scale=scale)
    steps = [net.get_submodule(f"SKFF{number}") for number in (1, 2, 3)]
    assert [step.up.stride[0] for step in steps] == strides
    assert net(torch.rand(1, 3, 3, 4, 8)).shape == (1, 3, 4 * scale, 8 * scale)


def test_steps_merge_neighbouring_maps():
    torch.manual_seed(0)
    layer, x = GroupFusion(8, 4, 2), torch.randn(16, 8, 3, 5)
    out = layer(x)
    assert out.shape == (4, 8, 6, 10)
    for group in range(4):
        torch.testing.assert_close(layer(x[4 * group : 4 * group + 4]), out[group : group + 1])


def test_steps_weigh_the_maps_of_a_group_for_each_pixel_and_channel():
    torch.manual_seed(0)
    layer, x = GroupFusion(8, 4, 1), torch.randn(4, 8, 3, 5)
    seen: list[Tensor] = []
    layer.up.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    layer(x)
    shared = layer.conv_du(x.sum(0, keepdim=True))
    weights = torch.stack([conv(shared) for conv in layer.convs]).softmax(0)[:, 0]
    torch.testing.assert_close(seen[0].view(4, 8, 3, 5), weights * x)


def test_the_third_deformable_layer_moves_the_frames_and_the_first_frame_is_moved_too():
    net, moved = tiny(), {}
    for number in range(1, 5):
        layer = net.get_submodule(f"deform{number}")
        layer.register_forward_pre_hook(
            lambda module, inputs, number=number: moved.update({number: inputs[0]})
        )
    encoded: list[Tensor] = []
    net.encoder.register_forward_hook(lambda module, inputs, output: encoded.append(output))
    with torch.no_grad():
        net(torch.rand(1, 3, 3, 8, 8))
    assert torch.equal(moved[3], encoded[0])
    for number in (1, 2, 4):
        assert not torch.allclose(moved[number], encoded[0])
    assert all(len(frames) == 3 for frames in moved.values())  # the first one included


def test_the_difference_is_that_to_the_first_frame_before_the_encoder():
    net, seen = tiny(), {}
    for name in ("conv1", "feat_ext1", "cor_conv1"):
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
    with torch.no_grad():
        net(torch.rand(1, 3, 3, 8, 8))
    expected = seen["feat_ext1"][1] - seen["conv1"][1][:1]
    torch.testing.assert_close(seen["cor_conv1"][0], expected)


def test_channels_become_the_batch_of_the_pseudo_bursts():
    net, seen = tiny(), {}
    for name in ("cor_conv1", "feat_ext1", "conv2"):
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
    with torch.no_grad():
        net(torch.rand(2, 3, 3, 8, 8))
    feat = seen["feat_ext1"][1] + seen["cor_conv1"][1]  # (2·3, 8, 8, 8)
    maps = seen["conv2"][0]
    assert maps.shape == (16, 3, 8, 8)
    for burst, channel, frame in ((0, 0, 0), (0, 5, 2), (1, 7, 1)):
        assert torch.equal(maps[8 * burst + channel, frame], feat[3 * burst + frame, channel])


def test_context_is_a_weighted_mean_over_all_pixels():
    torch.manual_seed(0)
    layer, x = GlobalContext(4), torch.randn(2, 4, 3, 5)
    weights = layer.conv_mask(x).flatten(1).softmax(1)
    mean = (x.flatten(2) * weights[:, None]).sum(2)
    expected = x + layer.channel_add_conv(mean[..., None, None])
    torch.testing.assert_close(layer(x), expected)


def test_bursts_of_a_batch_do_not_mix():
    net = tiny().double()
    lq = torch.rand(3, 3, 3, 8, 12, dtype=torch.float64)
    with torch.no_grad():
        each = torch.cat([net(burst[None]) for burst in lq])
        torch.testing.assert_close(net(lq), each, rtol=0, atol=1e-11)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_any_number_of_frames_can_be_chosen_but_is_fixed_then(frames):
    net, lq = tiny(num_frame=frames), torch.rand(1, frames, 3, 8, 8)
    with torch.no_grad():
        sr = net(arrange_frames(net, lq, 0))
        assert torch.equal(sr, net(lq))
    assert sr.shape == (1, 3, 32, 32)
    if frames > 1:
        with pytest.raises(UserError, match=f"takes {frames} frames but the dataset gives 9"):
            arrange_frames(net, torch.rand(1, 9, 3, 8, 8), 0)


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
        ({"num_feat": 48}, r"power of num_merge \(4\) and, for scale 4, at least 16, got 48"),
        ({"num_feat": 16, "scale": 8}, "for scale 8, at least 64, got 16"),
        ({"num_merge": 1}, "num_merge must be at least 2, got 1"),
        ({"num_frame": 0}, "num_frame must be at least 1, got 0"),
        ({"skip": True, "num_in_ch": 4, "num_out_ch": 3}, "needs equal numbers"),
        ({"deformable_groups": 5}, r"deformable_groups \(5\) must divide"),
    ],
)
def test_other_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        BIPNet(**options)

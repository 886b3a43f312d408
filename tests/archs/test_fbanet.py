from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support.networks import SMALL
from torch import Tensor

from srtoolbox.archs.fbanet import FBANet, IndexedAttention
from srtoolbox.archs.layers.window import shift_mask
from srtoolbox.errors import UserError
from srtoolbox.models.frames import arrange_frames
from srtoolbox.utils.meta import without_memory


def tiny(seed: int = 0, **options) -> FBANet:
    """Returns a small network in which every weight has an influence."""
    torch.manual_seed(seed)
    net = FBANet(**{**SMALL["FBANet"], **options}).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return net


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 31_482_383),
        ({"unused_layers": False}, 19_217_231),
        ({"num_feat": 32}, 7_965_263),
    ],
)
def test_has_the_published_number_of_parameters(options, expected):
    with without_memory():
        net = FBANet(**options)
    assert sum(p.numel() for p in net.parameters()) == expected
    stored = [b for key, b in net.state_dict().items() if b.dtype == torch.int64]
    assert (len(stored), sum(b.numel() for b in stored)) == (20, 200_000)


def test_unused_layers_change_no_output():
    net, other = tiny(), tiny(unused_layers=False)
    unused = [key for key in net.state_dict() if key.startswith(FBANet.dead_parameters)]
    assert unused and not other.dead_parameters
    used = {key: value for key, value in net.state_dict().items() if key not in unused}
    other.load_state_dict(used)
    lq = torch.rand(1, 3, 3, 8, 16)
    with torch.no_grad():
        assert torch.equal(net(lq), other(lq))


def test_frames_are_concatenated_in_their_order():
    net, lq = tiny(num_frame=4), torch.rand(1, 4, 3, 8, 8)
    order = [0, 3, 1, 2]
    with torch.no_grad():
        expected = net(lq)
        assert not torch.allclose(net(lq[:, order]), expected)
        weight = net.fusion.feat_fusion.weight
        weight.copy_(weight.unflatten(1, (4, -1))[:, order].flatten(1, 2))
        torch.testing.assert_close(net(lq[:, order]), expected)


def test_weights_of_the_frames():
    net, x = tiny(), torch.randn(2, 3, 4, 5, 6)
    seen: list[Tensor] = []
    net.fusion.feat_fusion.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net.fusion(torch.cat((x, x), 3).repeat(1, 1, 1, 1, 2)[..., :8, :8])
        weights = net.fusion.weights(x)
        reference = net.fusion.temporal_attn1(x[:, 0])
        affinity = [(net.fusion.temporal_attn2(frame) * reference).sum(1) for frame in x.unbind(1)]
    for frame in (1, 2):
        expected = torch.sigmoid((affinity[frame] - affinity[0]).abs())
        torch.testing.assert_close(weights[:, frame - 1], expected)
    assert weights.min() >= 0.5  # a frame that is like the first one has the lowest weight
    assert torch.equal(seen[0][:, :4], torch.cat((x, x), 3).repeat(1, 1, 1, 1, 2)[:, 0, :, :8, :8])


@pytest.mark.parametrize("size", [2, 5, 10])
def test_windows_of_odd_size_are_divided_where_the_shift_ends(size):
    shift = size // 2
    region = torch.zeros(size, dtype=torch.int64)
    region[-shift:] = 1  # these come from the opposite edge
    across = region[:, None] == region[None, :]
    mask = shift_mask(size).view(4, size, size, size, size)
    assert mask[0].all()
    assert torch.equal(mask[1, 0, :, 0], across)
    assert torch.equal(mask[2, :, 0, :, 0], across)


def test_a_map_of_one_window_is_shifted_and_masked():
    torch.manual_seed(0)
    layer = IndexedAttention(4, 5, 2, shifted=True)
    torch.nn.init.normal_(layer.relative_position_bias_table)
    x = torch.randn(1, 5, 5, 4)
    changed = x.clone()
    changed[:, 0, 0] += 10  # after the shift, the first row and column are a region of their own
    with torch.no_grad():
        difference = (layer(changed) - layer(x)).abs().sum((0, 3))
    assert difference[:2, :2].min() > 0
    assert difference[2:].max() == 0 and difference[:, 2:].max() == 0


def test_the_first_frame_is_enlarged_and_added():
    net, lq = tiny(), torch.rand(1, 3, 3, 8, 8)
    with torch.no_grad():
        for parameter in net.tail[1].parameters():
            parameter.zero_()
        expected = F.interpolate(lq[:, 0], scale_factor=4, mode="bilinear", align_corners=False)
        torch.testing.assert_close(net(lq), expected)


def test_frames_are_aligned_on_request():
    torch.manual_seed(0)
    scene = F.interpolate(torch.rand(1, 3, 8, 8), scale_factor=8, mode="bicubic")
    shifts = ((0, 0), (1, 2), (-2, 1))
    lq = torch.stack([scene.roll(shift, (2, 3)) for shift in shifts], 1)[..., 8:56, 8:56]
    net = tiny(align=True)
    seen: list[Tensor] = []
    net.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net(lq)
        inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
        assert torch.equal(seen[0][0], lq[0, 0])
        assert (seen[0][1:] - lq[0, :1])[inside].abs().max() < 0.02
        assert (lq[0, 1:] - lq[0, :1])[inside].abs().max() > 0.2
        one = tiny(num_frame=1, align=True)
        assert one(lq[:, 0]).shape == (1, 3, 192, 192)


def test_sizes_need_not_be_square():
    net = tiny()
    assert (net.size_multiple, FBANet.size_multiple) == (8, 40)
    assert net(torch.rand(1, 3, 3, 8, 24)).shape == (1, 3, 32, 96)


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


def test_branches_are_dropped_in_training_only():
    net = tiny()
    drops = [layer.blocks[1].drop for layer in (net.HG1_encoderlayer_0, net.conv_HG2)]
    assert drops == [pytest.approx(1 / 70), 0.1]
    assert net.HG1_encoderlayer_0.blocks[0].drop == 0
    x = torch.randn(64, 2, 2, 16)
    with torch.no_grad():
        block = net.conv_HG1.blocks[0]
        expected = block(x)
        torch.manual_seed(0)
        drawn = block.train()(x)
    assert not torch.allclose(drawn, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frame": 0}, "num_frame must be at least 1, got 0"),
        ({"window_size": 1}, "window_size must be at least 2, got 1"),
        ({"num_head": (1, 2, 16, 16, 7)}, r"num_head \(1, 2, 16, 16, 7\) must divide"),
        ({"num_in_ch": 4, "num_out_ch": 3}, "needs equal numbers"),
    ],
)
def test_other_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        FBANet(**options)

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from srtoolbox.archs.layers.deform import offset_magnitudes
from srtoolbox.archs.layers.tsa import LGTD_NAMES, TSAFusion
from srtoolbox.archs.lgtd import LGTD, LongTermDifference, ShortTermDifference
from srtoolbox.errors import UserError
from srtoolbox.inference.padding import run_padded
from srtoolbox.utils.meta import without_memory

SMALL = {
    "num_feat": 8,
    "num_extract_block": 1,
    "num_block": 1,
    "deformable_groups": 2,
    "embed_dim": 12,
    "num_group": 1,
    "num_group_block": 2,
    "num_head": 2,
    "window_size": 8,
}


@pytest.mark.parametrize(
    ("options", "expected", "dead"),
    [
        ({}, 21_054_721, 73_792),
        ({"num_group": 6}, 24_400_399, 73_792),
        ({"tail": "conv"}, 6_877_844, 0),
        ({"tail": "conv", "num_group": 6, "legacy": True}, 27_749_171, 20_871_327),
    ],
)
def test_has_the_published_number_of_parameters(options, expected, dead):
    with without_memory():
        net = LGTD(**options)
    sizes = {name: p.numel() for name, p in net.named_parameters()}
    assert sum(sizes.values()) == expected
    assert (
        sum(n for name, n in sizes.items() if name.startswith(net.dead_parameters or "-")) == dead
    )
    assert sum(p.numel() for p in net.tdm_s.parameters()) == 1_038_343


@pytest.mark.parametrize("tail", ["hat", "conv"])
def test_has_the_published_names(tail):
    net = LGTD(**SMALL, tail=tail)
    common = {
        "fea0", "fea_all", "res_feat_ext", "tdm_s", "tdm_l", "fus", "msd", "TSA_Fusion", "res_feat2"
    }  # fmt: skip
    own = {
        "hat": {"hat"},
        "conv": {
            "embedding", "reconstruction", "conv_before_upsample", "upsample", "conv_last"
        },
    }  # fmt: skip
    assert {name for name, _ in net.named_children()} == common | own[tail]
    keys = net.state_dict()
    some = [
        "tdm_s.feat_diff.conv.weight", "tdm_s.res_feat1.0.conv1.weight",
        "tdm_s.res_feat2.1.conv.weight", "tdm_l.compress_3.act.weight", "tdm_l.conv4.conv.bias",
        "fus.weight", "msd.mul_scale3.weight", "msd.dcnpack.conv_offset_mask.bias",
        "TSA_Fusion.tAtt_1.weight", "TSA_Fusion.fea_fusion.weight", "TSA_Fusion.sAtt_L3.bias",
        "TSA_Fusion.sAtt_add_2.bias", "res_feat2.0.act.weight",
    ]  # fmt: skip
    some += {
        "hat": ["hat.layers.0.residual_group.blocks.1.attn.qkv.weight", "tdm_l.fus.weight"],
        "conv": [
            "conv_before_upsample.0.weight",
            "upsample.2.weight",
            "reconstruction.0.act.weight",
        ],
    }[tail]
    assert not [key for key in some if key not in keys]


@pytest.mark.parametrize(
    ("options", "multiple", "dead", "blocks"),
    [
        ({}, 8, ("tdm_l.fus.",), ("hat.layers",)),
        ({"legacy": True}, 8, ("tdm_l.fus.",), ("hat.layers",)),
        ({"tail": "conv"}, 4, (), ("reconstruction",)),
        ({"tail": "conv", "legacy": True}, 4, ("hat.",), ("reconstruction",)),
    ],
)
def test_variants(options, multiple, dead, blocks):
    torch.manual_seed(0)
    net = LGTD(2, **SMALL, **options)
    assert (net.size_multiple, net.min_size) == (multiple, multiple)
    assert (net.dead_parameters, net.checkpoint_blocks) == (dead, blocks)
    with offset_magnitudes(net) as magnitudes:
        sr = run_padded(net, torch.rand(3, 5, 3, 9, 5))
    assert sr.shape == (3, 3, 18, 10)
    sr.square().mean().backward()
    silent = {name for name, p in net.named_parameters() if p.grad is None}
    assert silent == {name for name, _ in net.named_parameters() if name.startswith(dead or "-")}
    (magnitude,) = magnitudes.values()
    assert (magnitude > 0) == options.get("legacy", False)


def test_short_term_difference_as_written():
    torch.manual_seed(0)
    layer, lq = ShortTermDifference(4, 5), torch.rand(2, 5, 3, 8, 6)
    frames = lq.unbind(1)

    def double(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    changes = [layer.feat_diff(frames[i] - frames[i + 1]) for i in range(4)]
    z = layer.conv1(torch.cat([F.avg_pool2d(change, 2) for change in changes], 1))
    a = layer.feat0(frames[2]) / 2 + double(z) / 2
    expected = layer.res_feat2(a) / 2 + double(layer.res_feat1(z)) / 2
    torch.testing.assert_close(layer(lq, lq[:, 2]), expected)


@pytest.mark.parametrize("legacy", [False, True])
def test_long_term_difference_as_written(legacy):
    torch.manual_seed(0)
    layer, aligned = LongTermDifference(4, 5, legacy), torch.randn(2, 5, 4, 6, 8)
    c = aligned.flatten(1, 2)
    reverse = torch.cat(aligned.unbind(1)[::-1], 1)
    f, b = (layer.conv1(layer.compress_3(x)) for x in (reverse if legacy else c, reverse))

    def gate(difference, x):
        small = layer.conv3(F.avg_pool2d(x, 2))
        context = F.interpolate(small, size=(6, 8), mode="bilinear", align_corners=True)
        return torch.sigmoid(layer.conv4(difference + layer.conv2(x) + context))

    expected = (gate(f - b, f) + gate(b - f, b)) * c + c
    torch.testing.assert_close(layer(aligned), expected)
    assert torch.equal(f, b) == legacy


def test_fusion_is_that_of_edvr():
    torch.manual_seed(0)
    ours, theirs = TSAFusion(4, 5, 2, LGTD_NAMES), TSAFusion(4, 5, 2)
    names = {
        "temporal_attn1": "tAtt_2",
        "temporal_attn2": "tAtt_1",
        "spatial_attn_add": "sAtt_add_",
        "spatial_attn_l": "sAtt_L",
        "spatial_attn": "sAtt_",
        "feat_fusion": "fea_fusion",
    }
    state = {}
    for key, value in theirs.state_dict().items():
        old = next(name for name in names if key.startswith(name))
        state[key.replace(old, names[old])] = value
    ours.load_state_dict(state)
    aligned = torch.randn(2, 5, 4, 8, 12)
    torch.testing.assert_close(ours(aligned), theirs(aligned))


def test_difference_of_a_clip_that_stands_still_is_zero():
    torch.manual_seed(0)
    net = LGTD(2, **SMALL, tail="conv").eval()
    seen = []
    net.tdm_s.feat_diff.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    net(torch.rand(1, 1, 3, 8, 8).expand(1, 5, 3, 8, 8))
    assert seen[0].shape == (4, 3, 8, 8)
    assert not seen[0].any()


@pytest.mark.parametrize("tail", ["hat", "conv"])
def test_the_enlarging_channels_are_an_option(tail):
    wide, narrow = (LGTD(**SMALL, tail=tail, num_upsample_feat=n) for n in (64, 8))
    tails = [net.hat if tail == "hat" else net for net in (wide, narrow)]
    assert [part.conv_last.in_channels for part in tails] == [64, 8]
    assert wide.state_dict().keys() == narrow.state_dict().keys()
    assert narrow(torch.rand(1, 5, 3, 8, 8)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize("frames", [3, 7])
def test_other_numbers_of_frames(frames):
    net = LGTD(3, **SMALL, num_frame=frames).eval()
    assert (net.num_frame, net.reference) == (frames, frames // 2)
    assert net(torch.rand(1, frames, 3, 8, 16)).shape == (1, 3, 24, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frame": 4}, "LGTD: num_frame must be odd"),
        ({"tail": "swin"}, "LGTD: tail must be 'hat' or 'conv', got 'swin'"),
        ({"num_head": 7}, r"num_head \(7\) must divide"),
        ({"window_size": 10}, "window_size must be a multiple of 4"),
        ({"deformable_groups": 5}, r"deformable_groups \(5\) must divide"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        LGTD(**{**SMALL, **options})

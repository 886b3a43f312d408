from __future__ import annotations

import pytest
import torch

from srtoolbox.archs.layers.deform import offset_magnitudes
from srtoolbox.archs.msdtgp import MSDTGP
from srtoolbox.errors import UserError
from srtoolbox.inference.padding import run_padded
from srtoolbox.inference.tiling import run_tiled
from srtoolbox.utils.meta import without_memory

SMALL = {
    "num_feat": 8,
    "num_wide_feat": 12,
    "num_extract_block": 1,
    "num_block": 1,
    "deformable_groups": 2,
}


def sizes(net: torch.nn.Module) -> dict[str, int]:
    return {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}


@pytest.mark.parametrize(("scale", "expected"), [(2, 11_536_259), (4, 14_174_083), (8, 21_710_723)])
def test_has_the_published_number_of_parameters(scale, expected):
    with without_memory():
        net = MSDTGP(scale)
    assert sum(p.numel() for p in net.parameters()) == expected
    assert len(net.state_dict()) == 178


def test_has_the_published_parts():
    with without_memory():
        net = MSDTGP()
    assert sizes(net) == {
        "feat0": 7_169,
        "feat_all": 1_793,
        "res_feat_ext": 221_571,
        "DBPN": 3_961_936,
        "alignment1": 686_168,
        "fusion1": 442_625,
        "res_feat1": 6_949_446,
        "res_feat2": 406_214,
        "res_feat3": 1_418_118,
        "TAtt": 73_856,
        "output": 5_187,
    }
    keys = net.state_dict()
    for key in (
        "feat0.act.weight",
        "res_feat_ext.2.conv2.bias",
        "DBPN.up3.up_conv1.deconv.weight",
        "DBPN.down2.down_conv3.conv.bias",
        "DBPN.output.conv.weight",
        "alignment1.dcnpack.conv_offset_mask.weight",
        "res_feat1.5.deconv.weight",
        "res_feat3.5.conv.weight",
        "TAtt.tAtt_2.weight",
        "output.conv.weight",
    ):
        assert key in keys


def test_projects_the_farthest_frames_first():
    """Computes the result for five frames step by step, as in the paper and the public code."""
    torch.manual_seed(0)
    net = MSDTGP(2, **SMALL).eval()
    lq = torch.rand(1, 5, 3, 6, 7)
    with torch.no_grad():
        feats = [net.res_feat_ext(net.feat_all(frame)) for frame in lq.unbind(1)]
        aligned = [net.alignment1(feat, feats[2]) for feat in feats]
        state, steps = net.feat0(lq[:, 2]), []
        for group in ((0, 2, 4), (1, 2, 3)):
            seen = net.res_feat1(net.fusion1(torch.cat([aligned[i] for i in group], 1)))
            known = net.DBPN(state)
            steps.append(known + net.res_feat2(known - seen))
            state = net.res_feat3(steps[-1])
        expected = net.output(net.TAtt(torch.stack((net.DBPN(state), *steps), 1)))
        torch.testing.assert_close(net(lq), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frames", [3, 7])
def test_other_numbers_of_frames(frames):
    net = MSDTGP(2, **SMALL, num_frame=frames).eval()
    assert (net.num_frame, net.reference) == (frames, frames // 2)
    assert net(torch.rand(1, frames, 3, 5, 4)).shape == (1, 3, 10, 8)


@pytest.mark.parametrize("legacy", [False, True])
def test_offsets_start_at_zero_unless_it_is_the_legacy(legacy):
    torch.manual_seed(0)
    net = MSDTGP(2, **SMALL, legacy=legacy)
    with torch.no_grad(), offset_magnitudes(net) as magnitudes:
        net(torch.rand(1, 5, 3, 6, 6))
    (magnitude,) = magnitudes.values()
    assert (magnitude > 0) == legacy


@pytest.mark.slow
def test_tiles_change_nothing():
    torch.manual_seed(0)
    net = MSDTGP(2, **SMALL).double().eval()
    lq = torch.rand(1, 5, 3, 11, 150, dtype=torch.float64)
    with torch.no_grad():
        whole = run_padded(net, lq)
        error = (run_tiled(net, lq, 40, 64) - whole).abs().max()
        rough = (run_tiled(net, lq, 40, 0) - whole).abs().max()
    assert error < 1e-9 * whole.abs().max()
    assert rough > 1e-3 * whole.abs().max()


@pytest.mark.parametrize("num_frame", [1, 4])
def test_even_or_single_frames_are_refused(num_frame):
    with pytest.raises(UserError, match="MSDTGP: num_frame must be odd"):
        MSDTGP(num_frame=num_frame)


def test_groups_that_do_not_divide_the_features_are_refused():
    with pytest.raises(UserError, match=r"deformable_groups \(5\) must divide the features \(8\)"):
        MSDTGP(**{**SMALL, "deformable_groups": 5})

from __future__ import annotations

import pytest
import torch
from torch import nn

from srtoolbox.archs.edvr import EDVR
from srtoolbox.archs.layers import deform
from srtoolbox.archs.layers.deform import offset_magnitudes
from srtoolbox.errors import UserError
from srtoolbox.utils.meta import without_memory

SMALL = {"num_feat": 8, "deformable_groups": 2, "num_extract_block": 1, "num_reconstruct_block": 1}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 3_300_131),
        ({"with_tsa": False}, 2_996_259),
        ({"num_feat": 128, "num_reconstruct_block": 40}, 20_633_827),
    ],
)
def test_has_the_published_number_of_parameters(options, expected):
    with without_memory():
        net = EDVR(**options)
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "edvr_tsa_small",
        "edvr_notsa_small",
        "edvr_predeblur_small",
        "edvr_hrin_small",
        "edvr_m_tsa_default",
        "edvr_m_notsa_default",
        "edvr_l_tsa_default",
    ],
)
@pytest.mark.parametrize("frame_by_frame", [False, True])
def test_agrees_with_the_reference(golden, monkeypatch, name, frame_by_frame):
    if frame_by_frame:
        monkeypatch.setattr(deform, "CPU_BATCH_PIXELS", 0)
    expected = golden(name)
    options = expected.entry["config"]
    net = expected.load(EDVR(1 if options.get("hr_in") else 4, **options))
    with torch.no_grad():
        output = net(expected.arrays["input"])
        aligned = net._align(net._pyramid(expected.arrays["input"]))
    if "mid_aligned" in expected.arrays:
        theirs = expected.arrays["mid_aligned"].view_as(aligned)
        torch.testing.assert_close(aligned, theirs, rtol=0, atol=1e-4)
    torch.testing.assert_close(output, expected.arrays["output"], rtol=0, atol=1e-4)


def test_frame_by_frame_and_batched_have_the_same_gradients(monkeypatch):
    net = with_offsets(EDVR(**SMALL, num_frame=3))
    lq = torch.rand(2, 3, 3, 8, 8)
    gradients = []
    for limit in (0, 2**20):
        monkeypatch.setattr(deform, "CPU_BATCH_PIXELS", limit)
        net.zero_grad()
        net(lq).square().mean().backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_even_number_of_frames_takes_the_later_middle():
    net = EDVR(**SMALL, num_frame=4)
    assert (net.num_frame, net.reference) == (4, 2)
    assert net(torch.rand(1, 4, 3, 8, 8)).shape == (1, 3, 32, 32)


def test_a_multiple_of_four_is_enough_for_predeblur():
    net = EDVR(**SMALL, num_frame=3, with_predeblur=True)
    assert net.size_multiple == 4
    assert net(torch.rand(1, 3, 3, 12, 20)).shape == (1, 3, 48, 80)


def test_scale_1_takes_images_of_the_output_size():
    net = EDVR(1, **SMALL, num_frame=3)
    assert (net.hr_in, net.with_predeblur, net.size_multiple) == (True, True, 16)
    assert net(torch.rand(1, 3, 3, 16, 32)).shape == (1, 3, 16, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 4, "hr_in": True}, "scale 4 and hr_in True contradict"),
        ({"scale": 1, "hr_in": False}, "scale 1 and hr_in False contradict"),
        ({"scale": 1, "with_predeblur": False}, "hr_in needs with_predeblur"),
        ({"deformable_groups": 5}, r"deformable_groups \(5\) must divide"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        EDVR(**options)


def test_offsets_can_be_measured():
    net = EDVR(**SMALL, num_frame=3)
    lq = torch.rand(1, 3, 3, 8, 8)
    with offset_magnitudes(net) as magnitudes:
        net(lq)
        names = {f"pcd_align.{layer}" for layer in ("dcn_pack.l1", "dcn_pack.l2", "dcn_pack.l3")}
        assert set(magnitudes) == {*names, "pcd_align.cas_dcnpack"}
        assert all(value == 0 for value in magnitudes.values())
        nn.init.constant_(net.pcd_align.cas_dcnpack.conv_offset.bias, -60)
        net(lq)
    assert magnitudes["pcd_align.cas_dcnpack"] == 60


def with_offsets(net):
    """Sets random offsets; those of a new network are zero."""
    for name, parameter in net.named_parameters():
        if "conv_offset" in name:
            nn.init.normal_(parameter, std=0.5)
    return net

from __future__ import annotations

import pytest
import torch

from srtoolbox.archs.tdan import TDAN
from srtoolbox.errors import UserError

SMALL = {"num_feat": 8, "num_extract_block": 1, "num_reconstruct_block": 1, "deformable_groups": 2}


def test_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in TDAN().parameters()) == 1_970_819


@pytest.mark.parametrize("name", ["tdan_small", "tdan_default"])
def test_agrees_with_the_reference(golden, name):
    expected = golden(name)
    net = expected.load(TDAN(num_feat=expected.entry["config"]["num_feat"]))
    with torch.no_grad():  # the reference network works on values around zero
        output = net(expected.arrays["input"] + 0.5)
    for ours, theirs in (("sr", "output"), ("aligned", "aligned_lr")):
        torch.testing.assert_close(output[ours] - 0.5, expected.arrays[theirs], rtol=0, atol=1e-4)


def test_reference_frame_is_passed_on_unchanged():
    lq = torch.rand(2, 3, 3, 7, 6)
    aligned = TDAN(2, **SMALL, num_frame=3)(lq)["aligned"]
    assert aligned.shape == lq.shape
    torch.testing.assert_close(aligned[:, 1], lq[:, 1])
    assert (aligned[:, 0] - lq[:, 0]).abs().max() > 1e-3


def test_clips_of_a_batch_do_not_mix():
    net = TDAN(4, **SMALL).eval()
    lq = torch.rand(2, 5, 3, 6, 8)
    both, second = net(lq), net(lq[1:])
    for key in both:
        torch.testing.assert_close(both[key][1:], second[key])


def test_a_single_frame_is_refused():
    with pytest.raises(UserError, match="num_frame must be at least 2, got 1"):
        TDAN(num_frame=1)


def test_an_even_number_of_frames():
    net = TDAN(2, **SMALL, num_frame=4)
    lq = torch.rand(1, 4, 3, 6, 8)
    aligned = net(lq)["aligned"]
    torch.testing.assert_close(aligned[:, net.reference], lq[:, 2])


def test_groups_that_do_not_divide_the_features_are_refused():
    with pytest.raises(UserError, match=r"deformable_groups \(3\) must divide the features \(8\)"):
        TDAN(num_feat=8, deformable_groups=3)

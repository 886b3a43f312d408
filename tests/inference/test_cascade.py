"""Cascades: several small steps used like one network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.archs import EDSR, TDAN
from srtoolbox.archs.bicubic import Bicubic
from srtoolbox.errors import UserError
from srtoolbox.inference.cascade import Cascade, stage_scale
from srtoolbox.inference.padding import run_padded


def test_bicubic_twice() -> None:
    lq = torch.rand(2, 3, 7, 11, generator=torch.Generator().manual_seed(0))
    net = Bicubic(2)
    cascade = Cascade([net, net])
    assert cascade.scale == 4
    assert torch.equal(run_padded(cascade, lq), net(net(lq)))
    assert run_padded(cascade, lq).shape == (2, 3, 28, 44)


def test_every_stage_is_padded_for_itself() -> None:
    class Needy(nn.Module):
        scales, num_frame, scale, size_multiple, min_size = (3,), 1, 3, 4, 8

        def forward(self, lq: Tensor) -> Tensor:
            assert all(side % 4 == 0 for side in lq.shape[-2:])
            return lq.repeat_interleave(3, -1).repeat_interleave(3, -2)

    lq = torch.rand(1, 3, 5, 9)
    wanted = lq.repeat_interleave(9, -1).repeat_interleave(9, -2)
    assert torch.equal(run_padded(Cascade([Needy(), Needy()]), lq), wanted)


def test_weights_are_counted_once_if_shared() -> None:
    one, other = (EDSR(scale=2, num_feat=4, num_block=1) for _ in range(2))

    def count(net: nn.Module) -> int:
        return sum(parameter.numel() for parameter in net.parameters())

    assert count(Cascade([one, one])) == count(one)
    assert count(Cascade([one, other])) == 2 * count(one)


def test_multi_frame_networks_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"cascade: TDAN takes several frames.*val.enhance.cascade to 1"
    ):
        Cascade([TDAN()])


@pytest.mark.parametrize(("scale", "stages", "each"), [(4, 2, 2), (8, 3, 2), (9, 2, 3), (3, 1, 3)])
def test_stage_scale(scale: int, stages: int, each: int) -> None:
    assert stage_scale(scale, stages) == each


def test_a_scale_that_equal_steps_cannot_reach() -> None:
    with pytest.raises(
        UserError, match=r"cascade: scale 3 is not an integer to the power of 2; .* scale 4"
    ):
        stage_scale(3, 2)


def test_channels_are_those_of_the_first_and_the_last_stage() -> None:
    first = EDSR(2, num_feat=4, num_block=1, num_in_ch=4, num_out_ch=1)
    last = EDSR(2, num_feat=4, num_block=1, num_in_ch=1)
    cascade = Cascade([first, last])
    assert (cascade.channels, cascade.out_channels) == (4, 1)
    assert run_padded(cascade, torch.rand(1, 4, 5, 6)).shape == (1, 1, 20, 24)
    with pytest.raises(UserError, match=r"EDSR takes 4 channels, but the stage .* returns 1"):
        Cascade([first, first])


def test_stages_that_declare_only_their_input() -> None:
    raw = type("Raw", (nn.Module,), {"scales": (2,), "scale": 2, "channels": 4})()
    assert Cascade([raw, EDSR(2, num_feat=4, num_block=1)]).channels == 4
    assert Cascade([raw, raw]).out_channels is None
    with pytest.raises(UserError, match="EDSR takes 2 channels"):
        Cascade([raw, EDSR(2, num_feat=4, num_block=1, num_in_ch=2)])

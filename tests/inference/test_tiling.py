"""Tiles with a large enough halo change nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.archs.edsr import EDSR
from srtoolbox.archs.edvr import EDVR
from srtoolbox.inference.padding import run_padded
from srtoolbox.inference.tiling import halve, run_tiled


@pytest.mark.parametrize("size", [(40, 52), (33, 47), (17, 64)])
@pytest.mark.parametrize("tile", [8, 13, 24])
def test_a_halo_as_wide_as_the_receptive_field_gives_the_untiled_image(
    size: tuple[int, int], tile: int
) -> None:
    net = EDSR(scale=3, num_feat=4, num_block=2).double().eval()
    lq = torch.rand(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():  # nine convolutions of 3×3 see eight LR pixels, the last a third of one
        torch.testing.assert_close(run_tiled(net, lq, tile, 9), run_padded(net, lq))
        difference = (run_tiled(net, lq, tile, 0) - run_padded(net, lq)).abs().max()
    assert difference > 1e-3


@pytest.mark.slow
def test_grids_lie_as_in_the_whole_image() -> None:
    net = EDVR(num_feat=8, deformable_groups=2, num_extract_block=1, num_reconstruct_block=1)
    net = net.double().eval()
    lq = torch.rand(1, 5, 3, 21, 110, dtype=torch.float64)
    with torch.no_grad():
        tiled, whole = run_tiled(net, lq, 38, 62), run_padded(net, lq)
    torch.testing.assert_close(tiled, whole, atol=1e-9, rtol=0)


def test_every_pixel_is_computed_once() -> None:
    class Count(nn.Module):
        scales, scale, num_frame, reference, size_multiple, min_size = (2,), 2, 1, 0, 4, 1

        def forward(self, lq: Tensor) -> Tensor:
            assert not any(side % 4 for side in lq.shape[-2:])
            return lq.repeat_interleave(2, -1).repeat_interleave(2, -2)

    lq = torch.rand(1, 3, 21, 30)
    assert torch.equal(run_tiled(Count(), lq, 7, 3), run_padded(Count(), lq))


@pytest.mark.parametrize(("tile", "expected"), [(None, 50), (64, 32), (40, None), (1000, 50)])
def test_halving(tile: int | None, expected: int | None) -> None:
    assert halve(tile, torch.empty(1, 3, 80, 100)) == expected

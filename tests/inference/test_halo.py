from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.edsr import EDSR
from srtoolbox.inference.halo import LIMIT, TOLERANCE, measure_halo
from srtoolbox.inference.tiling import run_tiled


class Blur(nn.Module):
    """Means over (2·radius + 1)² pixels; ``step``: positions in blocks matter."""

    scales, scale = (1,), 1

    def __init__(self, radius: int, step: int = 1) -> None:
        super().__init__()
        self.radius, self.size_multiple = radius, step

    def forward(self, lq: Tensor) -> Tensor:
        size = 2 * self.radius + 1
        return F.avg_pool2d(F.pad(lq, (self.radius,) * 4, mode="replicate"), size, 1)


class Global(nn.Module):
    scales, scale = (1,), 1

    def forward(self, lq: Tensor) -> Tensor:
        return lq + lq.mean((-2, -1), keepdim=True)


@pytest.mark.parametrize("radius", [0, 1, 7, 40])
def test_the_radius_of_a_filter(radius):
    halo = measure_halo(Blur(radius), 1, torch.device("cpu"))
    assert halo.pixels == radius
    assert halo.is_exact


def test_any_number_of_bands():
    net = EDSR(2, num_feat=4, num_block=1, num_in_ch=5, num_out_ch=1).eval()
    halo = measure_halo(net, 1, torch.device("cpu"))
    assert halo.is_exact and 4 <= halo.pixels <= 7


def test_it_is_a_multiple_of_the_network_s_sizes():
    halo = measure_halo(Blur(5, step=4), 1, torch.device("cpu"))
    assert halo.pixels == 8


def test_a_network_that_uses_the_whole_image():
    halo = measure_halo(Global(), 1, torch.device("cpu"))
    assert halo.pixels == LIMIT
    assert not halo.is_exact
    assert halo.error > TOLERANCE


def test_tiles_run_by_another_function():
    sizes = []

    def run(net: nn.Module, lq: Tensor) -> Tensor:
        sizes.append(tuple(lq.shape[-2:]))
        return net(lq)

    lq = torch.rand(1, 3, 20, 30)
    assert torch.allclose(run_tiled(Blur(2), lq, 16, 2, run), Blur(2)(lq))
    assert sizes == [(18, 18), (18, 16), (6, 18), (6, 16)]

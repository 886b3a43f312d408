from __future__ import annotations

import pytest
import torch

from srtoolbox.archs.layers.burst.splat import shift_and_add


def shifts(*pairs: tuple[float, float]) -> torch.Tensor:
    """Returns the motion (1, T, 2, 3) of frames that are shifted by (x, y)."""
    motion = torch.eye(2, 3).repeat(1, len(pairs), 1, 1)
    motion[0, :, :, 2] = torch.tensor(pairs)
    return motion


def scattered(
    frames: torch.Tensor, motion: torch.Tensor, scale: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adds every sample to the four cells around it: the textbook method for pure shifts."""
    _, t, c, h, w = frames.shape
    total, weight = torch.zeros(1, c, h * scale, w * scale), torch.zeros(1, 1, h * scale, w * scale)
    for i in range(t):
        for y in range(h):
            for x in range(w):
                place = torch.tensor([x, y]) - motion[0, i, :, 2]
                cell = (place + 0.5) * scale - 0.5
                for dy in (0, 1):
                    for dx in (0, 1):
                        column, row = (cell.floor() + torch.tensor([dx, dy])).long().tolist()
                        if 0 <= column < w * scale and 0 <= row < h * scale:
                            share = (1 - abs(cell[0] - column)) * (1 - abs(cell[1] - row))
                            total[0, :, row, column] += share * frames[0, i, :, y, x]
                            weight[0, 0, row, column] += share
    return total, weight


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_equals_scattering(scale):
    frames = torch.rand(1, 3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    motion = shifts((0, 0), (0.37, -0.81), (-1.26, 0.44))
    expected = scattered(frames, motion, scale)
    for result, wanted in zip(shift_and_add(frames, motion, scale), expected, strict=True):
        torch.testing.assert_close(result, wanted, atol=1e-5, rtol=1e-5)


def test_fills_the_grid_from_all_phases():
    fine = torch.rand(1, 3, 16, 20, generator=torch.Generator().manual_seed(1))
    # Sixteen frames, each of which holds one sub-pixel phase of a fine image.
    phases = [(x, y) for y in range(4) for x in range(4)]
    frames = torch.stack([fine[..., y::4, x::4] for x, y in phases], 1)
    # A point of the reference is seen where the fine sample lies, from the centre of the cells.
    motion = shifts(*(((1.5 - x) / 4, (1.5 - y) / 4) for x, y in phases))
    total, weight = shift_and_add(frames, motion, 4)
    torch.testing.assert_close(weight, torch.ones_like(weight))
    torch.testing.assert_close(total, fine)


def test_same_bits_with_any_number_of_threads():
    draw = torch.Generator().manual_seed(2)
    frames = torch.rand(2, 5, 3, 32, 32, generator=draw)
    motion = torch.eye(2, 3).repeat(2, 5, 1, 1) + 0.02 * torch.randn(2, 5, 2, 3, generator=draw)
    one = shift_and_add(frames, motion, 4)
    try:
        torch.set_num_threads(4)
        several = shift_and_add(frames, motion, 4)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one[0], several[0]) and torch.equal(one[1], several[1])


def test_frames_that_see_nothing_of_the_reference_have_no_say():
    frames = torch.rand(1, 2, 3, 6, 6)
    alone = shift_and_add(frames[:, :1], shifts((0, 0)), 4)
    both = shift_and_add(frames, shifts((0, 0), (50, 0)), 4)
    assert torch.equal(alone[0], both[0]) and torch.equal(alone[1], both[1])


@pytest.mark.parametrize("zoom", [0.94, 1.06])
@pytest.mark.parametrize("scale", [2, 4])
def test_zoom_and_shear_change_places_but_no_weights(zoom, scale):
    size = 24
    linear = torch.tensor([[zoom, 0.03], [-0.02, zoom + 0.01]])
    shift = torch.tensor([0.3, -0.4])
    motion = torch.cat([linear, shift[:, None]], 1)[None, None]
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    scene = (torch.stack([x, y], -1) - shift) @ linear.inverse().mT  # places in the reference
    frames = scene.permute(2, 0, 1)[None, None]
    total, weight = shift_and_add(frames, motion, scale)
    inner = slice(4 * scale, -4 * scale)
    total, weight = total[..., inner, inner], weight[..., inner, inner]
    assert abs(weight.mean() * scale**2 - 1) < 0.03
    cells = (torch.arange(float(size * scale)) + 0.5) / scale - 0.5
    known = torch.stack(torch.meshgrid(cells, cells, indexing="xy"))[None, :, inner, inner]
    difference = total - weight * known  # of a sample from its cell, less than a cell
    assert (difference.abs() <= 1.2 * weight / scale + 1e-5).all()
    assert (difference.mean((2, 3)).abs() < 0.05 * weight.mean() / scale).all()

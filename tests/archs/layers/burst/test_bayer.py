from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from srtoolbox.archs.layers.burst.bayer import demosaic, shift_and_add_raw


def packed_ramp(height: int, width: int) -> torch.Tensor:
    """Returns a packed frame of x + 10·y in sensor pixels, plus 100 per colour."""
    y, x = torch.meshgrid(torch.arange(2.0 * height), torch.arange(2.0 * width), indexing="ij")
    packed = F.pixel_unshuffle((x + 10 * y)[None, None], 2)
    return packed + torch.tensor([0.0, 100, 100, 200]).view(1, 4, 1, 1)


@pytest.mark.slow
def test_demosaicking_keeps_what_was_measured_and_is_exact_for_a_ramp():
    y, x = torch.meshgrid(torch.arange(10.0), torch.arange(12.0), indexing="ij")
    rgb = demosaic(packed_ramp(5, 6))
    assert rgb.shape == (1, 3, 10, 12)
    for colour in range(3):
        wanted = x + 10 * y + 100 * colour
        torch.testing.assert_close(rgb[0, colour, 1:-1, 1:-1], wanted[1:-1, 1:-1])
    torch.testing.assert_close(rgb[0, 0, ::2, ::2], (x + 10 * y)[::2, ::2])
    torch.testing.assert_close(rgb[0, 1, ::2, 1::2], (x + 10 * y + 100)[::2, 1::2])
    torch.testing.assert_close(rgb[0, 1, 1::2, ::2], (x + 10 * y + 100)[1::2, ::2])
    torch.testing.assert_close(rgb[0, 2, 1::2, 1::2], (x + 10 * y + 200)[1::2, 1::2])


def test_a_single_cell_can_be_demosaicked():
    rgb = demosaic(torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 4, 1, 1))
    assert (rgb[0, 0] == 1).all()
    assert (rgb[0, 2] == 8).all()
    torch.testing.assert_close(rgb[0, 1], torch.tensor([[3.0, 2.0], [4.0, 3.0]]))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.25, -0.5), (-1.0, 0.75)])
def test_samples_go_where_their_colour_was_measured(shift):
    """With shifts by whole cells of the fine grid, every sample belongs to exactly one cell."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    # At scale 2·odd the samples lie on the middles of fine cells: 6 is 3 cells per sensor pixel.
    frames = packed_ramp(10, 12)[:, None]
    motion = torch.eye(2, 3).view(1, 1, 2, 3).clone()
    motion[0, 0, :, 2] = torch.tensor(shift) * 4 / 6
    total, weight = shift_and_add_raw(frames, motion, 6)
    assert total.shape == weight.shape == (1, 3, 60, 72)
    assert set(weight[weight > 1e-4].round(decimals=3).tolist()) == {1.0}
    at_x, at_y = (round(4 * each) for each in shift)
    for colour, (row, column) in enumerate([(0, 0), (0, 1), (1, 1)]):
        step_y = 2
        value = (x + 10 * y + 100 * colour)[row::step_y, column::2]
        rows = 3 * torch.arange(row, 20, 2) + 1 - at_y
        columns = 3 * torch.arange(column, 24, 2) + 1 - at_x
        ok_y, ok_x = (rows >= 0) & (rows < 60), (columns >= 0) & (columns < 72)
        found = total[0, colour][rows[ok_y]][:, columns[ok_x]]
        torch.testing.assert_close(found, value[ok_y][:, ok_x], atol=1e-2, rtol=0)


def test_colours_share_the_grid_as_on_the_sensor():
    _, weight = shift_and_add_raw(torch.rand(1, 1, 4, 6, 6), torch.eye(2, 3).view(1, 1, 2, 3), 4)
    red, green, blue = weight[0].sum((1, 2))
    assert red == pytest.approx(blue.item())
    assert green == pytest.approx(2 * red.item())

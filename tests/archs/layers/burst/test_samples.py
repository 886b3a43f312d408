from __future__ import annotations

import torch

from srtoolbox.archs.layers.burst.samples import (
    blur,
    fine_samples,
    mean_of_frames,
    num_plane,
    shares_of_frames,
)


def test_samples_say_nothing_where_there_are_none():
    frames = torch.rand(1, 1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    base = torch.full((1, 3, 24, 24), 0.25)
    fine = fine_samples(frames, torch.eye(2, 3).view(1, 1, 2, 3), torch.ones(1, 1, 6, 6), base, 4)
    hit = fine[:, 3:4] > 0
    assert hit.float().mean() == 0.25  # the four cells around each of the samples
    assert not (fine[:, :3] * ~hit).any()
    centre = fine[0, :3, 1::4, 1::4]
    torch.testing.assert_close(centre, (frames[0, 0] - 0.25) * 0.25 / 0.28)


def test_every_band_is_treated_as_a_colour_is():
    draw = torch.Generator().manual_seed(0)
    rgb, base = torch.rand(1, 2, 3, 6, 6, generator=draw), torch.rand(1, 3, 12, 12, generator=draw)
    order = [0, 1, 2, 2, 1, 0]
    still = torch.eye(2, 3).repeat(1, 2, 1, 1)
    trust = torch.rand(1, 2, 6, 6, generator=draw)
    three = fine_samples(rgb, still, trust, base, 2)
    six = fine_samples(rgb[:, :, order], still, trust, base[:, order], 2)
    assert (three.shape[1], six.shape[1]) == (num_plane(3), num_plane(6)) == (7, 13)
    torch.testing.assert_close(six[:, :6], three[:, order])
    torch.testing.assert_close(six[:, 6], three[:, 3])
    torch.testing.assert_close(six[:, 7:], three[:, 4:][:, order])
    assert num_plane(4, raw=True) == num_plane(4) == 9


def test_frames_that_do_not_move_look_like_one():
    frame = torch.rand(1, 1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    base, still = torch.full((1, 3, 24, 24), 0.25), torch.eye(2, 3).repeat(1, 7, 1, 1)
    one = fine_samples(frame, still[:, :1], torch.ones(1, 1, 6, 6), base, 4)
    seven = fine_samples(frame.expand(1, 7, 3, 6, 6), still, torch.ones(1, 7, 6, 6), base, 4)
    torch.testing.assert_close(seven, one, rtol=0.2, atol=1e-6)
    assert (seven[:, 3] < 1).all()


def test_cells_between_samples_get_a_mean_of_those_around():
    frames = torch.full((1, 2, 3, 8, 8), 0.75)
    motion = torch.eye(2, 3).repeat(1, 2, 1, 1)
    motion[0, 1, :, 2] = torch.tensor([0.5, 0.5])
    trust, base = torch.ones(1, 2, 8, 8), torch.full((1, 3, 32, 32), 0.25)
    fine = fine_samples(frames, motion, trust, base, 4)
    assert fine.shape[1] == num_plane(3)
    around = fine[0, -3:, 4:-4, 4:-4]
    assert around.min() > 0.25
    assert around.max() < 0.5


def test_blur_keeps_the_mean_and_is_not_rounded_under_autocast():
    x = torch.zeros(1, 2, 21, 21)
    x[..., 10, 10] = 1
    with torch.autocast("cpu", torch.bfloat16):
        y = blur(x, 1.5)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.sum((2, 3)), torch.ones(1, 2))
    torch.testing.assert_close(y[0, 0, 10, 12] / y[0, 0, 10, 10], torch.tensor(-8 / 9).exp())


def shares_at(x: float, y: float, trust: float = 1.0) -> tuple[float, float]:
    """Shares of one frame with this motion, at the middle of an image of 5×5 pixels."""
    flow = torch.tensor([x, y]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 5, 5)
    average, novelty = shares_of_frames(flow, torch.full((1, 1, 5, 5), trust))
    return average[0, 0, 2, 2].item(), novelty[0, 0, 2, 2].item()


def test_whole_pixels_are_averaged_and_fractions_are_new():
    assert shares_at(0, 0) == shares_at(1, -2) == (1, 0)
    assert shares_at(0.5, 0) == shares_at(0, -0.5) == shares_at(1.5, 0.5) == (0, 1)
    assert shares_at(0.5, 0.5, trust=0.25) == (0, 0.25)
    averages, novelties = zip(*(shares_at(x / 50, 0) for x in range(26)), strict=True)
    assert list(averages) == sorted(averages, reverse=True)
    assert list(novelties) == sorted(novelties)


def test_beyond_the_border_a_frame_brings_nothing():
    flow = torch.zeros(1, 2, 2, 5, 5)
    flow[0, 0, 0], flow[0, 1, 0] = 1.0, -1.4
    average, novelty = shares_of_frames(flow, torch.ones(1, 2, 5, 5))
    assert average[0, 0].sum(0).tolist() == [5, 5, 5, 5, 0]
    assert (novelty[0, 1].sum(0) > 0).tolist() == [False, True, True, True, True]


def test_mean_of_frames():
    draw = torch.Generator().manual_seed(0)
    reference, warped = torch.rand(1, 3, 4, 5, generator=draw), torch.rand(1, 2, 3, 4, 5)
    average = torch.zeros(1, 2, 4, 5)
    mean, number = mean_of_frames(reference, warped, average)
    assert torch.equal(mean, reference) and torch.equal(number, torch.ones(1, 1, 4, 5))
    average[:, 0], average[:, 1, :2] = 1, 1
    mean, number = mean_of_frames(reference, warped, average)
    expected = (reference + warped[:, 0] + warped[:, 1]) / 3
    torch.testing.assert_close(mean[..., :2, :], expected[..., :2, :])
    torch.testing.assert_close(mean[..., 2:, :], ((reference + warped[:, 0]) / 2)[..., 2:, :])
    assert number[0, 0, :, 0].tolist() == [3, 3, 2, 2]
    mean, number = mean_of_frames(reference, warped[:, :0], average[:, :0])
    assert torch.equal(mean, reference) and torch.equal(number, torch.ones(1, 1, 4, 5))

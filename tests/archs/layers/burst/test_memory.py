from __future__ import annotations

import torch

from srtoolbox.archs.layers.burst.memory import MTMS, SampleMemory, blur, fine_samples, num_plane


def test_samples_say_nothing_where_there_are_none():
    frames = torch.rand(1, 1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    base = torch.full((1, 3, 24, 24), 0.25)
    fine = fine_samples(frames, torch.eye(2, 3).view(1, 1, 2, 3), base, 4)
    hit = fine[:, 3:4] > 0
    assert hit.float().mean() == 0.25  # the four cells around each of the samples
    assert not (fine[:, :3] * ~hit).any()
    centre = fine[0, :3, 1::4, 1::4]
    torch.testing.assert_close(centre, (frames[0, 0] - 0.25) * 0.25 / 0.28)


def test_every_band_is_treated_as_a_colour_is():
    draw = torch.Generator().manual_seed(0)
    rgb, base = torch.rand(1, 2, 3, 6, 6, generator=draw), torch.rand(1, 3, 12, 12, generator=draw)
    order = [0, 1, 2, 2, 1, 0]  # the mean of the bands, and so the trust in a frame, is the same
    still = torch.eye(2, 3).repeat(1, 2, 1, 1)
    three = fine_samples(rgb, still, base, 2)
    six = fine_samples(rgb[:, :, order], still, base[:, order], 2)
    assert (three.shape[1], six.shape[1]) == (num_plane(3), num_plane(6)) == (7, 13)
    torch.testing.assert_close(six[:, :6], three[:, order])
    torch.testing.assert_close(six[:, 6], three[:, 3])
    torch.testing.assert_close(six[:, 7:], three[:, 4:][:, order])
    assert num_plane(4, raw=True) == num_plane(4) == 9


def test_frames_that_do_not_move_look_like_one():
    frame = torch.rand(1, 1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    base, still = torch.full((1, 3, 24, 24), 0.25), torch.eye(2, 3).repeat(1, 7, 1, 1)
    one = fine_samples(frame, still[:, :1], base, 4)
    seven = fine_samples(frame.expand(1, 7, 3, 6, 6), still, base, 4)
    torch.testing.assert_close(seven, one, rtol=0.2, atol=1e-6)
    assert (seven[:, 3] < 1).all()


def test_cells_between_samples_get_a_mean_of_those_around():
    frames = torch.full((1, 2, 3, 8, 8), 0.75)
    motion = torch.eye(2, 3).repeat(1, 2, 1, 1)
    motion[0, 1, :, 2] = torch.tensor([0.5, 0.5])
    fine = fine_samples(frames, motion, torch.full((1, 3, 32, 32), 0.25), 4)
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


def test_sample_memory_is_at_low_resolution():
    assert SampleMemory(3, 8, 7)(torch.rand(2, 7, 15, 21)).shape == (2, 8, 5, 7)


def test_memory_of_shifted_features_is_that_of_the_reference():
    """Away from the border, shifted frames of the same scene have a residual near zero."""
    torch.manual_seed(0)
    memory = MTMS(4, num_level=1, kernel_size=3, residual=False).eval()
    scene = torch.randn(1, 4, 24, 28)
    still = scene[..., 4:20, 4:24]
    moved = scene[..., 2:18, 5:25]  # a point of `still` at (x, y) is here at (x − 1, y + 2)
    motion = torch.eye(2, 3).repeat(1, 2, 1, 1)
    motion[0, 1, :, 2] = torch.tensor([-1.0, 2.0])
    with torch.no_grad():
        expected = memory(torch.stack([still, still], 1), torch.eye(2, 3).repeat(1, 2, 1, 1))
        found = memory(torch.stack([still, moved], 1), motion)
    torch.testing.assert_close(found[..., 5:-5, 5:-5], expected[..., 5:-5, 5:-5], atol=1e-4, rtol=0)


def test_learned_offsets_start_small():
    torch.manual_seed(0)
    memory = MTMS(8, num_level=2, kernel_size=1, residual=True)
    feat = torch.randn(1, 3, 8, 9, 11)
    flow = torch.zeros(1, 3, 2, 9, 11)
    _, offset = memory.levels[0](feat, flow, None)
    assert 0 < offset.abs().max() < 0.2

"""Frame interpolation."""

from __future__ import annotations

import torch

from srtoolbox.archs.layers.video.interpolate import interpolate_frames


def gradient(shift: float, size: int = 24) -> torch.Tensor:
    """Returns a wave pattern (1, 1, size, size), moved to the right by ``shift`` pixels."""
    x = torch.arange(size) - shift
    y = torch.arange(size)[:, None]
    return (torch.sin(0.3 * x) * torch.cos(0.2 * y))[None, None]


def constant(x: float, pairs: int = 1, size: int = 24) -> torch.Tensor:
    """Returns the flow (1, 2, pairs, 2, size, size) of a motion by ``x`` to the right."""
    flow = torch.zeros(1, 2, pairs, 2, size, size)
    flow[:, 0, :, 0], flow[:, 1, :, 0] = x, -x
    return flow


def test_frames_lie_at_their_times() -> None:
    frames = torch.stack([gradient(0), gradient(3)], 1)
    result = interpolate_frames(frames, constant(3), time_scale=3)
    assert result.shape == (1, 4, 1, 24, 24)
    assert torch.equal(result[:, [0, 3]], frames)
    for step in (1, 2):
        inner = (result[0, step] - gradient(step)[0])[..., 4:-4, 4:-4]
        assert inner.abs().max() < 1e-5


def test_given_frames_are_passed_on() -> None:
    frames = torch.rand(2, 4, 3, 8, 8)
    flow = torch.randn(2, 2, 3, 2, 8, 8)
    result = interpolate_frames(frames, flow)
    assert result.shape == (2, 7, 3, 8, 8)
    assert torch.equal(result[:, ::2], frames)
    assert torch.isfinite(result).all()
    assert torch.equal(interpolate_frames(frames[:, :1], flow[:, :, :0]), frames[:, :1])


def test_without_motion_it_is_the_mean() -> None:
    frames = torch.rand(1, 2, 3, 8, 8)
    result = interpolate_frames(frames, torch.zeros(1, 2, 1, 2, 8, 8))
    torch.testing.assert_close(result[:, 1], frames.mean(1))


def test_what_is_hidden_in_one_frame_is_taken_from_the_other() -> None:
    """A white block on black moves from columns 8–15 to 12–19."""
    frames, flow = torch.zeros(1, 2, 1, 24, 32), torch.zeros(1, 2, 1, 2, 24, 32)
    frames[:, 0, ..., 8:16], frames[:, 1, ..., 12:20] = 1, 1
    flow[:, 0, 0, 0, :, 8:16], flow[:, 1, 0, 0, :, 12:20] = 4, -4
    row = interpolate_frames(frames, flow)[0, 1, 0, 12]
    expected = torch.zeros(32)
    expected[10:18] = 1
    # At the block's own edges the flow of a time between is not known from that of its ends.
    assert row[8:10].max() < 0.01
    assert row[18:20].max() < 0.01
    assert row[12:16].min() > 0.99
    assert (row - expected).abs().mean() < (frames[0].mean(0)[0, 12] - expected).abs().mean()


def test_backwards_in_time_it_is_the_same() -> None:
    frames = torch.rand(1, 3, 3, 12, 12)
    flow = torch.randn(1, 2, 2, 2, 12, 12)
    result = interpolate_frames(frames, flow, 4)
    backwards = interpolate_frames(frames.flip(1), flow.flip(1).flip(2), 4)
    torch.testing.assert_close(backwards.flip(1), result)

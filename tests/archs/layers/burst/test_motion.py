from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from srtoolbox.archs.layers.burst.motion import estimate_motion, inside, motion_to_flow, warp


def scene(size: int, seed: int) -> torch.Tensor:
    """Returns (1, 3, size, size) with structure at several scales, none below some pixels."""
    draw = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, 3, size, size)
    for cells in (4, 8, 16, 32):
        noise = torch.rand(1, 3, cells, cells, generator=draw)
        image += F.interpolate(noise, (size, size), mode="bicubic", antialias=True) / 4
    return image.clamp(0, 1)


def moved_burst(
    size: int, num_frame: int, max_shift: float, seed: int, noise: float = 0.01
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns a burst (1, T, 3, size, size) with known motion (1, T, 2, 3), up to ±1°."""
    draw = torch.Generator().manual_seed(seed)
    fine, pad = 4, 8  # the scene is drawn finer than the frames, with room to move
    image = scene((size + 2 * pad) * fine, seed)
    shift = (torch.rand(num_frame, 2, generator=draw) * 2 - 1) * max_shift
    angle = (torch.rand(num_frame, generator=draw) * 2 - 1) * math.radians(1)
    shift[0], angle[0] = 0, 0
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)

    axis = torch.arange(size * fine) / fine + (1 / fine - 1) / 2 - (size - 1) / 2
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(1, -1, 2)
    source = (points - shift[:, None]) @ turn  # turned back
    grid = (source / (size / 2 + pad)).view(num_frame, size * fine, size * fine, 2)
    frames = F.grid_sample(image.expand(num_frame, -1, -1, -1), grid, align_corners=False)
    frames = F.avg_pool2d(frames, fine)
    frames = frames + noise * torch.randn(frames.shape, generator=draw)
    centre = torch.full((2,), (size - 1) / 2)
    motion = torch.cat([turn, (shift + centre - turn @ centre)[..., None]], 2)
    return frames[None], motion[None]


def errors(frames: torch.Tensor, motion: torch.Tensor, **options: int) -> torch.Tensor:
    """Returns the mean distance in pixels of estimated and true positions, for each frame."""
    size = frames.shape[-2:]
    estimate = estimate_motion(frames, **options)
    difference = motion_to_flow(estimate, size) - motion_to_flow(motion, size)
    return difference[0, 1:].norm(dim=1).mean((1, 2))


@pytest.mark.parametrize(("max_shift", "bound"), [(1.5, 0.05), (5.0, 0.08)])
def test_finds_known_motion(max_shift, bound):
    found = torch.cat([errors(*moved_burst(48, 9, max_shift, seed)) for seed in range(4)])
    assert found.median() < bound


def test_any_reference_and_odd_sizes():
    frames, motion = moved_burst(49, 4, 1.5, seed=3)
    frames = frames[..., :45, :]
    estimate = estimate_motion(frames[:, [1, 2, 0, 3]], reference=2)
    assert torch.equal(estimate[:, 2], torch.eye(2, 3)[None])
    flow = motion_to_flow(estimate, (45, 49)) - motion_to_flow(motion[:, [1, 2, 0, 3]], (45, 49))
    assert flow.norm(dim=2).mean() < 0.08


def test_identical_frames_do_not_move():
    frames = scene(24, 0)[:, None].expand(-1, 3, -1, -1, -1)
    assert torch.equal(estimate_motion(frames), torch.eye(2, 3).expand(1, 3, 2, 3))


@pytest.mark.parametrize("size", [(1, 1), (4, 7), (24, 24)])
def test_nothing_to_follow_gives_the_identity(size):
    frames = torch.full((2, 3, 3, *size), 0.5)
    assert torch.equal(estimate_motion(frames), torch.eye(2, 3).expand(2, 3, 2, 3))


def test_unrelated_frames_stay_finite():
    draw = torch.Generator().manual_seed(0)
    assert estimate_motion(torch.rand(2, 4, 3, 21, 33, generator=draw)).isfinite().all()


def test_a_moving_object_does_not_pull():
    frames, motion = moved_burst(48, 5, 1.0, seed=1)
    frames[:, 1:, :, 10:22, 10:22] = frames[:, 1:, :, 14:26, 6:18].clone()
    assert errors(frames, motion).median() < 0.08


def test_float32_without_gradient_under_autocast():
    frames, _ = moved_burst(24, 3, 1.0, seed=2)
    frames.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        estimate = estimate_motion(frames)
    assert estimate.dtype == torch.float32 and not estimate.requires_grad
    assert torch.equal(estimate, estimate_motion(frames))


def test_warp_shifts_and_subsampled_flow_agrees():
    image = torch.rand(1, 2, 6, 8)
    flow = torch.zeros(1, 2, 6, 8)
    flow[:, 0] = 1
    torch.testing.assert_close(warp(image, flow)[..., :-1], image[..., 1:])
    assert inside(flow)[..., :-1].all() and not inside(flow)[..., -1].any()
    motion = torch.tensor([[[[0.9, -0.1, 1.0], [0.1, 0.9, -2.0]]]])
    full = motion_to_flow(motion, (6, 8))
    torch.testing.assert_close(motion_to_flow(motion, (3, 4), 2), full[..., ::2, ::2] / 2)


def test_motion_is_that_of_the_mean_of_the_bands():
    burst, _ = moved_burst(48, 3, 1.5, seed=3)
    eight = burst.repeat(1, 1, 3, 1, 1)[:, :, :8]
    grey = eight.mean(2, keepdim=True)
    torch.testing.assert_close(estimate_motion(eight), estimate_motion(grey), rtol=0, atol=1e-5)

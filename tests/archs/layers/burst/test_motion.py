from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from srtoolbox.archs.layers.burst import motion as motion_layers
from srtoolbox.archs.layers.burst.motion import estimate_motion, inside, motion_to_flow, warp
from srtoolbox.data.degradations.sbsr import SBSRPipeline, affine_matrices
from srtoolbox.errors import UserError


def scene(size: int, seed: int) -> torch.Tensor:
    """Returns (1, 3, size, size) with structure at several scales, none below some pixels."""
    draw = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, 3, size, size)
    for cells in (4, 8, 16, 32):
        noise = torch.rand(1, 3, cells, cells, generator=draw)
        image += F.interpolate(noise, (size, size), mode="bicubic", antialias=True) / 4
    return image.clamp(0, 1)


def moved_burst(
    size: int,
    num_frame: int,
    max_shift: float,
    seed: int,
    noise: float = 0.01,
    zoom: float = 0.0,
    shear: float = 0.0,
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
    stretch = torch.rand(num_frame, 3, generator=draw) * 2 - 1
    along, across = zoom * stretch[:, 0], shear * stretch[:, 1]
    bent = torch.stack([along + across, shear * stretch[:, 2]] * 2, 1).view(-1, 2, 2)
    bent[:, 1] = torch.stack([bent[:, 0, 1], along - across], 1)
    turn = turn + bent * (torch.arange(num_frame) > 0)[:, None, None]

    axis = torch.arange(size * fine) / fine + (1 / fine - 1) / 2 - (size - 1) / 2
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(1, -1, 2)
    source = (points - shift[:, None]) @ turn.inverse().mT
    grid = (source / (size / 2 + pad)).view(num_frame, size * fine, size * fine, 2)
    frames = F.grid_sample(image.expand(num_frame, -1, -1, -1), grid, align_corners=False)
    frames = F.avg_pool2d(frames, fine)
    frames = frames + noise * torch.randn(frames.shape, generator=draw)
    centre = torch.full((2,), (size - 1) / 2)
    motion = torch.cat([turn, (shift + centre - turn @ centre)[..., None]], 2)
    return frames[None], motion[None]


def errors(frames: torch.Tensor, motion: torch.Tensor, **options) -> torch.Tensor:
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flow_is_not_rounded_under_autocast(dtype):
    motion = torch.tensor([[[[1.013, -0.007, 3.3], [0.007, 0.997, -2.2]]]])
    flow = motion_to_flow(motion, (96, 200))
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(motion_to_flow(motion, (96, 200)), flow)


def test_motion_is_that_of_the_mean_of_the_bands():
    burst, _ = moved_burst(48, 3, 1.5, seed=3)
    eight = burst.repeat(1, 1, 3, 1, 1)[:, :, :8]
    grey = eight.mean(2, keepdim=True)
    torch.testing.assert_close(estimate_motion(eight), estimate_motion(grey), rtol=0, atol=1e-5)


def test_zoom_and_shear_are_found_where_they_are():
    zoomed, motion = moved_burst(48, 7, 1.5, seed=5, zoom=0.03)
    for model, bound in (("similarity", 0.06), ("affine", 0.12), ("auto", 0.06)):
        assert errors(zoomed, motion, model=model).median() < bound, model
    assert errors(zoomed, motion, model="euclidean").median() > 0.15
    sheared, motion = moved_burst(48, 7, 1.5, seed=6, zoom=0.03, shear=0.03)
    for model in ("affine", "auto"):
        assert errors(sheared, motion, model=model).median() < 0.12, model
    assert errors(sheared, motion, model="similarity").median() > 0.15


def test_bursts_of_the_sbsr_generator():
    image = (255 * scene(256, 3)[0]).permute(1, 2, 0).numpy().astype(np.uint8)
    pipeline = SBSRPipeline(scale=4, num_frame=8)
    draws = pipeline.draw(np.random.default_rng(0))
    frames = torch.from_numpy(pipeline.make(image, draws)).permute(0, 3, 1, 2)[None] / 255
    fine = torch.from_numpy(affine_matrices(draws.motion, image.shape)).float()
    offset = torch.full((2,), 1.5)  # of the centre of an LR pixel, in HR pixels
    shift = (fine[..., :2] @ offset + fine[..., 2] - offset) / 4
    motion = torch.cat([fine[..., :2], shift[..., None]], -1)[None]
    assert errors(frames, motion).median() < 0.06
    assert errors(frames, motion, model="euclidean").median() > 0.15


def test_few_parameters_where_the_images_show_no_more():
    frames, _ = moved_burst(16, 7, 1.5, seed=2, noise=0.02)
    estimate = estimate_motion(frames)
    torch.testing.assert_close(estimate[..., :2].det(), torch.ones(1, 7), rtol=0, atol=1e-5)
    orthogonal = estimate[..., :2] @ estimate[..., :2].mT
    torch.testing.assert_close(orthogonal, torch.eye(2).expand_as(orthogonal), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [16, 48])
def test_noise_does_not_move(size):
    draw = torch.Generator().manual_seed(size)
    noise = torch.randn(2, 5, 3, size, size, generator=draw)
    still = scene(size, 1)[:, None] + 0.03 * noise
    for frames in (0.5 + 0.1 * noise, still):
        moved = motion_to_flow(estimate_motion(frames), (size, size)).norm(dim=2)
        assert moved.amax((2, 3)).median() == 0 and moved.mean() < 0.02


@pytest.mark.parametrize(("factor", "black"), [(0.01, 0.0), (0.01, 0.05), (65535.0, 0.0)])
def test_the_unit_of_the_values_does_not_matter(factor, black):
    frames, _ = moved_burst(24, 5, 1.5, seed=7, noise=0.03, zoom=0.02)
    scaled = estimate_motion(factor * frames + black)
    torch.testing.assert_close(scaled, estimate_motion(frames), rtol=0, atol=1e-2)


def test_a_dark_burst_gets_the_motion_of_the_other_bursts_of_its_batch():
    frames, _ = moved_burst(32, 4, 1.5, seed=8)
    motion = estimate_motion(torch.cat([frames, 0.001 * frames]))
    torch.testing.assert_close(motion[1], motion[0], rtol=0, atol=1e-2)


def test_rounding_errors_and_black_references_do_not_move():
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 5, 3, 24, 24, generator=draw)
    black = noise.abs()
    black[:, 0] = 0
    for frames in (0.5 + 3e-8 * noise, 2000 + 1e-4 * noise, black, 65535 * black):
        assert torch.equal(estimate_motion(frames), torch.eye(2, 3).expand(4, 5, 2, 3))


def test_frames_do_not_depend_on_each_other():
    bursts = [moved_burst(32, 4, 1.5, seed, zoom=0.02)[0] for seed in range(3)]
    together = estimate_motion(torch.cat([*bursts, torch.full_like(bursts[0], 0.5)]))
    alone = torch.cat([estimate_motion(burst) for burst in bursts])
    torch.testing.assert_close(together[:3], alone, rtol=0, atol=1e-5)
    fewer = estimate_motion(bursts[0][:, [0, 2]])
    torch.testing.assert_close(fewer[:, 1], alone[:1, 2], rtol=0, atol=1e-5)


def test_large_rotations_stay_rotations():
    size, angle = 48, math.radians(6)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    axis = torch.arange(float(size)) - (size - 1) / 2
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    image = scene(size + 16, 4)
    grid = (points @ turn * 2 / (size + 16))[None]
    moved = F.grid_sample(image, grid, align_corners=False)
    frames = torch.stack([image[..., 8:-8, 8:-8], moved], 1)
    centre = torch.full((2,), (size - 1) / 2)
    motion = torch.eye(2, 3).repeat(1, 2, 1, 1)
    motion[0, 1] = torch.cat([turn, (centre - turn @ centre)[:, None]], 1)
    for model in ("euclidean", "auto"):
        assert errors(frames, motion, model=model).max() < 0.05, model
    estimate = estimate_motion(frames, model="euclidean")
    torch.testing.assert_close(estimate[0, 1, :, :2].det(), torch.tensor(1.0), rtol=0, atol=1e-4)


def test_unknown_models_are_refused():
    with pytest.raises(UserError, match="model must be one of auto, euclidean"):
        estimate_motion(torch.zeros(1, 2, 3, 8, 8), model="homography")  # type: ignore[arg-type]


def test_the_written_out_factor_is_that_of_the_library(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    jacobian = torch.randn(100, 300, 6, generator=draw) * torch.rand(100, 1, 1, generator=draw)
    matrix, eye = jacobian.mT @ jacobian + 1e-3 * torch.eye(6), torch.eye(6)
    expected = motion_layers._cholesky(matrix, eye)
    monkeypatch.setattr(motion_layers, "is_exporting", lambda: True)
    for found, known in zip(motion_layers._cholesky(matrix, eye), expected, strict=True):
        torch.testing.assert_close(found, known, rtol=1e-4, atol=1e-5)

from __future__ import annotations

import torch
from torch import Tensor

from srtoolbox.archs.layers.burst.motion import estimate_motion, motion_to_flow, warp
from srtoolbox.archs.layers.burst.splat import shift_and_add
from srtoolbox.archs.layers.burst.trust import trust_in_frames


def burst(noise: float = 0.0, moved: bool = False) -> tuple[Tensor, Tensor]:
    """Four frames (1, 4, 3, 24, 24) of smooth texture shifted by known amounts, and the motion.

    ``moved``: in each of them but the first a square of 8×8 shows something else.
    """
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    motion = torch.eye(2, 3).repeat(1, 4, 1, 1)
    motion[0, :, :, 2] = torch.tensor([(0, 0), (0.4, -0.3), (-0.6, 0.2), (0.1, 0.7)])
    frames = []
    for dx, dy in motion[0, :, :, 2]:
        wave = torch.sin((x - dx) / 2.5) * torch.cos((y - dy) / 3) + torch.sin(
            (x - dx + y - dy) / 4
        )
        frames.append((0.5 + 0.2 * wave).expand(3, -1, -1))
    stack = torch.stack(frames)[None].clone()
    if moved:
        stack[:, 1:, :, 8:16, 8:16] = 1 - stack[:, 1:, :, 8:16, 8:16] * 0.2
    draw = torch.Generator().manual_seed(0)
    return stack + noise * torch.randn(stack.shape, generator=draw), motion


def trust_of(frames: Tensor, motion: Tensor) -> Tensor:
    """Trust in all frames but the first, (N, T - 1, h, w)."""
    others, (h, w) = frames[:, 1:], frames.shape[-2:]
    flow = motion_to_flow(motion[:, 1:], (h, w)).flatten(0, 1)
    return trust_in_frames(frames[:, 0], warp(others.flatten(0, 1), flow).view_as(others))


def test_a_scene_that_moves_alike_is_trusted() -> None:
    for noise in (0.0, 0.02, 0.08):
        trust = trust_of(*burst(noise))
        assert trust.shape == (1, 3, 24, 24) and trust.dtype == torch.float32
        assert trust.max() <= 1
        assert trust[..., 2:-2, 2:-2].mean() > 0.95, noise


def test_what_moves_by_itself_is_not() -> None:
    for noise in (0.0, 0.02):
        trust = trust_of(*burst(noise, moved=True))
        assert trust[..., 9:15, 9:15].max() < 0.1
        assert trust[..., 2:-2, 2:5].mean() > 0.95


def test_frames_that_differ_everywhere_are_not_taken_as_noisy() -> None:
    frames, motion = burst(0.02)
    reference = frames[:, :1].expand(-1, 3, -1, -1, -1)
    for others in (torch.zeros_like(reference), 1 - reference, 0.5 * reference):
        trust = trust_of(torch.cat([frames[:, :1], others], 1), motion[:, :1].expand(1, 4, 2, 3))
        assert trust.mean() < 0.3


def test_the_unit_of_the_values_does_not_matter() -> None:
    frames, motion = burst(0.02, moved=True)
    trust = trust_of(frames, motion)
    for factor in (0.1, 65535.0):
        torch.testing.assert_close(trust_of(factor * frames, motion), trust, rtol=0, atol=1e-3)


def test_without_trust_samples_have_no_weight() -> None:
    frames, motion = burst(moved=True)
    trust = trust_of(frames, motion)
    total, weight = shift_and_add(frames[:, 1:], motion[:, 1:], 4, trust)
    assert max(total[..., 40:56, 40:56].max(), weight[..., 40:56, 40:56].max()) < 0.1
    plain = shift_and_add(frames, motion, 4)
    ones = shift_and_add(frames, motion, 4, torch.ones(1, 4, 24, 24))
    for one, other in zip(plain, ones, strict=True):
        assert torch.equal(one, other)


def test_single_frames_low_precision_and_flat_images() -> None:
    frames, motion = burst()
    assert trust_of(frames[:, :1], motion[:, :1]).shape == (1, 0, 24, 24)
    flat = torch.full((2, 3, 4, 5, 6), 0.5, dtype=torch.bfloat16)
    trust = trust_of(flat, estimate_motion(flat))
    assert trust.shape == (2, 2, 5, 6) and torch.allclose(trust, torch.ones_like(trust))


def test_a_scene_that_zooms_and_shears_is_trusted() -> None:
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    motion = torch.eye(2, 3).repeat(1, 2, 1, 1)
    motion[0, 1] = torch.tensor([[1.03, 0.01, -0.6], [-0.02, 0.98, 0.8]])
    back = (torch.stack([x, y], -1) - motion[0, 1, :, 2]) @ motion[0, 1, :, :2].inverse().mT
    frames = [
        0.5 + 0.2 * torch.sin(places[..., 0] / 2.5) * torch.cos(places[..., 1] / 3)
        for places in (torch.stack([x, y], -1), back)
    ]
    stack = torch.stack(frames)[None, :, None].expand(-1, -1, 3, -1, -1)
    assert trust_of(stack, motion)[..., 3:-3, 3:-3].mean() > 0.95
    still = torch.eye(2, 3).repeat(1, 2, 1, 1)
    assert trust_of(stack, still).mean() < 0.9

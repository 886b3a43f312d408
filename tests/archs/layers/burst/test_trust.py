from __future__ import annotations

import torch
from torch import Tensor

from srtoolbox.archs.layers.burst.motion import estimate_motion
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


def test_a_scene_that_moves_alike_is_trusted() -> None:
    for noise in (0.0, 0.02, 0.08):
        trust = trust_in_frames(*burst(noise))
        assert trust.shape == (1, 4, 24, 24) and trust.dtype == torch.float32
        assert (trust[:, 0] == 1).all() and trust.max() <= 1
        assert trust[..., 2:-2, 2:-2].mean() > 0.95, noise


def test_what_moves_by_itself_is_not() -> None:
    for noise in (0.0, 0.02):
        trust = trust_in_frames(*burst(noise, moved=True))
        assert trust[:, 1:, 9:15, 9:15].max() < 0.1
        assert trust[:, 1:, 2:-2, 2:5].mean() > 0.95


def test_without_trust_samples_have_no_weight() -> None:
    frames, motion = burst(moved=True)
    trust = trust_in_frames(frames, motion)
    total, weight = shift_and_add(frames, motion, 4, trust)
    alone, of_one = shift_and_add(frames[:, :1], motion[:, :1], 4)
    inner = slice(40, 56)  # ten to fourteen, four cells each
    torch.testing.assert_close(
        weight[..., inner, inner], of_one[..., inner, inner], atol=0.1, rtol=0
    )
    torch.testing.assert_close(total[..., inner, inner], alone[..., inner, inner], atol=0.1, rtol=0)
    plain = shift_and_add(frames, motion, 4)
    ones = shift_and_add(frames, motion, 4, torch.ones_like(trust))
    for one, other in zip(plain, ones, strict=True):
        assert torch.equal(one, other)


def test_single_frames_low_precision_and_flat_images() -> None:
    frames, motion = burst()
    assert torch.equal(trust_in_frames(frames[:, :1], motion[:, :1]), torch.ones(1, 1, 24, 24))
    flat = torch.full((2, 3, 4, 5, 6), 0.5, dtype=torch.bfloat16)
    trust = trust_in_frames(flat, estimate_motion(flat))
    assert trust.shape == (2, 3, 5, 6) and torch.allclose(trust, torch.ones_like(trust))


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
    assert trust_in_frames(stack, motion)[..., 3:-3, 3:-3].mean() > 0.95
    still = torch.eye(2, 3).repeat(1, 2, 1, 1)
    assert trust_in_frames(stack, still)[:, 1].mean() < 0.9

"""Geometric self-ensemble: exact where the network is, and equivariant whatever the network is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.archs.bicubic import Bicubic
from srtoolbox.inference.ensemble import self_ensemble


def image(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


class Nearest(nn.Module):
    """Repeats every pixel of the frame ``reference``; insists on multiples of 4 from 8 on."""

    scales, size_multiple, min_size = (3,), 4, 8

    def __init__(self, num_frame: int | None = 1, reference: int = 0, scale: int = 3) -> None:
        super().__init__()
        self.num_frame, self.reference, self.scale = num_frame, reference, scale

    def forward(self, lq: Tensor) -> dict[str, Tensor]:
        assert all(side % 4 == 0 and side >= 8 for side in lq.shape[-2:])
        frame = lq if self.num_frame == 1 else lq[:, self.reference]
        return {"sr": frame.repeat_interleave(3, -1).repeat_interleave(3, -2)}


class Lopsided(nn.Module):
    """A network that treats directions, places and frames differently."""

    scales, size_multiple, min_size, scale, reference = (2,), 2, 1, 2, 0

    def __init__(self, num_frame: int | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.num_frame = num_frame
        self.conv = nn.Conv2d(3 * (num_frame or 1), 12, 3, padding=1).requires_grad_(False)

    def forward(self, lq: Tensor) -> Tensor:
        feat = self.conv(lq if self.num_frame == 1 else lq.flatten(1, 2)).tanh()
        ramp = torch.linspace(0, 1, feat.shape[-1]) + torch.linspace(0, 2, feat.shape[-2])[:, None]
        return nn.functional.pixel_shuffle(feat * ramp, 2)


@pytest.mark.parametrize("size", [(1, 1), (5, 33), (16, 16), (7, 12)])
@pytest.mark.parametrize("frames", [1, 4])
def test_a_perfect_network_stays_perfect(size: tuple[int, int], frames: int) -> None:
    stack = image(2, frames, 3, *size)
    net = Nearest(num_frame=1 if frames == 1 else None, reference=frames - 1)
    sr = self_ensemble(net, stack[:, 0] if frames == 1 else stack)
    wanted = stack[:, -1].repeat_interleave(3, -1).repeat_interleave(3, -2)
    assert torch.allclose(sr, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 3])
def test_the_result_turns_with_the_input(frames: int) -> None:
    lq = image(1, 3, 5, 8) if frames == 1 else image(1, frames, 3, 5, 8)
    net = Lopsided(frames)
    sr, plain = self_ensemble(net, lq), net(lq if lq.shape[-2] % 2 == 0 else lq[..., :4, :])
    for turns in range(4):
        turned = self_ensemble(net, torch.rot90(lq, turns, (-2, -1)))
        assert torch.allclose(turned, torch.rot90(sr, turns, (-2, -1)), atol=1e-6)
    assert torch.allclose(self_ensemble(net, lq.flip(-1)), sr.flip(-1), atol=1e-6)
    assert torch.allclose(self_ensemble(net, lq.flip(-2)), sr.flip(-2), atol=1e-6)
    assert not torch.allclose(plain, sr[..., : plain.shape[-2], :], atol=1e-2)


def test_all_eight_orientations_are_seen_once() -> None:
    seen = []

    class Watch(Nearest):
        def forward(self, lq: Tensor) -> dict[str, Tensor]:
            seen.append(tuple(lq[0, 0].flatten().tolist()))
            return super().forward(lq)

    self_ensemble(Watch(), image(1, 3, 8, 8))
    assert len(set(seen)) == len(seen) == 8


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_its_own_ensemble(scale: int) -> None:
    lq = image(1, 3, 9, 14)
    net = Bicubic(scale)
    assert torch.allclose(self_ensemble(net, lq), net(lq), rtol=0, atol=1e-6)


def test_half_precision_is_averaged_in_full() -> None:
    assert self_ensemble(Nearest(), image(1, 3, 8, 8).bfloat16()).dtype == torch.float32

"""The two-stage baseline: the frames for its network, and its weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.archs.bicubic import Bicubic
from srtoolbox.archs.edsr import EDSR
from srtoolbox.archs.two_stage import TwoStage
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

EDSR_S = {"type": "EDSR", "num_feat": 4, "num_block": 1}


class Seen(nn.Module):
    """Records its input frames; the SR image has the value of the reference frame."""

    scales, paper = (2,), "none"
    size_multiple, min_size = 4, 8

    def __init__(self, scale: int = 2, num_frame: int | None = 5, reference: int = 2) -> None:
        super().__init__()
        self.scale, self.num_frame, self.reference = scale, num_frame, reference
        self.windows: list[list[float]] = []

    def forward(self, lq: Tensor) -> dict[str, Tensor]:
        self.windows += lq[:, :, 0, 0, 0].tolist()
        sr = lq[:, self.reference].repeat_interleave(2, -1).repeat_interleave(2, -2)
        return {"sr": sr, "aligned": lq}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCH_REGISTRY._entries, "Seen", Seen)


def counted(frames: int = 3, n: int = 1) -> Tensor:
    """Returns (n, frames, 3, 8, 8) with the values 0, 2, 4, …"""
    return (2.0 * torch.arange(frames)).view(1, -1, 1, 1, 1).expand(n, -1, 3, 8, 8).contiguous()


@torch.no_grad()
def test_single_images() -> None:
    net = TwoStage(4, {"type": "Bicubic"})
    lq = torch.rand(2, 3, 3, 6, 7)
    sr = net(lq)
    assert sr.shape == (2, 5, 3, 24, 28)
    torch.testing.assert_close(sr[:, 2], Bicubic(4)(lq[:, 1]))
    torch.testing.assert_close(sr[:, 1], Bicubic(4)(lq[:, :2].mean(1)))


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_frame": 3, "reference": 1}, [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 4]]),
        ({"num_frame": 3, "reference": 0}, [[0, 0, 1], [1, 0, 2], [2, 1, 3], [3, 2, 4], [4, 3, 4]]),
    ],
)
def test_windows(options, expected, gradients, seen) -> None:
    net = TwoStage(2, {"type": "Seen", **options})
    with torch.set_grad_enabled(gradients):
        sr = net(counted(n=2))
    assert sorted(net.network.windows) == sorted(2 * [list(map(float, w)) for w in expected])
    assert sr[:, :, 0, 0, 0].tolist() == 2 * [[0, 1, 2, 3, 4]]


def test_a_network_of_any_number_of_frames_gets_a_window(seen) -> None:
    net = TwoStage(2, {"type": "Seen", "num_frame": None, "reference": 0}, num_window=3)
    net(counted())
    assert net.network.windows[1] == [1, 0, 2]


def test_other_time_scales() -> None:
    sr = TwoStage(4, {"type": "Bicubic"}, time_scale=4)(counted(2))
    torch.testing.assert_close(sr[0, :, 0, 9, 9], torch.tensor([0, 0.5, 1, 1.5, 2]))


def test_weights_are_those_of_the_network_alone() -> None:
    alone = EDSR(4, num_feat=4, num_block=1)
    net = TwoStage(4, EDSR_S)
    assert list(net.state_dict()) == list(alone.state_dict())
    assert not net.load_state_dict(alone.state_dict()).missing_keys
    lq = torch.rand(1, 2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(net(lq)[:, 0], alone(lq[:, 0]))
    wrapped = nn.ModuleDict({"module": net})
    assert set(wrapped.state_dict()) == {f"module.{key}" for key in alone.state_dict()}
    wrapped.load_state_dict(wrapped.state_dict())
    broken = alone.state_dict() | {"extra": torch.zeros(1)}
    with pytest.raises(RuntimeError, match="extra"):
        net.load_state_dict(broken)


def test_requirements_are_those_of_the_network(seen) -> None:
    net = TwoStage(2, {"type": "Seen"})
    assert (net.scales, net.size_multiple, net.min_size) == ((2,), 4, 8)
    for block in TwoStage(4, EDSR_S).checkpoint_blocks:
        assert len(list(TwoStage(4, EDSR_S).get_submodule(block).children()))


def test_bad_options() -> None:
    with pytest.raises(UserError, match="interpolates frames itself"):
        TwoStage(4, {"type": "MSTTSTVSR"})
    with pytest.raises(UserError, match=r"network\.scale is 2, the run's 4"):
        TwoStage(4, {"type": "EDSR", "scale": 2})
    with pytest.raises(UserError, match="time_scale is at least 2"):
        TwoStage(4, EDSR_S, time_scale=1)

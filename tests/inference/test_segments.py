"""Long clips in segments."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.archs.basicvsr import BasicVSR
from srtoolbox.archs.basicvsrpp import BasicVSRPlusPlus
from srtoolbox.archs.edvr import EDVR
from srtoolbox.engine.profiling import peak_memory
from srtoolbox.inference.prediction import EnhanceOptions, predict
from srtoolbox.inference.segments import run_segments
from srtoolbox.inference.tiling import run_tiled

SMALL = {"num_feat": 8, "num_block": 1, "num_hr_feat": 8, "num_flow_level": 2, "num_flow_feat": 4}
PLUS = {**SMALL, "num_extract_block": 1, "num_reconstruct_block": 1, "deformable_groups": 4}


class Sum(nn.Module):
    """Returns the sum of the frames around each frame, so results show which frames it saw."""

    scales, scale, num_frame, restores_all = (1,), 1, None, True

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    def forward(self, lq: Tensor) -> Tensor:
        self.lengths.append(lq.shape[1])
        total = lq.clone()
        total[:, 1:] += lq[:, :-1]
        total[:, :-1] += lq[:, 1:]
        return total


def noisy(net: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return net.eval()


def clip(frames: int, size: int = 12) -> Tensor:
    return torch.rand(1, frames, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("segment", [1, 3, 4, 7, 10, 11])
def test_an_overlap_as_long_as_the_reach_gives_the_result_of_the_whole_clip(segment: int) -> None:
    net, lq = Sum(), clip(10)
    expected = net(lq)
    torch.testing.assert_close(run_segments(net, lq, segment, 1), expected)
    assert max(net.lengths[1:]) <= max(10 if segment >= 10 else 0, segment + 2)
    if segment < 10:
        assert not torch.equal(run_segments(net, lq, segment, 0), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "options"), [(BasicVSR, SMALL), (BasicVSRPlusPlus, PLUS)])
def test_results_change_less_with_more_overlap(arch: type[nn.Module], options: dict) -> None:
    net, lq = noisy(arch(**options)), clip(12)
    with torch.no_grad():
        whole = net(lq)
        changes = [
            (run_segments(net, lq, 4, overlap) - whole).abs().max().item()
            for overlap in (0, 1, 3, 12)
        ]
    assert changes[0] > changes[1] > changes[2] > 0
    assert changes[3] < 1e-5


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip_but_for_its_result() -> None:
    net = noisy(BasicVSRPlusPlus(**PLUS))

    def memory(frames: int) -> float:
        lq = clip(frames, 16)
        with torch.no_grad():
            return peak_memory(partial(run_segments, net, lq, 3, 1), torch.device("cpu"))

    result = 3 * 64 * 64 * 4 / 2**20  # of one frame
    assert memory(15) - memory(9) < 6 * 1.01 * result


def test_segments_of_tiles() -> None:
    net, lq = Sum(), clip(6)
    tiled = partial(run_tiled, tile=8, halo=0)
    torch.testing.assert_close(run_segments(net, lq, 2, 1, tiled), net(lq))


def test_other_networks_get_all_frames() -> None:
    net = EDVR(num_feat=8, deformable_groups=2, num_extract_block=1, num_reconstruct_block=1)
    lq = clip(5)
    with torch.no_grad():
        assert torch.equal(run_segments(net.eval(), lq, 2, 0), net(lq))


def test_a_clip_and_its_reversal() -> None:
    net, lq = noisy(BasicVSR(**SMALL)), clip(3)
    with torch.no_grad():
        long = net(torch.cat([lq, lq.flip(1)], 1))
        expected = (long[:, :3] + long[:, 3:].flip(1)) / 2
        options = EnhanceOptions(flip_sequence=True)
        actual = predict(net, lq, None, options)
        middle = predict(net, lq, 1, options)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(middle, expected[:, 1])
    assert "clips followed by their reversal" in options.describe()
    assert options.changed == {"flip_sequence": True}


def test_the_reference_of_a_window_is_restored() -> None:
    net, lq = noisy(BasicVSR(**SMALL)), clip(5)
    with torch.no_grad():
        torch.testing.assert_close(predict(net, lq, 2), net(lq)[:, 2])

"""Which frames a network gets, and in what order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from srtoolbox.data.transforms.flow import batch_flow
from srtoolbox.errors import UserError
from srtoolbox.models.frames import arrange_frames, check_time, run_network, varying_frames


def stack(num_frame: int) -> torch.Tensor:
    """(2, T, 3, 4, 4); every value is its frame's index."""
    return torch.arange(num_frame).view(1, -1, 1, 1, 1).expand(2, -1, 3, 4, 4).float()


def order(lq: torch.Tensor) -> list[int]:
    return lq[0, :, 0, 0, 0].int().tolist()


@pytest.mark.parametrize("reference", [0, 2, 4])
def test_single_image_networks_get_the_reference(reference: int) -> None:
    net = SimpleNamespace(num_frame=1)
    lq = arrange_frames(net, stack(5), reference)
    assert lq.shape == (2, 3, 4, 4)
    assert (lq == reference).all()


@pytest.mark.parametrize(
    ("wanted", "reference", "expected"),
    [
        (0, 0, [0, 1, 2, 3, 4]),
        (2, 0, [1, 2, 0, 3, 4]),
        (0, 2, [2, 0, 1, 3, 4]),
        (4, 0, [1, 2, 3, 4, 0]),
        (2, 4, [0, 1, 4, 2, 3]),
        (2, 2, [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("num_frame", [5, None])
def test_the_reference_moves_and_the_others_keep_their_order(
    num_frame: int | None, wanted: int, reference: int, expected: list[int]
) -> None:
    net = SimpleNamespace(num_frame=num_frame, reference=wanted)
    assert order(arrange_frames(net, stack(5), reference)) == expected


def test_wrong_number_of_frames() -> None:
    net = SimpleNamespace(num_frame=5, reference=2)
    words = "takes 5 frames but the dataset gives 7; set num_frame of the dataset or of the network"
    with pytest.raises(UserError, match=words):
        arrange_frames(net, stack(7), 0)


def test_networks_that_restore_all_frames_get_them_as_they_are() -> None:
    net = SimpleNamespace(num_frame=None, reference=0, restores_all=True)
    assert order(arrange_frames(net, stack(4), None)) == [0, 1, 2, 3]


def test_all_frames_cannot_be_asked_of_a_network_that_restores_one() -> None:
    net = SimpleNamespace(num_frame=None, reference=0)
    with pytest.raises(UserError, match="restores one frame"):
        arrange_frames(net, stack(4), None)


def test_flow_goes_to_networks_that_ask_for_it() -> None:
    class Net(torch.nn.Module):
        def forward(self, lq: torch.Tensor, flow: torch.Tensor | None = None) -> object:
            return flow

    net, lq = Net(), torch.rand(2, 3, 3, 40, 32)
    assert run_network(net, lq) is None
    net.needs_flow = "DIS"
    assert torch.equal(run_network(net, lq), batch_flow("DIS", lq))
    given = torch.zeros(2, 2, 2, 2, 40, 32)
    assert run_network(net, lq, given) is given


def test_network_and_dataset_mean_the_same_frames() -> None:
    plain, doubling = SimpleNamespace(), SimpleNamespace(time_scale=2)
    check_time(plain, plain)
    check_time(doubling, doubling)
    with pytest.raises(UserError, match="1 between each two of them; use type: SpaceTimeClips"):
        check_time(doubling, plain)
    with pytest.raises(UserError, match=r"use network_g: \{type: TwoStage"):
        check_time(plain, doubling)


@pytest.mark.parametrize(
    ("num_frame", "reference", "wanted", "expected"),
    [
        (None, 0, (1, 5), (1, 5)),
        (None, 2, (2, 3), (2, 3)),
        (None, 0, None, None),
        (5, 2, (1, 5), None),
        (5, None, (1, 9), None),
        (1, 0, (1, 5), None),
    ],
)
def test_the_number_of_frames_varies_for_networks_of_any_number(
    num_frame: int | None,
    reference: int | None,
    wanted: tuple[int, int] | None,
    expected: tuple[int, int] | None,
) -> None:
    net, dataset = SimpleNamespace(num_frame=num_frame), SimpleNamespace(reference=reference)
    dataset.num_frame = 5
    assert varying_frames(net, dataset, wanted) == expected


def test_the_number_of_frames_cannot_vary() -> None:
    net = SimpleNamespace(num_frame=None)
    with pytest.raises(UserError, match=r"goes up to 6 frames but datasets\.train gives 5"):
        varying_frames(net, SimpleNamespace(num_frame=5, reference=0), (1, 6))
    with pytest.raises(UserError, match="there is no reference to keep"):
        varying_frames(net, SimpleNamespace(num_frame=5, reference=None), (1, 5))

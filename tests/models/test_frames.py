"""Selection and order of frames, and the check of a network's output."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.data.transforms.flow import batch_flow
from srtoolbox.errors import UserError
from srtoolbox.models import frames
from srtoolbox.models.frames import arrange_frames, check_time, run_network, varying_frames


def network(**declared: object) -> SimpleNamespace:
    return SimpleNamespace(scales=(4,), **declared)


def stack(num_frame: int) -> torch.Tensor:
    """(2, T, 3, 4, 4); every value is its frame's index."""
    return torch.arange(num_frame).view(1, -1, 1, 1, 1).expand(2, -1, 3, 4, 4).float()


def order(lq: torch.Tensor) -> list[int]:
    return lq[0, :, 0, 0, 0].int().tolist()


@pytest.mark.parametrize("reference", [0, 2, 4])
def test_single_image_networks_get_the_reference(reference: int) -> None:
    net = network(num_frame=1)
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
    net = network(num_frame=num_frame, reference=wanted)
    assert order(arrange_frames(net, stack(5), reference)) == expected


def test_wrong_number_of_frames() -> None:
    net = network(num_frame=5, reference=2)
    words = "takes 5 frames but the dataset gives 7; set num_frame of the dataset or of the network"
    with pytest.raises(UserError, match=words):
        arrange_frames(net, stack(7), 0)


def test_networks_that_restore_all_frames_get_them_as_they_are() -> None:
    net = network(num_frame=None, reference=0, restores_all=True)
    assert order(arrange_frames(net, stack(4), None)) == [0, 1, 2, 3]


def test_all_frames_cannot_be_asked_of_a_network_that_restores_one() -> None:
    net = network(num_frame=None, reference=0)
    with pytest.raises(UserError, match="restores one frame"):
        arrange_frames(net, stack(4), None)


def test_flow_goes_to_networks_that_ask_for_it() -> None:
    class Net(torch.nn.Module):
        scales, scale, num_frame = (1,), 1, None

        def forward(self, lq: torch.Tensor, flow: torch.Tensor | None = None) -> object:
            return {"sr": lq[:, 0], "flow": flow}

    net, lq = Net(), torch.rand(2, 3, 3, 40, 32)
    assert run_network(net, lq)["flow"] is None
    net.needs_flow = "DIS"
    assert torch.equal(run_network(net, lq)["flow"], batch_flow("DIS", lq))
    given = torch.zeros(2, 2, 2, 2, 40, 32)
    assert run_network(net, lq, given)["flow"] is given


class Returning(nn.Module):
    """Returns the result of ``make``."""

    scales, scale = (2,), 2

    def __init__(self, make: Callable[[Tensor], object], **declared: object) -> None:
        super().__init__()
        self.make, self.calls = make, 0
        for name, value in declared.items():
            setattr(self, name, value)

    def forward(self, lq: Tensor) -> object:
        self.calls += 1
        return self.make(lq)


FORWARD = Returning.forward.__code__.co_firstlineno
LQ = torch.rand(2, 3, 4, 5)
CLIP = torch.rand(2, 3, 3, 4, 5)


def enlarged(lq: Tensor, channels: int = 3) -> Tensor:
    return lq.new_zeros(*lq.shape[:-3], channels, 2 * lq.shape[-2], 2 * lq.shape[-1])


class TestOutput:
    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda lq: None, "None (is the return statement missing?)"),
            (lambda lq: (enlarged(lq), lq), "a tuple of 2"),
            (lambda lq: [enlarged(lq)], "a list of 1"),
            (lambda lq: 3.0, "a value of type float"),
            (lambda lq: {}, 'a dict without "sr" (no keys)'),
            (lambda lq: {"out": enlarged(lq), "x": 1}, "a dict without \"sr\" ('out', 'x')"),
            (lambda lq: {"sr": None}, "a dict that has None"),
            (lambda lq: {"sr": lq}, "a dict that has a tensor of shape (2, 3, 4, 5) and type"),
            (lambda lq: lq, "a tensor of shape (2, 3, 4, 5) and type float32"),
            (lambda lq: enlarged(lq)[:1], "a tensor of shape (1, 3, 8, 10) and type float32"),
            (lambda lq: enlarged(lq)[:, None], "a tensor of shape (2, 1, 3, 8, 10) and type"),
            (lambda lq: enlarged(lq, 64), "a tensor of shape (2, 64, 8, 10) and type float32"),
            (lambda lq: enlarged(lq).byte(), "a tensor of shape (2, 3, 8, 10) and type uint8"),
        ],
    )
    def test_a_wrong_one_is_named_with_its_place(
        self, make: Callable[[Tensor], object], words: str
    ) -> None:
        for _ in range(2):  # it stays wrong
            with pytest.raises(UserError) as caught:
                run_network(Returning(make), LQ)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith("Returning (")
        assert f"test_frames.py:{FORWARD}) returned {words}" in message
        assert message.endswith(
            "for an input of shape (2, 3, 4, 5); return a floating-point tensor "
            '(N, C, h·scale, w·scale) = (2, 3, 8, 10), or a dict with it under "sr"'
        )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
    def test_right_ones(self, dtype: torch.dtype) -> None:
        for make in (lambda lq: enlarged(lq.to(dtype)), lambda lq: {"sr": enlarged(lq.to(dtype))}):
            run_network(Returning(make), LQ)

    def test_raw_frames_become_rgb_or_stay_what_they_are(self) -> None:
        raw = torch.rand(1, 4, 4, 5)
        for channels in (3, 4):
            run_network(Returning(lambda lq, c=channels: enlarged(lq, c), channels=4), raw)
        with pytest.raises(UserError, match=r"= \(1, 3, 8, 10\) or \(1, 4, 8, 10\), or a dict"):
            run_network(Returning(lambda lq: enlarged(lq, 5), channels=4), raw)

    def test_declared_channels_of_the_output(self) -> None:
        lq, declared = torch.rand(1, 4, 4, 5), {"channels": 4, "out_channels": 2}
        run_network(Returning(lambda lq: enlarged(lq, 2), **declared), lq)
        with pytest.raises(UserError) as caught:
            run_network(Returning(lambda lq: enlarged(lq, 3), **declared), lq)
        assert str(caught.value).endswith(
            '= (1, 2, 8, 10), or a dict with it under "sr"; its out_channels is 2'
        )

    def test_networks_of_several_frames(self) -> None:
        run_network(Returning(lambda lq: enlarged(lq[:, 0]), num_frame=None), CLIP)
        clip = {"num_frame": None, "restores_all": True}
        run_network(Returning(enlarged, **clip), CLIP)
        run_network(
            Returning(lambda lq: enlarged(lq).repeat(1, 2, 1, 1, 1)[:, 1:], **clip, time_scale=2),
            CLIP,
        )
        words = r"tensor \(N, T', C, h·scale, w·scale\) = \(2, 3, 3, 8, 10\), or a dict"
        with pytest.raises(UserError, match=words):
            run_network(Returning(lambda lq: enlarged(lq[:, 0]), **clip), CLIP)
        with pytest.raises(UserError, match=r"= \(2, 5, 3, 8, 10\), or a dict"):
            run_network(Returning(enlarged, **clip, time_scale=2), CLIP)

    def test_it_is_checked_once_per_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        checked = []
        check = frames._check_output
        monkeypatch.setattr(
            frames, "_check_output", lambda net, *rest: (checked.append(net), check(net, *rest))
        )
        one, other = Returning(enlarged), Returning(enlarged)
        for net in (one, one, other, one, copy.deepcopy(one)):
            run_network(net, LQ)
        assert checked[:2] == [one, other] and len(checked) == 3
        assert one.calls == 3

    def test_it_keeps_no_network_alive(self) -> None:
        net = Returning(enlarged)
        run_network(net, LQ)
        gone = weakref.ref(net)
        del net
        gc.collect()
        assert gone() is None

    def test_compiled_networks(self) -> None:
        net = Returning(enlarged)
        net.compile(backend="eager")
        for _ in range(3):
            assert run_network(net, LQ).shape == (2, 3, 8, 10)
        wrong = Returning(lambda lq: (lq,))
        wrong.compile(backend="eager")
        with pytest.raises(UserError, match="returned a tuple of 1"):
            run_network(wrong, LQ)


def test_network_and_dataset_mean_the_same_frames() -> None:
    plain, doubling = network(), network(time_scale=2)
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
    net, dataset = network(num_frame=num_frame), SimpleNamespace(reference=reference)
    dataset.num_frame = 5
    assert varying_frames(net, dataset, wanted) == expected


def test_the_number_of_frames_cannot_vary() -> None:
    net = network(num_frame=None)
    with pytest.raises(UserError, match=r"goes up to 6 frames but datasets\.train gives 5"):
        varying_frames(net, SimpleNamespace(num_frame=5, reference=0), (1, 6))
    with pytest.raises(UserError, match="there is no reference to keep"):
        varying_frames(net, SimpleNamespace(num_frame=5, reference=None), (1, 5))

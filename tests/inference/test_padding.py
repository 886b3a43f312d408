"""Padding to a network's needs and cropping back changes nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.errors import UserError
from srtoolbox.inference.padding import accepts_size, run_padded
from srtoolbox.inference.prediction import predict


class Needy(nn.Module):
    """Repeats every pixel; fails unless the input has the size that it asks for."""

    scales = (2, 3, 4)

    def __init__(
        self,
        scale: int = 2,
        multiple: int = 4,
        smallest: int = 16,
        num_frame: int | None = 1,
        named: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.size_multiple, self.min_size = scale, multiple, smallest
        self.num_frame, self.reference, self.named = num_frame, 0, named
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, lq: Tensor) -> Tensor | dict[str, Tensor]:
        for side in lq.shape[-2:]:
            assert side % self.size_multiple == 0
            assert side >= self.min_size
        self.sizes.append(tuple(lq.shape))
        self.seen = lq
        image = lq if self.num_frame == 1 else lq[:, self.reference]
        sr = image.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)
        return {"sr": sr, "other": lq} if self.named else sr


def enlarge(image: Tensor, scale: int) -> Tensor:
    return image.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


@pytest.mark.parametrize("size", [(1, 1), (5, 33), (16, 16), (17, 15), (20, 36), (31, 2)])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("named", [False, True])
def test_any_size(size: tuple[int, int], scale: int, named: bool) -> None:
    lq = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(run_padded(Needy(scale, named=named), lq), enlarge(lq, scale))


def test_stacks_of_frames() -> None:
    lq = torch.rand(2, 5, 3, 9, 18, generator=torch.Generator().manual_seed(0))
    net = Needy(num_frame=None)
    assert torch.equal(run_padded(net, lq), enlarge(lq[:, 0], 2))
    assert net.sizes == [(2, 5, 3, 16, 20)]
    for t in range(5):  # frames are not mixed up
        assert torch.equal(net.seen[:, t, :, :9, :18], lq[:, t])


def test_the_edge_is_repeated() -> None:
    net = Needy()
    lq = torch.rand(1, 3, 15, 18, generator=torch.Generator().manual_seed(0))
    run_padded(net, lq)
    assert torch.equal(net.seen[..., :15, 18:], lq[..., -1:].expand(-1, -1, -1, 2))
    assert torch.equal(net.seen[..., 15:, :18], lq[..., -1:, :])
    assert (net.seen[..., 15:, 18:] == lq[..., -1:, -1:]).all()


def test_fitting_inputs_are_not_copied() -> None:
    net = Needy()
    lq = torch.rand(1, 3, 16, 20)
    run_padded(net, lq)
    assert net.seen is lq


def test_min_size_that_is_no_multiple() -> None:
    net = Needy(multiple=4, smallest=10)
    run_padded(net, torch.rand(1, 3, 3, 13))
    assert net.sizes == [(1, 3, 12, 16)]


@pytest.mark.parametrize(("length", "fit"), [(16, True), (20, True), (12, False), (18, False)])
def test_fits(length: int, fit: bool) -> None:
    assert accepts_size(Needy(), length) is fit


def test_predict_arranges_frames_and_keeps_no_graph() -> None:
    lq = torch.rand(1, 3, 3, 7, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.equal(predict(Needy(), lq, 2), enlarge(lq[:, 2], 2))
    assert torch.equal(predict(Needy(num_frame=3), lq, 1), enlarge(lq[:, 1], 2))
    assert not predict(Needy(), lq).requires_grad


def test_square_networks_get_square_inputs() -> None:
    net, lq = Needy(), torch.rand(1, 3, 5, 33, generator=torch.Generator().manual_seed(0))
    net.square = True
    assert torch.equal(run_padded(net, lq), enlarge(lq, 2))
    assert net.sizes == [(1, 3, 36, 36)]


@pytest.mark.parametrize("size", [(15, 18), (9, 30), (16, 20)])
def test_the_image_is_mirrored_where_the_network_declares_it(size: tuple[int, int]) -> None:
    net = Needy()
    net.pad_mode = "reflect"
    lq = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(run_padded(net, lq), enlarge(lq, 2))
    bottom, right = (have - given for have, given in zip(net.seen.shape[-2:], size, strict=True))
    assert torch.equal(net.seen, torch.nn.functional.pad(lq, (0, right, 0, bottom), mode="reflect"))


def test_a_small_image_is_mirrored_several_times() -> None:
    net = Needy(num_frame=None)
    net.pad_mode = "reflect"
    lq = torch.arange(3.0).expand(1, 2, 3, 1, 3) / 10
    assert run_padded(net, lq).shape == (1, 3, 2, 6)
    row = torch.tensor([0, 1, 2, 1] * 4) / 10
    assert torch.equal(net.seen, row.expand(1, 2, 3, 16, 16))


def test_another_pad_mode_is_refused() -> None:
    net = Needy()
    net.pad_mode = "zeros"
    with pytest.raises(UserError, match="'pad_mode' must be one of replicate, refl"):
        run_padded(net, torch.rand(1, 3, 4, 4))

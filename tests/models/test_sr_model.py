"""The regression model: inputs of network and losses, and names of losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.errors import UserError
from srtoolbox.losses import AlignmentLoss, L1Loss, Loss, MSELoss, TemporalConsistencyLoss
from srtoolbox.models import LossSchedule, SRModel
from srtoolbox.registry import MODEL_REGISTRY


class Nearest(nn.Module):
    scales, num_frame, reference, scale, restores_all = (2,), 1, 0, 2, False

    def __init__(self, named: bool = False) -> None:
        super().__init__()
        self.named, self.gain = named, nn.Parameter(torch.ones(()))

    def forward(self, lq: Tensor) -> Tensor | dict[str, Tensor]:
        sr = self.gain * lq.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return {"sr": sr, "features": lq} if self.named else sr


class NearestClip(Nearest):
    """Restores all frames."""

    num_frame, restores_all = None, True


def batch() -> dict[str, Tensor]:
    lq = torch.rand(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    gt = lq[:, 1].repeat_interleave(2, -1).repeat_interleave(2, -2)
    return {"lq": lq, "gt": gt, "key": ["a", "b"]}


def clips() -> dict[str, Tensor]:
    lq = batch()["lq"]
    return {"lq": lq, "gt": lq.repeat_interleave(2, -1).repeat_interleave(2, -2)}


def test_it_is_registered_and_has_one_phase() -> None:
    assert MODEL_REGISTRY.get("SRModel") is SRModel
    net = Nearest()
    model = SRModel(net, {})
    assert model.phases == ("g",)
    assert model.networks == {"g": net}


def test_the_reference_frame_is_compared() -> None:
    for named in (False, True):
        exact = SRModel(Nearest(named), {"l_pix": L1Loss()}, reference=1)
        assert exact.objective("g", batch())["l_pix"].item() == 0
        other = SRModel(Nearest(named), {"l_pix": L1Loss()}, reference=0)
        assert other.objective("g", batch())["l_pix"].item() > 0


def test_losses_keep_their_names_and_gradients() -> None:
    net = Nearest()
    losses = {"l_pix": L1Loss(loss_weight=2.0), "l_sq": MSELoss()}
    values = SRModel(net, losses, reference=0).objective("g", batch())
    assert list(values) == ["l_pix", "l_sq"]
    sum(values.values()).backward()
    assert net.gain.grad is not None


def test_losses_do_not_see_the_border() -> None:
    for data, net, reference in ((batch(), Nearest(), 1), (clips(), NearestClip(), None)):
        gt = data["gt"] = data["gt"].clone()
        gt[..., :2, :] += 0.5
        gt[..., -2:] -= 0.5
        values = [
            SRModel(net, {"l_pix": L1Loss()}, reference, loss_crop_border=border).objective(
                "g", data
            )["l_pix"]
            for border in (0, 1, 2)
        ]
        assert values[0] > values[2] == 0
        assert values[1] > 0
        model = SRModel(net, {"l_pix": L1Loss()}, reference, loss_crop_border=4)
        with pytest.raises(UserError, match=r"cropping 4 pixels per side leaves no pixel .* 8×8"):
            model.objective("g", data)


def test_losses_get_what_they_ask_for() -> None:
    class Spy(Loss):
        inputs = ("aux", "frames", "lq", "gt", "sr")

        def forward(self, *views: object) -> Tensor:
            self.seen = views
            return torch.zeros(())

    spy, data = Spy(), batch()
    SRModel(Nearest(named=True), {"l": spy}, reference=1).objective("g", data)
    aux, frames, lq, gt, sr = spy.seen
    assert list(aux) == ["features"]
    assert torch.equal(frames, data["lq"])
    assert torch.equal(lq, data["lq"][:, 1])
    assert torch.equal(gt, data["gt"])
    assert torch.equal(sr, data["gt"])


def test_a_loss_of_a_plugin_needs_no_base_class() -> None:
    model = SRModel(Nearest(), {"l": nn.L1Loss()}, reference=1)
    assert model.objective("g", batch())["l"].item() == 0


def test_clips() -> None:
    losses = {"l_pix": L1Loss(), "l_time": TemporalConsistencyLoss()}
    model = SRModel(NearestClip(), losses, reference=None)
    values = model.objective("g", clips())
    assert {name: value.item() for name, value in values.items()} == {"l_pix": 0, "l_time": 0}
    model = SRModel(NearestClip(), {"l_align": AlignmentLoss()}, reference=None)
    with pytest.raises(UserError, match=r"losses.l_align: AlignmentLoss needs lq; here there are"):
        model.objective("g", clips())


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 1, 8, 8), (2, 3, 3, 8, 8), (1, 3, 8, 8)])
def test_shapes_must_agree(shape: tuple[int, ...]) -> None:
    model = SRModel(Nearest(), {"l": nn.L1Loss()})
    with pytest.raises(UserError) as caught:
        model.objective("g", {**batch(), "gt": torch.zeros(shape)})
    assert f"sr is (2, 3, 8, 8) but gt is {shape}" in str(caught.value)


def test_losses_that_do_not_count_are_not_computed() -> None:
    class Counted(L1Loss):
        calls = 0

        def value(self, sr: Tensor, gt: Tensor) -> Tensor:
            self.calls += 1
            return super().value(sr, gt)

    late = Counted()
    model = SRModel(
        Nearest(), {"a": MSELoss(), "b": late}, 0, {"b": LossSchedule(start=2, warmup=2, stop=5)}
    )
    values = [model.objective("g", batch(), step) for step in range(6)]
    assert ["b" in value for value in values] == [False, False, True, True, True, False]
    assert late.calls == 3
    assert values[2]["b"].item() == pytest.approx(values[3]["b"].item() / 2)
    assert values[3]["b"].item() == values[4]["b"].item()


def test_losses_are_in_fp32_under_autocast() -> None:
    class Multiplied(Loss):
        def value(self, sr: Tensor, gt: Tensor) -> Tensor:
            product = sr.flatten(1) @ gt.flatten(1).T
            assert product.dtype == torch.float32
            return product.mean()

    model = SRModel(Nearest(), {"l": Multiplied()}, reference=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.objective("g", batch())["l"].dtype == torch.float32


def test_a_batch_may_say_where_its_reference_is() -> None:
    """Three of five frames are left; the reference is the second of them."""
    model = SRModel(Nearest(), {"l_pix": L1Loss()}, reference=2)
    assert model.objective("g", {**batch(), "reference": 1})["l_pix"].item() == 0
    assert model.objective("g", batch())["l_pix"].item() > 0

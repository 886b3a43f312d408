"""Masks: pixels that do not count, in every registered loss and in both models."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.errors import ComponentError, UserError
from srtoolbox.losses import (
    AlignmentLoss,
    CharbonnierLoss,
    GradientWeightedLoss,
    L1Loss,
    Loss,
    LPIPSLoss,
    MSELoss,
    PerceptualLoss,
    PSNRLoss,
    TemporalConsistencyLoss,
)
from srtoolbox.losses.perceptual import VGG19_LAYERS, load_vgg19
from srtoolbox.models import GANModel, GANOptions, SRModel
from srtoolbox.registry import LOSS_REGISTRY
from srtoolbox.utils.imagenet import VGG19

SIDE = 24
PERCEPTUAL = ("PerceptualLoss", "LPIPSLoss")
EXACT = (L1Loss, MSELoss, CharbonnierLoss, PSNRLoss, GradientWeightedLoss, TemporalConsistencyLoss)


class Shown(nn.Module):
    """A network whose output is its only parameter, so that a test sets every pixel of it."""

    scales, num_frame, reference, scale, restores_all = (1,), 1, 0, 1, False

    def __init__(self, sr: Tensor, clip: bool = False) -> None:
        super().__init__()
        self.sr = nn.Parameter(sr.clone())
        if clip:
            self.num_frame, self.restores_all = None, True

    def forward(self, lq: Tensor) -> dict[str, Tensor]:
        aligned = self.sr[:, None].repeat(1, 2, 1, 1, 1) if self.sr.ndim == 4 else self.sr
        return {"sr": self.sr * 1, "aligned": aligned}


class Bare(nn.Module):
    """A loss of a plugin that knows nothing of masks."""

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        return (sr.mean((2, 3)) - gt.mean((2, 3))).abs().sum()


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def random_vgg(folder: Path) -> Path:
    state, channels = {}, [3, 64, 64, 128]
    for (num_in, num_out), layer in zip(
        pairwise(channels), ("conv1_1", "conv1_2", "conv2_1"), strict=True
    ):
        name = f"features.{VGG19_LAYERS[layer]}"
        state[f"{name}.weight"] = rand(num_out, num_in, 3, 3, seed=num_out) * 0.1 - 0.05
        state[f"{name}.bias"] = torch.zeros(num_out)
    file = folder / VGG19.file
    torch.save(state, file)
    return file


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_vgg(tmp_path_factory.mktemp("vgg"))


def build(name: str, vgg: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Builds a registered loss; those on features get networks with random weights."""
    if name == "PerceptualLoss":
        return PerceptualLoss(layers={"conv2_1": 1.0}, weights=vgg)
    if name == "LPIPSLoss":
        conv = nn.Conv2d(3, 4, 5).requires_grad_(False)
        monkeypatch.setattr("srtoolbox.losses.perceptual.lpips_lacks", lambda *_: None)
        monkeypatch.setattr(
            "srtoolbox.losses.perceptual.lpips_network",
            lambda *_: lambda sr, gt, normalize: (conv(sr) - conv(gt)).square(),
        )
        return LPIPSLoss()
    return LOSS_REGISTRY.get(name)()


def batch(clip: bool, channels: int, valid: Tensor | None) -> dict[str, object]:
    time = (3,) if clip else ()
    return {
        "lq": rand(2, 3, channels, SIDE, SIDE, seed=5),
        "gt": rand(2, *time, channels, SIDE, SIDE, seed=2),
        "key": ["a", "b"],
        **({} if valid is None else {"mask": valid}),
    }


def random_mask(clip: bool) -> Tensor:
    return rand(2, *((3,) if clip else ()), 1, SIDE, SIDE, seed=9) > 0.3


def value_and_gradient(
    loss: nn.Module, sr: Tensor, data: dict[str, object], border: int = 0
) -> tuple[Tensor, Tensor]:
    clip = sr.ndim == 5
    net = Shown(sr, clip)
    model = SRModel(net, {"l": loss}, None if clip else 1, loss_crop_border=border)
    value = model.objective("g", data)["l"]
    if value.requires_grad:
        value.backward()
    gradient = torch.zeros_like(sr) if net.sr.grad is None else net.sr.grad
    return value.detach(), gradient


NAMES = [name for name in LOSS_REGISTRY.names() if name != "AlignmentLoss"]


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", [*NAMES, "plugin"])
def test_masked_pixels_change_nothing(
    name: str, channels: int, vgg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in PERCEPTUAL and channels != 3:
        pytest.skip("needs RGB images")
    loss = Bare() if name == "plugin" else build(name, vgg, monkeypatch)
    clip = name == "TemporalConsistencyLoss"
    valid = random_mask(clip)
    data, sr = batch(clip, channels, valid), rand(2, *((3,) if clip else ()), channels, SIDE, SIDE)
    value, gradient = value_and_gradient(loss, sr, data)
    assert gradient.isfinite().all() and gradient.any()
    assert not gradient[~valid.expand_as(gradient)].any()
    for other in (
        rand(*sr.shape, seed=7),
        torch.full_like(sr, 1e9),
        torch.full_like(sr, torch.nan),
    ):
        again = value_and_gradient(loss, sr.where(valid, other), data)
        assert torch.equal(value, again[0]) and torch.equal(gradient, again[1])
    # All pixels are masked: there is nothing to learn, and nothing breaks.
    none = batch(clip, channels, torch.zeros_like(valid))
    value, gradient = value_and_gradient(loss, sr, none)
    assert value.item() == 0 and not gradient.any()
    # Without a mask, all pixels count as before.
    value, _ = value_and_gradient(loss, sr, batch(clip, channels, None))
    assert torch.equal(value, loss(sr, data["gt"]).detach())


@pytest.mark.parametrize("loss", EXACT)
def test_the_ground_truth_below_a_mask_changes_nothing(loss: type[Loss]) -> None:
    clip = loss is TemporalConsistencyLoss
    valid = random_mask(clip)
    data, sr = batch(clip, 4, valid), rand(2, *((3,) if clip else ()), 4, SIDE, SIDE)
    value, gradient = value_and_gradient(loss(), sr, data)
    data["gt"] = data["gt"].where(valid, rand(*sr.shape, seed=11))
    again = value_and_gradient(loss(), sr, data)
    assert torch.equal(value, again[0]) and torch.equal(gradient, again[1])


def slow(reduce: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda sr, gt, valid: reduce((sr - gt)[valid.expand_as(sr)])


def slow_psnr(sr: Tensor, gt: Tensor, valid: Tensor) -> Tensor:
    values = []
    for image, truth, mask in zip(sr, gt, valid, strict=True):
        if mask.any():
            error = (image - truth)[mask.expand_as(image)].square().mean()
            values.append(10 * torch.log10(error + 1e-8))
    return torch.stack(values).mean()


def slow_temporal(sr: Tensor, gt: Tensor, valid: Tensor) -> Tensor:
    values = []
    for time in range(sr.shape[1] - 1):
        both = (valid[:, time] & valid[:, time + 1]).expand_as(sr[:, 0])
        values.append((sr[:, time + 1] - sr[:, time] - gt[:, time + 1] + gt[:, time])[both].abs())
    return torch.cat(values).mean()


SLOW = {
    "l1": (L1Loss(), slow(lambda x: x.abs().mean())),
    "l1 sum": (L1Loss(reduction="sum"), slow(lambda x: x.abs().sum())),
    "mse": (MSELoss(0.5), slow(lambda x: x.square().mean() / 2)),
    "charbonnier": (CharbonnierLoss(eps=1e-3), slow(lambda x: (x**2 + 1e-3).sqrt().mean())),
    "charbonnier without eps": (CharbonnierLoss(eps=0.0), slow(lambda x: x.abs().mean())),
    "psnr": (PSNRLoss(), slow(lambda x: 10 * torch.log10(x.square().mean() + 1e-8))),
    "psnr of images": (PSNRLoss(over="image"), slow_psnr),
    "temporal": (TemporalConsistencyLoss(), slow_temporal),
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("channels", [1, 4])
def test_exact_weighting(name: str, clip: bool, channels: int) -> None:
    loss, reference = SLOW[name]
    if name == "temporal" and not clip:
        pytest.skip("compares frames")
    valid = random_mask(clip)
    valid[0, ..., : SIDE // 2] = False
    data, sr = batch(clip, channels, valid), rand(2, *((3,) if clip else ()), channels, SIDE, SIDE)
    gt = data["gt"]
    value, gradient = value_and_gradient(loss, sr, data)
    pixels = sr.clone().requires_grad_()
    stacks = (pixels, gt, valid)
    if name == "psnr of images" and clip:
        stacks = tuple(stack.flatten(0, 1) for stack in stacks)
    expected = reference(*stacks)
    expected.backward()
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, pixels.grad)


def test_an_image_without_valid_pixels_is_left_out() -> None:
    valid = torch.ones(2, 1, SIDE, SIDE, dtype=torch.bool)
    valid[1] = False
    data, sr = batch(False, 3, valid), rand(2, 3, SIDE, SIDE)
    for loss in (PSNRLoss(over="image"), PSNRLoss(), L1Loss()):
        value, gradient = value_and_gradient(loss, sr, data)
        torch.testing.assert_close(value, loss(sr[:1], data["gt"][:1]))
        assert gradient[0].any() and not gradient[1].any()


def test_gradient_weighted_loss_sees_zeros_below_a_mask() -> None:
    """Masked differences are zeros, as those beyond the border: a cropped image has this loss."""
    valid = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool)
    valid[..., 5:20, 4:21] = True
    data, sr = batch(False, 2, valid), rand(2, 2, SIDE, SIDE)
    value, _ = value_and_gradient(GradientWeightedLoss(), sr, data)
    inside = (..., slice(5, 20), slice(4, 21))
    torch.testing.assert_close(value, GradientWeightedLoss()(sr[inside], data["gt"][inside]))


def test_a_mask_is_cropped_with_the_images() -> None:
    valid = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool)
    valid[..., :8, :8] = True
    data, sr = batch(False, 3, valid), rand(2, 3, SIDE, SIDE)
    value, _ = value_and_gradient(L1Loss(), sr, data, border=4)
    expected = (sr - data["gt"])[..., 4:8, 4:8].abs().mean()
    torch.testing.assert_close(value, expected)


def test_alignment_compares_lr_frames_and_ignores_the_mask() -> None:
    data, sr = batch(False, 3, random_mask(False)), rand(2, 3, SIDE, SIDE)
    values = []
    for given in (data, batch(False, 3, None)):
        values.append(value_and_gradient(AlignmentLoss(), sr, given))
    assert torch.equal(values[0][0], values[1][0]) and torch.equal(values[0][1], values[1][1])


def test_a_subclass_that_does_not_know_the_mask() -> None:
    class Halved(L1Loss):
        def value(self, sr: Tensor, gt: Tensor) -> Tensor:
            return super().value(sr, gt) / 2

    class Renamed(L1Loss):
        """Inherits everything."""

    assert (L1Loss.takes_mask, Halved.takes_mask, Renamed.takes_mask) == (True, False, True)
    valid = random_mask(False)
    data, sr = batch(False, 3, valid), rand(2, 3, SIDE, SIDE)
    value, gradient = value_and_gradient(Halved(), sr, data)
    expected = (sr - data["gt"]).where(valid, 0).abs().mean() / 2
    torch.testing.assert_close(value, expected)
    assert not gradient[~valid.expand_as(gradient)].any()


@pytest.mark.parametrize(
    "mask", [torch.ones(2, 3, SIDE, SIDE, dtype=torch.bool), torch.ones(2, 1, SIDE, SIDE)]
)
def test_a_wrong_mask_is_named(mask: Tensor) -> None:
    model = SRModel(Shown(rand(2, 3, SIDE, SIDE)), {"l": L1Loss()}, 1)
    with pytest.raises(
        ComponentError, match=r"the dataset gives a mask .* must be \(2, 1, 24, 24\)"
    ):
        model.objective("g", batch(False, 3, mask))


@pytest.mark.parametrize("gan_type", ["vanilla", "lsgan", "hinge", "wgan-gp"])
@pytest.mark.parametrize("relativistic", [False, True])
def test_masked_pixels_do_not_reach_the_discriminator(gan_type: str, relativistic: bool) -> None:
    if gan_type == "wgan-gp" and relativistic:
        pytest.skip("compares means already")
    valid = random_mask(False)
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(4, 6, 3), nn.LeakyReLU(0.2), nn.Conv2d(6, 1, 3))
    gan = GANOptions(gan_type=gan_type, relativistic=relativistic, loss_weight=1.0)

    def step(sr: Tensor) -> list[Tensor]:
        net = Shown(sr)
        model = GANModel(net, {"l_pix": L1Loss()}, critic, gan, reference=1)
        data, memo, seen = batch(False, 4, valid), {}, []
        for phase in ("g", "d"):
            critic.zero_grad()
            torch.manual_seed(1)
            losses = model.objective(phase, data, memo=memo)
            sum(losses.values()).backward()
            seen += [*losses.values()]
        seen += [net.sr.grad, *(weight.grad for weight in critic.parameters())]
        torch.manual_seed(1)
        return [*seen, *model.objective("d", data).values()]  # phase "g" made no step

    sr = rand(2, 4, SIDE, SIDE)
    first = step(sr)
    second = step(sr.where(valid, rand(*sr.shape, seed=3)))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    gradient = next(tensor for tensor in first if tensor.shape == sr.shape)
    assert gradient.any() and not gradient[~valid.expand_as(gradient)].any()


class TestBands:
    """Losses on features of RGB images take three chosen bands."""

    @pytest.fixture(autouse=True)
    def _clear(self):
        yield
        load_vgg19.cache_clear()

    @pytest.mark.parametrize("name", PERCEPTUAL)
    def test_three_bands_are_chosen(self, name: str, vgg: Path, monkeypatch) -> None:
        rgb = build(name, vgg, monkeypatch)
        loss = build(name, vgg, monkeypatch)
        loss.bands = [3, 2, 1]
        sr, gt = rand(2, 5, SIDE, SIDE), rand(2, 5, SIDE, SIDE, seed=1)
        assert torch.equal(loss(sr, gt), rgb(sr[:, [2, 1, 0]], gt[:, [2, 1, 0]]))
        loss.bands = [1, 1, 1]
        grey = [image[:, :1] for image in (sr, gt)]
        assert torch.equal(loss(*grey), rgb(*(image.repeat(1, 3, 1, 1) for image in grey)))

    @pytest.mark.parametrize("name", PERCEPTUAL)
    def test_other_channels_are_refused(self, name: str, vgg: Path, monkeypatch) -> None:
        loss = build(name, vgg, monkeypatch)
        loss.check_channels(3)
        with pytest.raises(
            UserError, match=rf"{name}: needs RGB .* 4 channels.* bands: \[3, 2, 1\]"
        ):
            loss.check_channels(4)
        with pytest.raises(UserError, match=r"got 1 channels.*bands: \[1, 1, 1\]"):
            loss.check_channels(1)
        with pytest.raises(UserError, match="needs RGB images, got 4 channels"):
            loss(*rand(2, 1, 4, SIDE, SIDE))
        loss.bands = [8, 3, 2]
        with pytest.raises(UserError, match="names band 8, but the images have 4 channels"):
            loss.check_channels(4)
        loss.check_channels(8)

    @pytest.mark.parametrize("bands", [[1, 2], [], [0, 1, 2], [1, 2, 3, 4]])
    def test_bands_are_three_numbers(self, bands: list[int], vgg: Path) -> None:
        with pytest.raises(UserError, match="PerceptualLoss: bands must be three numbers from 1"):
            PerceptualLoss(weights=vgg, bands=bands)
        with pytest.raises(UserError, match="LPIPSLoss: bands must be three numbers from 1"):
            LPIPSLoss(bands=bands)

    def test_bands_are_a_part_of_what_is_trained(self) -> None:
        assert LPIPSLoss.identity({"type": "LPIPSLoss"}) == {"type": "LPIPSLoss"}
        assert LPIPSLoss.identity({"bands": [1, 2, 3]})["bands"] == [1, 2, 3]


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in (*PERCEPTUAL, "TemporalConsistencyLoss")]
)
def test_any_number_of_bands(name: str, channels: int) -> None:
    """A loss that treats all bands alike has the same value for repeated bands."""
    loss = LOSS_REGISTRY.get(name)()
    sr, gt = rand(1, 1, SIDE, SIDE), rand(1, 1, SIDE, SIDE, seed=1)
    repeated = (sr.repeat(1, channels, 1, 1), gt.repeat(1, channels, 1, 1))
    torch.testing.assert_close(loss(*repeated), loss(sr, gt), rtol=1e-5, atol=1e-6)
    assert math.isfinite(loss(*rand(2, 2, channels, SIDE, SIDE)).item())


def test_without_a_mask_no_work_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors that losses get are those of the network and the batch, not copies."""
    seen = []

    class Spy(Loss):
        def forward(self, *views: Tensor) -> Tensor:
            seen.append(views)
            return F.l1_loss(*views)

    data = batch(False, 3, None)
    SRModel(Shown(rand(2, 3, SIDE, SIDE)), {"l": Spy()}, 1).objective("g", data)
    ((sr, gt),) = seen
    assert gt is data["gt"]
    assert sr.grad_fn.name() == "MulBackward0"

"""The adversarial model: the network that each phase changes, and its losses."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs import ISRDiscriminator, UNetDiscriminatorSN, VGGStyleDiscriminator
from srtoolbox.config.files import read
from srtoolbox.config.schema import OptionErrors, check
from srtoolbox.errors import UserError
from srtoolbox.losses import L1Loss
from srtoolbox.models import GANModel, GANOptions, LossSchedule
from srtoolbox.registry import MODEL_REGISTRY

LAST_BIAS = {
    VGGStyleDiscriminator: "classifier.2.bias",
    UNetDiscriminatorSN: "conv_last.bias",
    ISRDiscriminator: "score.bias",
}
GAN_TYPES = ["vanilla", "lsgan", "hinge", "wgan-gp"]


class Upscaler(nn.Module):
    scales, num_frame, reference, scale, restores_all = (2,), 1, 0, 2, False

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.calls = nn.Conv2d(3, 12, 3, padding=1), 0

    def forward(self, lq: Tensor) -> Tensor:
        self.calls += 1
        return F.pixel_shuffle(self.conv(lq), 2) + F.interpolate(lq, scale_factor=2)


class ClipUpscaler(Upscaler):
    num_frame, restores_all = None, True

    def forward(self, lq: Tensor) -> Tensor:
        return super().forward(lq.flatten(0, 1)).unflatten(0, lq.shape[:2])


class Critic(nn.Sequential):
    """A small discriminator with or without batch norm."""

    def __init__(self, norm: bool = True) -> None:
        layers = [nn.Conv2d(3, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)]
        super().__init__(*layers[: 1 + norm], layers[2], nn.Conv2d(8, 1, 3, padding=1))


def batch(n: int = 4) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    lq, gt = torch.rand(n, 1, 3, 16, 16, generator=generator), None
    gt = F.interpolate(lq[:, 0], scale_factor=2)
    gt = (gt + 0.3 * torch.rand(gt.shape, generator=generator)).clamp(0, 1)
    return {"lq": lq, "gt": gt, "key": [str(i) for i in range(n)]}


def make(net_d: nn.Module | None = None, **gan: object) -> GANModel:
    torch.manual_seed(0)
    net_d = net_d or Critic(norm=gan.get("gan_type") != "wgan-gp")
    model = GANModel(Upscaler(), {"l_pix": L1Loss()}, net_d, GANOptions(**gan))
    for net in model.networks.values():
        net.train()
    return model


def snapshot(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
@pytest.mark.parametrize("norm_in_g", ["batch", "running"])
@pytest.mark.parametrize("relativistic", [False, True])
@pytest.mark.parametrize(
    "make_d",
    [
        lambda: VGGStyleDiscriminator(32, num_feat=4),
        lambda: UNetDiscriminatorSN(num_feat=4),
        ISRDiscriminator,
    ],
)
def test_each_phase_reaches_its_network_alone(make_d, relativistic: bool, norm_in_g: str) -> None:
    torch.manual_seed(1)
    model = make(make_d(), relativistic=relativistic, norm_in_g=norm_in_g, loss_weight=1.0)
    net_g, net_d = model.networks["g"], model.networks["d"]
    before = snapshot(net_d)
    losses = model.objective("g", batch())
    assert list(losses) == ["l_pix", "l_adv"]
    losses["l_adv"].backward()
    assert all(p.grad is not None and p.grad.any() for p in net_g.parameters())
    assert all(p.grad is None and p.requires_grad for p in net_d.parameters())
    assert same(before, snapshot(net_d)), "phase g changed the discriminator"
    assert all(module.training for module in net_d.modules())

    net_g.zero_grad(set_to_none=True)
    before = snapshot(net_g)
    losses = model.objective("d", batch())
    assert list(losses) == ["l_d_real", "l_d_fake"]
    sum(losses.values()).backward()
    assert all(p.grad is None for p in net_g.parameters())
    # What shifts all scores alike does not count where they are compared with each other.
    silent = {k for k, p in net_d.named_parameters() if p.grad is None or not p.grad.any()}
    assert not silent or (relativistic and silent <= {LAST_BIAS[type(net_d)]})
    assert same(before, snapshot(net_g)), "phase d changed the generator"


def test_running_averages_in_the_generators_phase() -> None:
    """As in ISR: the discriminator uses its statistics of evaluation."""
    model = make(norm_in_g="running", loss_weight=1.0)
    net_g, net_d = model.networks["g"], model.networks["d"]
    net_d(torch.rand(8, 3, 32, 32))
    value = model.objective("g", batch())["l_adv"]
    judge = copy.deepcopy(net_d).eval()
    score = judge(net_g(batch()["lq"][:, 0]))
    torch.testing.assert_close(value, F.softplus(-score).mean())
    model = make(norm_in_g="batch", loss_weight=1.0)
    net_d = model.networks["d"]
    value = model.objective("g", batch())["l_adv"]
    score = copy.deepcopy(net_d).train()(model.networks["g"](batch()["lq"][:, 0]))
    torch.testing.assert_close(value, F.softplus(-score).mean())


def test_adversarial_weight() -> None:
    light, heavy = (make(loss_weight=w).objective("g", batch())["l_adv"] for w in (0.005, 0.5))
    torch.testing.assert_close(100 * light, heavy)


def test_the_generator_runs_once_per_step() -> None:
    model, data = make(), batch()
    net_g = model.networks["g"]
    parts = list(zip(data["lq"].chunk(2), data["gt"].chunk(2), strict=True))
    for step in range(2):
        memos = [{} for _ in parts]
        for phase in model.phases:
            for (lq, gt), memo in zip(parts, memos, strict=True):
                model.objective(phase, {"lq": lq, "gt": gt, "key": []}, step, memo)
        assert net_g.calls == 2 * (step + 1)
        assert memos == [{}, {}], "the results are kept although nobody needs them"


def test_the_discriminator_sees_what_the_generator_made() -> None:
    model, data = make(), batch()
    seen: list[Tensor] = []
    model.networks["d"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    memo: dict[str, Tensor] = {}
    model.objective("g", data, 0, memo)
    judged = seen[-1]
    assert judged.requires_grad
    assert not memo["sr"].requires_grad
    with torch.no_grad():
        for parameter in model.networks["g"].parameters():
            parameter.add_(1.0)  # phase "g" ends with a step of its optimizer
    model.objective("d", data, 0, memo)
    real, fake = seen[-2:]
    assert torch.equal(real, data["gt"])
    assert torch.equal(fake, judged) and not fake.requires_grad


def test_without_a_result_the_generator_runs_in_the_discriminators_phase() -> None:
    model, data = make(), batch()
    model.objective("g", data, 0, {})
    seen: list[Tensor] = []
    model.networks["d"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    other = {**data, "lq": data["lq"].flip(0).clone(), "gt": data["gt"].flip(0)}
    with torch.no_grad():
        expected = model.networks["g"](other["lq"][:, 0])
    for memo in ({}, None):
        model.objective("d", other, 0, memo)
        assert torch.equal(seen[-1], expected)
        assert not seen[-1].requires_grad


def test_the_discriminator_may_begin_alone() -> None:
    model = make(net_d_init_iter=2)
    assert model.objective("g", batch(), 1) == {}
    assert set(model.objective("d", batch(), 1)) == {"l_d_real", "l_d_fake"}
    assert set(model.objective("g", batch(), 2)) == {"l_pix", "l_adv"}


def test_losses_are_scheduled_as_in_regression() -> None:
    schedule = {"l_pix": LossSchedule(start=3)}
    model = GANModel(Upscaler(), {"l_pix": L1Loss()}, Critic(), loss_schedule=schedule)
    assert set(model.objective("g", batch(), 0)) == {"l_adv"}
    assert set(model.objective("g", batch(), 3)) == {"l_pix", "l_adv"}


def test_gradient_penalty() -> None:
    model = make(gan_type="wgan-gp", gp_weight=10.0)
    model.objective("g", batch())
    torch.manual_seed(2)
    losses = model.objective("d", batch())
    assert list(losses) == ["l_d_real", "l_d_fake", "l_d_gp"]
    losses["l_d_gp"].backward()
    assert model.networks["d"][0].weight.grad.any()
    torch.manual_seed(2)
    again = model.objective("d", batch())
    assert torch.equal(again["l_d_gp"], losses["l_d_gp"])
    with pytest.raises(UserError, match=r"wgan-gp: VGGStyleDiscriminator normalises over"):
        make(VGGStyleDiscriminator(32, num_feat=4), gan_type="wgan-gp")
    for critic in (VGGStyleDiscriminator(32, num_feat=4, norm="none"), UNetDiscriminatorSN(3, 4)):
        values = make(critic, gan_type="wgan-gp").objective("d", batch())
        values["l_d_gp"].backward()
        assert values["l_d_gp"].isfinite()


@pytest.mark.parametrize(
    ("gan_type", "relativistic", "precision"),
    [
        *((gan_type, False, torch.float32) for gan_type in GAN_TYPES),
        ("vanilla", True, torch.float32),
        ("vanilla", True, torch.bfloat16),
        ("wgan-gp", False, torch.bfloat16),
    ],
)
def test_the_discriminator_leads_the_generator(gan_type, relativistic, precision) -> None:
    """With the adversarial loss alone, results that are too dark become as bright as the truth.

    Afterwards their brightness oscillates, as usual in adversarial training.
    """
    model = make(Critic(norm=False), gan_type=gan_type, relativistic=relativistic, loss_weight=1.0)
    model.losses = {}
    data = batch()
    optimizers = {
        phase: torch.optim.Adam(model.networks[phase].parameters(), 0.002, (0.0, 0.9))
        for phase in model.phases
    }
    gaps = []
    for step in range(28):
        torch.manual_seed(step)
        with torch.no_grad():
            gaps.append((model.networks["g"](data["lq"][:, 0]) - data["gt"]).mean().item())
        for phase, optimizer in optimizers.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
                losses = model.objective(phase, data, step)
            assert all(loss.dtype == torch.float32 for loss in losses.values())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
    assert gaps[0] < -0.2
    assert max(gaps) > -0.1


def test_clips_are_judged_frame_by_frame() -> None:
    data = batch()
    data = {"lq": data["lq"].transpose(0, 1), "gt": data["gt"][None]}
    model = GANModel(ClipUpscaler(), {}, Critic(), reference=None)
    sum(model.objective("g", data).values()).backward()
    assert model.networks["g"].conv.weight.grad.any()
    assert set(model.objective("d", data)) == {"l_d_real", "l_d_fake"}


def test_it_is_registered_and_needs_but_a_discriminator() -> None:
    assert MODEL_REGISTRY.get("GANModel") is GANModel
    model = GANModel(Upscaler(), {"l_pix": L1Loss()}, UNetDiscriminatorSN(num_feat=4))
    assert model.phases == ("g", "d")
    with pytest.raises(
        UserError, match=r"losses\.l_adv: this name is reserved for the adversarial"
    ):
        GANModel(Upscaler(), {"l_adv": L1Loss()}, Critic())


def test_options_are_checked(tmp_path) -> None:
    file = tmp_path / "gan.yml"
    file.write_text("gan_type: wgan-gp\nrelativistic: true\n")
    with pytest.raises(OptionErrors, match=r"gan.yml:2: relativistic: wgan-gp"):
        check(read(file), GANOptions)
    file.write_text("gan_type: wgan\n")
    with pytest.raises(OptionErrors, match=r"gan.yml:1: gan_type"):
        check(read(file), GANOptions)
    file.write_text("{}\n")
    assert check(read(file), GANOptions) == GANOptions()

"""Training with a discriminator, from options to weights."""

from __future__ import annotations

import pytest
import torch
from support.runs import go, start

from srtoolbox.engine.build import fingerprint
from srtoolbox.engine.training.train import train
from srtoolbox.engine.weights.load import weights_hash
from srtoolbox.errors import UserError
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
GAN = ("model_type=GANModel", "network_d={type: UNetDiscriminatorSN, num_feat: 4}")


@pytest.mark.slow
def test_one_option_makes_a_regression_run_adversarial(options, tmp_path) -> None:
    regression = train(options("name=psnr"), CPU, resume=False)
    weights = tmp_path / "experiments" / "psnr" / "weights" / "net_g_latest.pth"
    opt = options("name=gan", *GAN, f"path.pretrain_network_g={weights}", "train.ema_decay=0.5")
    tuned = train(opt, CPU, resume=False)
    assert tuned.weights != regression.weights
    log = list(read_lines(tmp_path / "experiments" / "gan" / "log.jsonl"))
    assert {"l_pix", "l_adv", "l_d_real", "l_d_fake", "grad_g", "grad_d"} <= log[-1].keys()
    assert (
        list(torch.load(weights, weights_only=True))
        == list(torch.load(opt.folder / "weights" / "net_g_latest.pth", weights_only=True))
        or tuned.step == 6
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "d", ["UNetDiscriminatorSN, num_feat: 4", "VGGStyleDiscriminator, num_feat: 4"]
)
def test_it_resumes_to_the_same_weights_of_both(options, tmp_path, d: str) -> None:
    overrides = ("model_type=GANModel", f"network_d={{type: {d}}}", "gan={net_d_init_iter: 2}")
    whole = go(start(options(*overrides), tmp_path / "a"), tmp_path / "a")
    go(start(options(*overrides, "train.total_iter=4"), tmp_path / "b"), tmp_path / "b")
    resumed = start(options(*overrides), tmp_path / "b")
    assert resumed.step == 4
    go(resumed, tmp_path / "b")
    for name, net in whole.model.networks.items():
        assert weights_hash(resumed.model.networks[name]) == weights_hash(net)


@pytest.mark.parametrize("parts", [1, 2])
def test_the_generator_runs_once_per_part_of_a_batch(options, tmp_path, parts: int) -> None:
    trainer = start(options(*GAN, f"train.accumulate={parts}"), tmp_path)
    calls = []
    trainer.model.networks["g"].register_forward_hook(lambda *_: calls.append(1))
    go(trainer, tmp_path)
    assert len(calls) == 6 * parts


def test_the_generator_waits_for_its_discriminator(options, tmp_path) -> None:
    opt = options(*GAN, "gan={net_d_init_iter: 6}")
    trainer = start(opt, tmp_path)
    before = {name: weights_hash(net) for name, net in trainer.model.networks.items()}
    go(trainer, tmp_path)
    after = {name: weights_hash(net) for name, net in trainer.model.networks.items()}
    assert after["g"] == before["g"]
    assert after["d"] != before["d"]


def test_each_network_has_its_optimizer(options, tmp_path) -> None:
    opt = options(*GAN, "train.optim_d={type: SGD, lr: 0.5}")
    trainer = start(opt, tmp_path)
    assert type(trainer.optimizers["d"]).__name__ == "SGD"
    assert trainer.optimizers["g"].param_groups[0]["lr"] == 1e-3


def test_an_unused_discriminator(options) -> None:
    with pytest.raises(UserError, match="network_d: model_type SRModel has no discriminator"):
        options("network_d={type: UNetDiscriminatorSN}")
    with pytest.raises(UserError, match="gan: model_type SRModel has no discriminator"):
        options("gan={gan_type: hinge}")
    with pytest.raises(UserError, match="'UNetDiscriminatorSN'"):
        options("model_type=GANModel", "network_d={type: UNetDiscriminator}")


def test_gan_options_are_part_of_the_identity(options) -> None:
    found = {
        fingerprint(options(*GAN, *more))
        for more in ((), ("gan={gan_type: hinge}",), ("network_d.num_feat=8",))
    }
    assert len(found) == 3

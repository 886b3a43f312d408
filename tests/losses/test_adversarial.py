"""Adversarial losses against their papers' formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.errors import UserError
from srtoolbox.losses import AdversarialLoss, gradient_penalty

GENERATOR = torch.Generator().manual_seed(0)
REAL, FAKE = (2 * torch.randn(6, 1, 3, 3, generator=GENERATOR) for _ in range(2))


def cross_entropy(score: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy(torch.sigmoid(score), torch.full_like(score, target))


def square(score: Tensor, target: float) -> Tensor:
    return (score - target).square().mean()


def terms(kind: str, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the discriminator's losses on real and fake images, and the generator's loss."""
    return {
        "vanilla": (cross_entropy(real, 1), cross_entropy(fake, 0), cross_entropy(fake, 1)),
        "lsgan": (square(real, 1), square(fake, 0), square(fake, 1)),
        "hinge": (
            (1 - real).clamp(min=0).mean(),
            (1 + fake).clamp(min=0).mean(),
            -fake.mean(),
        ),
        "wgan-gp": (-real.mean(), fake.mean(), -fake.mean()),
    }[kind]


@pytest.mark.parametrize("kind", ["vanilla", "lsgan", "hinge", "wgan-gp"])
def test_standard(kind: str) -> None:
    loss = AdversarialLoss(kind)
    real, fake, generator = terms(kind, REAL, FAKE)
    torch.testing.assert_close(loss.discriminator(REAL, FAKE), (real, fake))
    torch.testing.assert_close(loss.generator(None, FAKE), generator)
    assert loss.discriminator(REAL.bfloat16(), FAKE.bfloat16())[0].dtype == torch.float32


@pytest.mark.parametrize("kind", ["vanilla", "lsgan", "hinge"])
def test_relativistic(kind: str) -> None:
    loss = AdversarialLoss(kind, relativistic=True)
    real, fake = REAL - FAKE.mean(), FAKE - REAL.mean()
    expected = {
        "vanilla": (cross_entropy(real, 1), cross_entropy(fake, 0)),
        "lsgan": (square(real, 1), square(fake, -1)),
        "hinge": ((1 - real).clamp(min=0).mean(), (1 + fake).clamp(min=0).mean()),
    }[kind]
    found = loss.discriminator(REAL, FAKE)
    torch.testing.assert_close(found, tuple(term / 2 for term in expected))
    # The generator has the same loss with exchanged targets …
    exchanged = sum(loss.discriminator(FAKE, REAL))
    torch.testing.assert_close(loss.generator(REAL, FAKE), exchanged)
    # … which is even where real and fake score alike, whatever the level of the scores …
    for level in (0.0, 5.0):
        same = sum(loss.discriminator(REAL + level, REAL + level))
        torch.testing.assert_close(same, sum(loss.discriminator(REAL, REAL)))
        torch.testing.assert_close(same, loss.generator(REAL, REAL))
    # … and its gradient goes through the mean of the other kind too.
    score = FAKE.clone().requires_grad_()
    loss.generator(REAL, score).backward()
    assert score.grad.all()


def test_unknown_and_meaningless_types_are_refused() -> None:
    with pytest.raises(UserError, match="must be 'vanilla', 'lsgan', 'hinge' or 'wgan-gp'"):
        AdversarialLoss("wgan")
    with pytest.raises(UserError, match="relativistic: wgan-gp"):
        AdversarialLoss("wgan-gp", relativistic=True)
    with pytest.raises(ValueError, match="needs the scores of real images"):
        AdversarialLoss(relativistic=True).generator(None, FAKE)


def test_gradient_penalty_of_a_linear_critic() -> None:
    images = torch.rand(2, 4, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(3 * 25, generator=torch.Generator().manual_seed(2)).requires_grad_()
    penalty = gradient_penalty(lambda x: x.flatten(1) @ weight[:, None], *images)
    expected = (weight.norm() - 1).square()
    torch.testing.assert_close(penalty, expected)
    (found,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(found, torch.autograd.grad(expected, weight)[0])


def test_gradient_penalty_is_taken_between_the_images() -> None:
    real, fake = torch.full((64, 1, 1, 1), 3.0), torch.full((64, 1, 1, 1), 1.0)
    seen = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.square() / 2  # slope x

    torch.manual_seed(0)
    penalty = gradient_penalty(critic, real, fake)
    (points,) = seen
    assert 1 <= points.min() < 1.2
    assert 2.8 < points.max() <= 3
    torch.testing.assert_close(penalty, (points - 1).square().mean())
    torch.manual_seed(0)
    assert gradient_penalty(critic, real, fake) == penalty


def test_gradient_penalty_is_taken_in_fp32() -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))
    images = torch.rand(2, 4, 3, 9, 9)
    torch.manual_seed(1)
    exact = gradient_penalty(critic, *images)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert gradient_penalty(critic, *images) == exact


@pytest.mark.parametrize(
    ("kind", "relativistic"),
    [
        *((kind, relative) for kind in ("vanilla", "lsgan", "hinge") for relative in (False, True)),
        ("wgan-gp", False),
    ],
)
def test_both_sides_can_win(kind: str, relativistic: bool) -> None:
    torch.manual_seed(3)
    loss = AdversarialLoss(kind, relativistic)
    real, noise = torch.randn(64, 2, 1, 1) + 1.0, torch.randn(64, 2, 1, 1)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(critic.parameters(), 0.01)
    history = []
    for _ in range(60):
        total = sum(loss.discriminator(critic(real), critic(noise)))
        if kind == "wgan-gp":
            total = total + 10 * gradient_penalty(critic, real, noise)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert history[-1] < history[0] - 0.1
    assert critic(real).mean() > critic(noise).mean()

    shift = torch.zeros(1, 2, 1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([shift], 0.05)
    history = []
    for _ in range(20):
        total = loss.generator(critic(real).detach(), critic(noise + shift))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert history[-1] < history[0]
    assert (noise + shift - real).mean().abs() < (noise - real).mean().abs()

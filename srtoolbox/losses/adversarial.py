"""Adversarial losses: what a discriminator's scores cost the two networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.errors import UserError

GANType = Literal["vanilla", "lsgan", "hinge", "wgan-gp"]

# What a score costs that should say "real"; the mirrored score is what one costs that should not.
_COST: dict[str, Callable[[Tensor], Tensor]] = {
    "vanilla": lambda score: F.softplus(-score),
    "lsgan": lambda score: (score - 1).square(),
    "hinge": lambda score: F.relu(1 - score),
    "wgan-gp": lambda score: -score,
}


class AdversarialLoss:
    """The game of a discriminator, whose scores are high for what it takes for real.

    - vanilla: cross-entropy, non-saturating (Goodfellow et al., NeurIPS 2014)
    - lsgan: least squares with targets 1 and 0, 1 and −1 if relativistic (Mao et al., ICCV 2017)
    - hinge (Lim & Ye, 2017)
    - wgan-gp: Wasserstein; the gradient penalty is `gradient_penalty` (Gulrajani et al., 2017)

    Relativistic: every score counts relative to the mean score of the other kind, in both networks'
    losses, and each of the two terms counts half (Jolicoeur-Martineau, ICLR 2019; ESRGAN).

    Args:
        gan_type: One of the above.
        relativistic: Whether scores are relative; not for wgan-gp.
    """

    def __init__(self, gan_type: GANType = "vanilla", relativistic: bool = False) -> None:
        if gan_type not in _COST:
            raise UserError(f"gan_type is one of {', '.join(_COST)}, got {gan_type!r}")
        if relativistic and gan_type == "wgan-gp":
            raise UserError("relativistic: wgan-gp compares means already; leave it out")
        self.gan_type, self.relativistic = gan_type, relativistic
        self._cost = _COST[gan_type]
        self._mirror = 1.0 if gan_type == "lsgan" and not relativistic else 0.0

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator's two terms, one for each kind.

        Args:
            real: Scores of true images, of any shape.
            fake: Scores of results.
        """
        real, fake = real.float(), fake.float()
        if not self.relativistic:
            return self._cost(real).mean(), self._cost(self._mirror - fake).mean()
        real, fake = real - fake.mean(), fake - real.mean()
        return self._cost(real).mean() / 2, self._cost(-fake).mean() / 2

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """The generator's loss; only the relativistic one looks at ``real``."""
        if self.relativistic:
            return sum(self.discriminator(fake, real))  # the same game with the parts exchanged
        if self.gan_type == "hinge":  # the generator is paid for every point, beyond the margin too
            return -fake.float().mean()
        return self._cost(fake.float()).mean()


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor
) -> Tensor:
    """Mean squared distance from 1 of the score's slope, at random points between the images.

    The random numbers are torch's own. A map of scores counts by its mean. In float32 whatever the
    training runs in: slopes are too small for half precision.

    Args:
        discriminator: Maps images to scores; must not normalise over the batch.
        real: (N, C, H, W).
        fake: (N, C, H, W), without a gradient.
    """
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = torch.lerp(fake.float(), real.float(), share).requires_grad_()
    with torch.autocast(real.device.type, enabled=False):
        score = discriminator(between).flatten(1).mean(1)
    (slope,) = torch.autograd.grad(score.sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()

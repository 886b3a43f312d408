"""Adversarial losses of generator and discriminator, computed from the discriminator's scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.errors import UserError, check_choice

GANType = Literal["vanilla", "lsgan", "hinge", "wgan-gp"]

# Loss of a score with the target "real". The target "fake" has the same loss of the mirrored score.
_COST: dict[str, Callable[[Tensor], Tensor]] = {
    "vanilla": lambda score: F.softplus(-score),
    "lsgan": lambda score: (score - 1).square(),
    "hinge": lambda score: F.relu(1 - score),
    "wgan-gp": lambda score: -score,
}


class AdversarialLoss:
    """GAN losses; discriminator scores are high for real images.

    - vanilla: cross-entropy, non-saturating (Goodfellow et al., NeurIPS 2014)
    - lsgan: least squares with targets 1 and 0, 1 and −1 if relativistic (Mao et al., ICCV 2017)
    - hinge (Lim & Ye, 2017)
    - wgan-gp: Wasserstein; the gradient penalty is `gradient_penalty` (Gulrajani et al., 2017)

    Relativistic: in the losses of both networks, the mean score of the other kind of images is
    subtracted from every score, and both terms have the weight 1/2 (Jolicoeur-Martineau, ICLR 2019;
    ESRGAN).

    Args:
        gan_type: One of the above.
        relativistic: Whether scores are relative; not for wgan-gp.

    Raises:
        UserError: if ``gan_type`` is unknown, or ``relativistic`` with wgan-gp.
    """

    def __init__(self, gan_type: GANType = "vanilla", relativistic: bool = False) -> None:
        check_choice("gan_type", gan_type, _COST)
        if relativistic and gan_type == "wgan-gp":
            raise UserError("relativistic: wgan-gp compares means already; leave it out")
        self.gan_type, self.relativistic = gan_type, relativistic
        self._cost = _COST[gan_type]
        self._mirror = 1.0 if gan_type == "lsgan" and not relativistic else 0.0

    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the discriminator's loss on real images and its loss on generated images.

        Args:
            real: Scores of real images, of any shape.
            fake: Scores of generated images, of any shape.
        """
        real, fake = real.float(), fake.float()
        if not self.relativistic:
            return self._cost(real).mean(), self._cost(self._mirror - fake).mean()
        real, fake = real - fake.mean(), fake - real.mean()
        return self._cost(real).mean() / 2, self._cost(-fake).mean() / 2

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Returns the generator's loss; only the relativistic one needs the scores ``real``."""
        if self.relativistic:
            if real is None:
                raise ValueError("a relativistic loss needs the scores of real images")
            of_fake, of_real = self.discriminator(fake, real)  # with exchanged targets
            return of_fake + of_real
        if self.gan_type == "hinge":  # linear: the generator's loss has no margin
            return -fake.float().mean()
        return self._cost(fake.float()).mean()


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor
) -> Tensor:
    """Returns the mean of (|gradient of the score| − 1)² at random points between the images.

    The random numbers come from torch's global generator. The score of a map of scores is its mean.
    Computed in float32, also under autocast: gradients are too small for half precision.

    Args:
        discriminator: Maps images to scores; must not normalise over the batch.
        real: Real images (N, C, H, W).
        fake: Generated images (N, C, H, W), detached.
    """
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = torch.lerp(fake.float(), real.float(), share).requires_grad_()
    with torch.autocast(real.device.type, enabled=False):
        score = discriminator(between).flatten(1).mean(1)
    (gradient,) = torch.autograd.grad(score.sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()

"""Super-resolution with an adversarial loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srtoolbox.config.schema import option
from srtoolbox.data.base import Batch
from srtoolbox.errors import ComponentError, UserError
from srtoolbox.losses import AdversarialLoss, GANType, as_images, gradient_penalty
from srtoolbox.models.loss_schedule import LossSchedule
from srtoolbox.models.sr_model import SRModel, seen_sr
from srtoolbox.registry import MODEL_REGISTRY
from srtoolbox.utils.own_code import calling, describe_value, place_of

ADVERSARIAL = "l_adv"
"""The name under which the generator's adversarial loss is logged."""


@dataclass(frozen=True)
class GANOptions:
    """Adversarial loss; the defaults are those of Real-ESRGAN."""

    gan_type: GANType = option(
        default="vanilla", doc="Type of the adversarial loss: see AdversarialLoss."
    )
    loss_weight: float = option(
        default=0.1, min=0, doc="Weight of the generator's loss; ESRGAN 0.005, ISR 0.003."
    )
    relativistic: bool = option(
        default=False, doc="Compare scores of real and SR images, as in ESRGAN."
    )
    gp_weight: float = option(default=10.0, min=0, doc="Weight of the gradient penalty of wgan-gp.")
    net_d_init_iter: int = option(
        default=0, min=0, doc="Steps at the start that train only the discriminator."
    )
    norm_in_g: Literal["batch", "running"] = option(
        default="batch",
        doc="Statistics of the discriminator's batch norms in the generator's phase: this batch's, "
        "or running averages as in ISR. The phase changes neither.",
    )

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults as (key, message)."""
        if self.relativistic and self.gan_type == "wgan-gp":
            return [("relativistic", "wgan-gp already compares means; remove this option")]
        return []


@MODEL_REGISTRY.register()
class GANModel(SRModel):
    """Regression losses plus an adversarial loss, with a discriminator that is trained too.

    Phase "g" changes only the generator, phase "d" only the discriminator. Phase "d" uses the SR
    images of phase "g", so the generator runs once per step. With a mask in the batch, the
    discriminator sees SR images whose masked pixels are those of the ground truth.

    Args:
        network_g: A registered network; usually trained by regression before.
        losses: As for ``SRModel``; the name ``l_adv`` is reserved.
        network_d: A registered discriminator. It gets every frame of a clip as an image.
        gan: Options of the adversarial loss.
        reference: Index of the reference frame in ``lq``; None: all frames are restored.
        loss_schedule: Steps in which losses count, by the names of the losses.
        loss_crop_border: As for ``SRModel``; the discriminator sees whole images.

    Raises:
        UserError: if a loss is called ``l_adv``, or the discriminator has batch norms with wgan-gp.
    """

    phases = ("g", "d")

    def __init__(
        self,
        network_g: nn.Module,
        losses: Mapping[str, nn.Module],
        network_d: nn.Module,
        gan: GANOptions | None = None,
        reference: int | None = 0,
        loss_schedule: Mapping[str, LossSchedule] | None = None,
        loss_crop_border: int = 0,
    ) -> None:
        super().__init__(network_g, losses, reference, loss_schedule, loss_crop_border)
        if ADVERSARIAL in losses:
            raise UserError(
                f"train.losses.{ADVERSARIAL}: this name is reserved for the adversarial loss"
            )
        self.gan = gan or GANOptions()
        self.networks["d"] = network_d
        self.adversarial = AdversarialLoss(self.gan.gan_type, self.gan.relativistic)
        if self.gan.gan_type == "wgan-gp" and any(_batch_norms(network_d)):
            raise UserError(
                f"gan_type wgan-gp: {type(network_d).__name__} normalises over the batch, which a "
                "penalty per image does not allow; use a discriminator without (norm: none)"
            )

    def objective(
        self, phase: str, batch: Batch, step: int = 0, memo: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Computes the losses of one phase; see ``base.Model.objective``."""
        memo = {} if memo is None else memo
        if phase == "g":
            return self._generator(batch, step, memo)
        return self._discriminator(batch, memo)

    def _generator(self, batch: Batch, step: int, memo: dict[str, Any]) -> dict[str, Tensor]:
        if step < self.gan.net_d_init_iter:
            return {}
        views = self._views(batch)
        sr = seen_sr(views)
        memo["sr"] = sr.detach()
        net = self.networks["d"]
        with _unchanged(net, self.gan.norm_in_g == "running"):
            fake = _judge(net, sr)
            real = _judge(net, views["gt"]) if self.adversarial.relativistic else None
        adversarial = self.gan.loss_weight * self.adversarial.generator(real, fake)
        return {**self._weigh(views, step), ADVERSARIAL: adversarial}

    def _discriminator(self, batch: Batch, memo: dict[str, Any]) -> dict[str, Tensor]:
        net, sr = self.networks["d"], memo.pop("sr", None)
        if sr is None:  # phase "g" made no step
            with torch.no_grad():
                sr = seen_sr(self._views(batch))
        real, fake = as_images(batch["gt"]), as_images(sr)
        l_real, l_fake = self.adversarial.discriminator(_judge(net, real), _judge(net, fake))
        losses = {"l_d_real": l_real, "l_d_fake": l_fake}
        if self.gan.gan_type == "wgan-gp":
            losses["l_d_gp"] = self.gan.gp_weight * gradient_penalty(net, real, fake)
        return losses


def _judge(net: nn.Module, images: Tensor) -> Tensor:
    """Returns the discriminator's scores of images or of the frames of clips."""
    with calling(net, "forward"):
        scores = net(as_images(images))
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        raise ComponentError(
            f"{type(net).__name__}{place_of(net, 'forward')} returned {describe_value(scores)}; a "
            "discriminator returns a tensor of scores (logits) of any shape"
        )
    return scores


def _batch_norms(net: nn.Module) -> Iterator[_BatchNorm]:
    return (module for module in net.modules() if isinstance(module, _BatchNorm))


@contextmanager
def _unchanged(net: nn.Module, running_norm: bool) -> Iterator[None]:
    """Lets gradients pass through ``net`` inside; neither its weights nor its buffers change.

    Args:
        net: The network, in training mode.
        running_norm: Batch norms use their running averages instead of the batch's statistics.
    """
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    modes = [(module, module.training) for module in net.modules()]
    norms = [] if running_norm else [n for n in _batch_norms(net) if n.track_running_stats]
    for parameter in trained:
        parameter.requires_grad_(False)
    net.eval()
    for norm in norms:  # both together: uses the batch's statistics and does not record them
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for module, mode in modes:
            module.training = mode
        for parameter in trained:
            parameter.requires_grad_(True)

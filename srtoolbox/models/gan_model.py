"""Super-resolution with a discriminator that judges the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srtoolbox.config.schema import option
from srtoolbox.data.stream import Sample
from srtoolbox.errors import UserError
from srtoolbox.losses import AdversarialLoss, GANType, as_images, gradient_penalty
from srtoolbox.models.loss_schedule import LossSchedule
from srtoolbox.models.sr_model import SRModel
from srtoolbox.registry import MODEL_REGISTRY

ADVERSARIAL = "l_adv"
"""The name under which the generator's adversarial loss is logged."""


@dataclass(frozen=True)
class GANOptions:
    """The adversarial part of a training; the defaults are Real-ESRGAN's."""

    gan_type: GANType = option(default="vanilla", doc="The game: see AdversarialLoss.")
    loss_weight: float = option(
        default=0.1, min=0, doc="Of the generator's adversarial loss; ESRGAN 0.005, ISR 0.003."
    )
    relativistic: bool = option(default=False, doc="Real against fake scores, as in ESRGAN.")
    gp_weight: float = option(default=10.0, min=0, doc="Of the gradient penalty of wgan-gp.")
    net_d_init_iter: int = option(
        default=0, min=0, doc="Steps at the beginning that train only the discriminator."
    )
    norm_in_g: Literal["batch", "running"] = option(
        default="batch",
        doc="What the discriminator's batch norms go by while the generator learns: this batch, or "
        "their running averages as in ISR. Neither is changed by it.",
    )

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        if self.relativistic and self.gan_type == "wgan-gp":
            return [("relativistic", "wgan-gp compares means already; leave it out")]
        return []


@MODEL_REGISTRY.register()
class GANModel(SRModel):
    """Regression losses plus an adversarial one, and a discriminator that is trained along.

    Phase "g" changes the generator alone, phase "d" the discriminator alone; "d" judges the very
    results that "g" was trained on, so the generator runs once per step.

    Args:
        network_g: A registered arch; mostly one that was trained by regression before.
        losses: As for ``SRModel``; ``l_adv`` is taken.
        network_d: A registered discriminator. Of clips it sees every frame as an image.
        gan: The game that the two play.
        reference: Index of the reference frame in the dataset's stacks; None if all are restored.
        loss_schedule: When losses count, by their names.
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
    ) -> None:
        super().__init__(network_g, losses, reference, loss_schedule)
        if ADVERSARIAL in losses:
            raise UserError(f"train.losses.{ADVERSARIAL}: the adversarial loss has this name")
        self.gan = gan or GANOptions()
        self.networks["d"] = network_d
        self.adversarial = AdversarialLoss(self.gan.gan_type, self.gan.relativistic)
        if self.gan.gan_type == "wgan-gp" and any(_batch_norms(network_d)):
            raise UserError(
                f"gan_type wgan-gp: {type(network_d).__name__} normalises over the batch, which a "
                "penalty per image does not allow; take one without (norm: none)"
            )
        self._results: list[tuple[Tensor, Tensor]] = []  # (lq, sr) of this step's phase "g"
        self._step = -1

    def objective(self, phase: str, batch: Sample, step: int = 0) -> dict[str, Tensor]:
        """The named losses of one phase; see ``SRModel.objective``."""
        return self._generator(batch, step) if phase == "g" else self._discriminator(batch)

    def _generator(self, batch: Sample, step: int) -> dict[str, Tensor]:
        if step < self.gan.net_d_init_iter:
            return {}
        views = self._views(batch)
        if step != self._step:
            self._results, self._step = [], step
        self._results.append((batch["lq"], views["sr"].detach()))
        net = self.networks["d"]
        with _spectator(net, self.gan.norm_in_g == "running"):
            fake = net(as_images(views["sr"]))
            real = net(as_images(views["gt"])) if self.adversarial.relativistic else None
        adversarial = self.gan.loss_weight * self.adversarial.generator(real, fake)
        return {**self._weigh(views, step), ADVERSARIAL: adversarial}

    def _discriminator(self, batch: Sample) -> dict[str, Tensor]:
        net = self.networks["d"]
        real, fake = as_images(batch["gt"]), as_images(self._result(batch))
        l_real, l_fake = self.adversarial.discriminator(net(real), net(fake))
        losses = {"l_d_real": l_real, "l_d_fake": l_fake}
        if self.gan.gan_type == "wgan-gp":
            losses["l_d_gp"] = self.gan.gp_weight * gradient_penalty(net, real, fake)
        return losses

    def _result(self, batch: Sample) -> Tensor:
        """The result of phase "g" for this batch, or part of a batch, if it was there."""
        lq = batch["lq"]
        for index, (seen, _) in enumerate(self._results):
            # ``seen`` is kept, so no other tensor can have come to lie where it does.
            if seen.data_ptr() == lq.data_ptr() and seen.shape == lq.shape:
                return self._results.pop(index)[1]
        with torch.no_grad():
            return self._views(batch)["sr"]


def _batch_norms(net: nn.Module) -> Iterator[_BatchNorm]:
    return (module for module in net.modules() if isinstance(module, _BatchNorm))


@contextmanager
def _spectator(net: nn.Module, running_norm: bool) -> Iterator[None]:
    """Lets gradients pass through ``net`` inside, while neither weights nor buffers change.

    Args:
        net: The network, in training mode.
        running_norm: Batch norms go by their running averages instead of the batch.
    """
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    modes = [(module, module.training) for module in net.modules()]
    norms = [] if running_norm else [n for n in _batch_norms(net) if n.track_running_stats]
    for parameter in learned:
        parameter.requires_grad_(False)
    net.eval()
    for norm in norms:  # these two together: the batch's statistics, and no trace of them
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for module, mode in modes:
            module.training = mode
        for parameter in learned:
            parameter.requires_grad_(True)

"""Super-resolution as regression: one network, trained to reproduce the ground truth."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from srtoolbox.data.stream import Sample
from srtoolbox.models.frames import arrange_frames
from srtoolbox.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class SRModel:
    """Feeds a single-image or multi-frame network and sums its losses.

    A model knows which tensors its networks get and which losses their outputs form. Optimizers,
    precision, files, logs and validation are the trainer's and the evaluator's.

    Args:
        network_g: A registered arch.
        losses: Losses by the name under which they are logged, each called as ``loss(sr, gt)``.
        reference: Index of the reference frame in the dataset's stacks.
    """

    phases = ("g",)  # one optimizer step per phase; each names the network that it updates

    def __init__(
        self, network_g: nn.Module, losses: Mapping[str, nn.Module], reference: int = 0
    ) -> None:
        self.networks = {"g": network_g}
        self.losses = losses
        self.reference = reference

    def objective(self, phase: str, batch: Sample) -> dict[str, Tensor]:
        """The named losses of one phase; their sum is what the phase minimises.

        Args:
            phase: One of ``phases``.
            batch: ``lq`` (N, T, C, h, w) and ``gt`` (N, C, H, W), float32 in [0, 1].
        """
        net = self.networks[phase]
        output = net(arrange_frames(net, batch["lq"], self.reference))
        sr = output["sr"] if isinstance(output, dict) else output
        return {name: loss(sr, batch["gt"]) for name, loss in self.losses.items()}

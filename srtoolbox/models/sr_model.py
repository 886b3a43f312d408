"""Super-resolution as regression: one network, trained to reproduce the ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from srtoolbox.data.stream import Sample
from srtoolbox.errors import UserError
from srtoolbox.losses import check_shapes
from srtoolbox.models.frames import arrange_frames, run_network
from srtoolbox.models.loss_schedule import LossSchedule
from srtoolbox.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class SRModel:
    """Feeds a single-image or multi-frame network and sums its losses.

    A model knows which tensors its networks get and which losses their outputs form. Optimizers,
    precision, files, logs and validation are the trainer's and the evaluator's.

    Args:
        network_g: A registered arch.
        losses: Losses by the name under which they are logged, each called with what its ``inputs``
            name (see `srtoolbox.losses.Loss`), ``sr`` and ``gt`` if it has none.
        reference: Index of the reference frame in the dataset's stacks; None if all are restored.
        loss_schedule: When losses count, by their names; those that are missing always do.
    """

    phases = ("g",)  # one optimizer step per phase; each names the network that it updates

    def __init__(
        self,
        network_g: nn.Module,
        losses: Mapping[str, nn.Module],
        reference: int | None = 0,
        loss_schedule: Mapping[str, LossSchedule] | None = None,
    ) -> None:
        self.networks = {"g": network_g}
        self.losses = losses
        self.reference = reference
        self.loss_schedule = loss_schedule or {}

    def objective(self, phase: str, batch: Sample, step: int = 0) -> dict[str, Tensor]:
        """The named losses of one phase; their sum is what the phase minimises.

        Args:
            phase: One of ``phases``.
            batch: ``lq`` (N, T, C, h, w) and ``gt`` (N, C, H, W) or (N, T', C, H, W), float32 in
                [0, 1]; ``flow`` (N, 2, T - 1, 2, h, w) where the dataset has it; ``reference``,
                if that frame is not where the dataset has it.
            step: Steps done before this one.

        Returns:
            Scalars in float32. Where there are none, nothing is to be optimised at this step.

        Raises:
            UserError: if the network's output does not fit the ground truth or a loss.
        """
        return self._weigh(self._views(batch), step)

    def _views(self, batch: Sample) -> dict[str, Any]:
        """What losses can ask for, after one forward pass of the generator."""
        net, lq = self.networks["g"], batch["lq"]
        reference = batch.get("reference", self.reference)
        output = run_network(net, arrange_frames(net, lq, reference), batch.get("flow"))
        aux = dict(output) if isinstance(output, dict) else {"sr": output}
        sr = aux.pop("sr").float()
        check_shapes(sr, batch["gt"])
        views = {"sr": sr, "gt": batch["gt"], "frames": lq, "aux": aux}
        if reference is not None:
            views["lq"] = lq[:, reference]
        return views

    def _weigh(self, views: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """All losses that count at a step, in float32 whatever the networks ran in."""
        values = {}
        with torch.autocast(views["sr"].device.type, enabled=False):
            for name, loss in self.losses.items():
                schedule = self.loss_schedule.get(name)
                factor = 1.0 if schedule is None else schedule.factor(step)
                if factor:
                    values[name] = factor * loss(*_inputs(name, loss, views))
        return values


def _inputs(name: str, loss: nn.Module, views: Mapping[str, Any]) -> list[Any]:
    wanted = getattr(loss, "inputs", ("sr", "gt"))
    lacking = [view for view in wanted if view not in views]
    if lacking:
        raise UserError(
            f"train.losses.{name}: {type(loss).__name__} needs {', '.join(lacking)}; here there "
            f"are {', '.join(views)}"
        )
    return [views[view] for view in wanted]

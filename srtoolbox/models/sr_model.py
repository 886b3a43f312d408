"""Super-resolution as regression: trains one network to reproduce the ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from srtoolbox.data.base import Batch
from srtoolbox.errors import ComponentError, UserError
from srtoolbox.losses import check_shapes, run_loss
from srtoolbox.models.frames import arrange_frames, restored_frame, run_network
from srtoolbox.models.loss_schedule import LossSchedule
from srtoolbox.registry import MODEL_REGISTRY


@MODEL_REGISTRY.register()
class SRModel:
    """Runs a single-image or multi-frame network and computes its losses; a ``base.Model``.

    Pixels that ``mask`` of a batch marks as invalid change no loss and no gradient, see
    ``srtoolbox.losses.Loss``.

    Args:
        network_g: A registered network.
        losses: Losses by the names under which they are logged. Each is called with the tensors
            that its ``inputs`` name (see `srtoolbox.losses.Loss`), by default ``sr`` and ``gt``.
        reference: Index of the reference frame in ``lq``; None: all frames are restored.
        loss_schedule: Steps in which losses count, by the names of the losses; a loss without an
            entry always counts.
        loss_crop_border: HR pixels at every side of ``sr`` and ``gt`` that ``losses`` do not see.
    """

    phases: tuple[str, ...] = ("g",)

    def __init__(
        self,
        network_g: nn.Module,
        losses: Mapping[str, nn.Module],
        reference: int | None = 0,
        loss_schedule: Mapping[str, LossSchedule] | None = None,
        loss_crop_border: int = 0,
    ) -> None:
        self.networks = {"g": network_g}
        self.losses = losses
        self.reference = reference
        self.loss_schedule = loss_schedule or {}
        self.loss_crop_border = loss_crop_border

    def objective(
        self, phase: str, batch: Batch, step: int = 0, memo: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Computes the losses; see ``base.Model.objective``."""
        return self._weigh(self._views(batch), step)

    def _views(self, batch: Batch) -> dict[str, Any]:
        """Runs the generator and returns the tensors that losses can use, by name."""
        net, lq = self.networks["g"], batch["lq"]
        reference = batch.get("reference", self.reference)
        frames = arrange_frames(net, lq, reference)
        output = run_network(net, frames, batch.get("flow"), batch.get("scale"))
        aux = dict(output) if isinstance(output, dict) else {"sr": output}
        sr = restored_frame(net, aux.pop("sr"), reference).float()
        check_shapes(sr, batch["gt"])
        views = {"sr": sr, "gt": batch["gt"], "frames": lq, "aux": aux}
        if (mask := batch.get("mask")) is not None:
            _check_mask(mask, sr)
            views["mask"] = mask
        if reference is not None:
            views["lq"] = lq[:, reference]
        return views

    def _weigh(self, views: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """Computes the losses that count at a step, in float32 for every precision."""
        values = {}
        if border := self.loss_crop_border:
            names = [name for name in ("sr", "gt", "mask") if name in views]
            cropped = {name: _without_border(views[name], border) for name in names}
            views = {**views, **cropped}
        mask = views.get("mask")
        filled = views if mask is None else {**views, "sr": seen_sr(views)}
        with torch.autocast(views["sr"].device.type, enabled=False):
            for name, loss in self.losses.items():
                schedule = self.loss_schedule.get(name)
                factor = 1.0 if schedule is None else schedule.factor(step)
                if not factor:
                    continue
                if mask is not None and getattr(loss, "takes_mask", False):
                    value = run_loss(loss, _inputs(name, loss, views), mask)
                else:
                    value = run_loss(loss, _inputs(name, loss, filled))
                values[name] = factor * value
        return values


def seen_sr(views: Mapping[str, Any]) -> Tensor:
    """Returns ``sr``; its masked pixels are those of ``gt`` and have no gradient."""
    if "mask" not in views:
        return views["sr"]
    return torch.where(views["mask"], views["sr"], views["gt"])


def _check_mask(mask: Tensor, sr: Tensor) -> None:
    expected = (*sr.shape[:-3], 1, *sr.shape[-2:])
    if mask.shape != expected or mask.dtype != torch.bool:
        raise ComponentError(
            f"the dataset gives a mask {tuple(mask.shape)} {mask.dtype} for sr {tuple(sr.shape)}; "
            f"it must be {expected} torch.bool"
        )


def _without_border(images: Tensor, border: int) -> Tensor:
    """Crops images (…, H, W) by ``border`` pixels per side."""
    height, width = images.shape[-2:]
    if min(height, width) <= 2 * border:
        raise UserError(
            f"train.loss_crop_border: cropping {border} pixels per side leaves no pixel of an "
            f"image of {height}×{width}; lower it, or raise gt_size of the dataset"
        )
    return images[..., border : height - border, border : width - border]


def _inputs(name: str, loss: nn.Module, views: Mapping[str, Any]) -> list[Any]:
    wanted = getattr(loss, "inputs", ("sr", "gt"))
    missing = [view for view in wanted if view not in views]
    if missing:
        raise UserError(
            f"train.losses.{name}: {type(loss).__name__} needs {', '.join(missing)}; here there "
            f"are {', '.join(views)}"
        )
    return [views[view] for view in wanted]

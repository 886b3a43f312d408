"""From a stack of frames to its SR image, with whatever is to be done beside one forward pass."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srtoolbox.config.schema import option
from srtoolbox.data.resize.array import Edge
from srtoolbox.inference.back_projection import back_project
from srtoolbox.inference.ensemble import Runner, self_ensemble
from srtoolbox.inference.padding import run_padded
from srtoolbox.models.frames import arrange_frames

_NO_SCORE = ("cascade_weights", "in_training")  # what weights' hashes tell, and what is watched


@dataclass(frozen=True)
class EnhanceOptions:
    """What is done beside one forward pass, after Timofte et al., "Seven ways", CVPR 2016."""

    self_ensemble: bool = option(default=False, doc="Average over eight orientations.")
    back_projection: int = option(
        default=0, min=0, doc="Iterations that make the SR image shrink to the LR image."
    )
    back_projection_edge: Edge = option(
        default="replicate", doc="Border rule by which the LR images were made."
    )
    cascade: int = option(
        default=1, min=1, doc="Single-image networks in a row: 2 reaches scale 4 by x2 twice."
    )
    cascade_weights: Path | None = option(
        default=None, doc="Weights of the cascade's stages after the first; null: the first's."
    )
    in_training: bool = option(default=False, doc="Also do so when training watches its progress.")

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        if self.cascade_weights is not None and self.cascade == 1:
            return [("cascade_weights", "there is no second stage; set cascade to 2 or more")]
        return []

    @property
    def changed(self) -> dict[str, Any]:
        """The options that change scores and are not at their defaults."""
        plain, mine = asdict(EnhanceOptions()), asdict(self)
        changed = {k: v for k, v in mine.items() if v != plain[k] and k not in _NO_SCORE}
        if not self.back_projection:
            changed.pop("back_projection_edge", None)
        return changed

    def describe(self) -> str:
        """A sentence for tables; empty if there is nothing to say."""
        parts = []
        if self.cascade > 1:
            parts.append(f"a cascade of {self.cascade} networks")
        if self.self_ensemble:
            parts.append("geometric self-ensemble ×8")
        if self.back_projection:
            times = f"{self.back_projection} iteration{'s' * (self.back_projection > 1)}"
            parts.append(f"{times} of back-projection ({self.back_projection_edge} edge)")
        return f"Predicted with {' and '.join(parts)}." if parts else ""


PLAIN = EnhanceOptions()


@torch.no_grad()
def predict(
    net: nn.Module,
    lq: Tensor,
    reference: int | None = 0,
    enhance: EnhanceOptions = PLAIN,
    run: Runner = run_padded,
) -> Tensor:
    """SR images (N, C, H, W) of frame stacks (N, T, C, h, w) in [0, 1], of any size.

    A network that restores all frames gives (N, T, C, H, W).

    Args:
        net: A registered arch, or a cascade of them.
        lq: The stacks.
        reference: Index of the frame that is wanted at high resolution; None for all.
        enhance: What to do beside one forward pass; its cascade is in ``net`` already.
        run: How the network is applied: to the whole image, or in tiles.
    """
    stack = arrange_frames(net, lq, reference)
    sr = self_ensemble(net, stack, run) if enhance.self_ensemble else run(net, stack)
    if enhance.back_projection:
        wanted = lq if reference is None else lq[:, reference]
        times, edge = enhance.back_projection, enhance.back_projection_edge
        if (step := getattr(net, "time_scale", 1)) > 1:  # frames between have no LR frame
            sr = sr.float()
            sr[:, ::step] = back_project(sr[:, ::step], wanted, net.scale, times, edge)
        else:
            sr = back_project(sr, wanted, net.scale, times, edge)
    return sr

"""Predicts the SR image of a stack of frames, with optional enhancements of one forward pass."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.config.schema import option
from srtoolbox.data.resize.array import Edge
from srtoolbox.inference.back_projection import back_project
from srtoolbox.inference.ensemble import Runner, self_ensemble
from srtoolbox.inference.padding import run_padded
from srtoolbox.models.frames import arrange_frames, restored_frame

# Options that do not identify a result: hashes of weights do that, and training is not a result.
_NOT_IDENTIFYING = ("cascade_weights", "in_training")


@dataclass(frozen=True)
class EnhanceOptions:
    """Enhancements of one forward pass, after Timofte et al., "Seven ways", CVPR 2016."""

    self_ensemble: bool = option(
        default=False, doc="Average the results of eight orientations of the input."
    )
    flip_sequence: bool = option(
        default=False,
        doc="Show networks that restore all frames of a clip the clip and its reversal in a row, "
        "and average both results, as BasicVSR does for clips of seven frames.",
    )
    back_projection: int = option(
        default=0,
        min=0,
        doc="Iterations that bring the downscaled SR image closer to the LR image.",
    )
    back_projection_edge: Edge = option(
        default="replicate", doc="Border rule of the downscale that made the LR images."
    )
    cascade: int = option(
        default=1,
        min=1,
        doc="Number of single-image networks, applied one after another; 2 of x2 reach scale 4.",
    )
    cascade_weights: Path | None = option(
        default=None, doc="Weights of the cascade's later stages; null: those of the first."
    )
    in_training: bool = option(
        default=False, doc="Use these options in the evaluations during training, too."
    )

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults as (key, message)."""
        if self.cascade_weights is not None and self.cascade == 1:
            return [("cascade_weights", "there is no second stage; set cascade to 2 or more")]
        return []

    @property
    def changed(self) -> dict[str, Any]:
        """Options that change scores and differ from their defaults."""
        defaults, given = asdict(EnhanceOptions()), asdict(self)
        changed = {k: v for k, v in given.items() if v != defaults[k] and k not in _NOT_IDENTIFYING}
        if not self.back_projection:
            changed.pop("back_projection_edge", None)
        return changed

    def describe(self) -> str:
        """Returns a sentence for tables; it is empty without enhancements."""
        parts = []
        if self.cascade > 1:
            parts.append(f"a cascade of {self.cascade} networks")
        if self.self_ensemble:
            parts.append("geometric self-ensemble ×8")
        if self.flip_sequence:
            parts.append("clips followed by their reversal")
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
    """Returns the SR images of stacks of frames of any size.

    Args:
        net: A registered arch, or a ``Cascade`` of them.
        lq: LR frames (N, T, C, h, w) in [0, 1].
        reference: Index of the frame to restore; None: all frames.
        enhance: Enhancements. Its cascade options have no effect here: ``net`` is the cascade.
        run: Runs the network, on whole images or in tiles.

    Returns:
        (N, C, h·scale, w·scale), or (N, T', C, h·scale, w·scale) if ``reference`` is None. Values
        are not clipped.

    Raises:
        IncompatibleInput: if the network does not take these frames.
    """
    stack = arrange_frames(net, lq, reference)
    if enhance.flip_sequence and _takes_reversal(net):
        run = partial(run_with_reversal, run=run)
    sr = self_ensemble(net, stack, run) if enhance.self_ensemble else run(net, stack)
    sr = restored_frame(net, sr, reference)
    if enhance.back_projection:
        frames = lq if reference is None else lq[:, reference]
        settings = cast(int, net.scale), enhance.back_projection, enhance.back_projection_edge
        step = arch_info(net).time_scale
        if step > 1 and reference is None:  # interpolated frames have no LR frame
            sr = sr.float()
            sr[:, ::step] = back_project(sr[:, ::step], frames, *settings)
        else:
            sr = back_project(sr, frames, *settings)
    return sr


def run_with_reversal(net: nn.Module, lq: Tensor, run: Runner = run_padded) -> Tensor:
    """Runs ``net`` on clips that are followed by their own reversal, and averages both halves.

    So a recurrent network sees twice as many frames, which helps with short clips.

    Args:
        net: A registered arch that restores all frames.
        lq: (N, T, C, h, w) in [0, 1].
        run: Runs the network on the 2 T frames.

    Returns:
        (N, T, C, h·scale, w·scale).
    """
    there, back = run(net, torch.cat([lq, lq.flip(1)], 1)).chunk(2, 1)
    return (there + back.flip(1)) / 2


def _takes_reversal(net: nn.Module) -> bool:
    info = arch_info(net)
    return info.restores_all and info.num_frame is None and info.time_scale == 1

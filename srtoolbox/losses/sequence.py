"""Losses of networks that see several frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from srtoolbox.errors import UserError
from srtoolbox.losses.base import Loss
from srtoolbox.registry import LOSS_REGISTRY

_CRITERIA = {
    "mse": torch.square,
    "l1": torch.abs,
    "charbonnier": lambda difference: torch.sqrt(difference.square() + 1e-12),
}


@LOSS_REGISTRY.register()
class AlignmentLoss(Loss):
    """Compares frames that the network has aligned with the LR reference frame.

    TDAN adds it with weight 1 to the MSE of its result (Tian et al., CVPR 2020).

    Args:
        loss_weight: Factor on the loss.
        key: The network's output (N, T, C, h, w) that holds the aligned frames.
        criterion: Penalty of a difference; the mean over all frames and pixels is taken.
    """

    inputs = ("aux", "lq")

    def __init__(
        self,
        loss_weight: float = 1.0,
        key: str = "aligned",
        criterion: Literal["mse", "l1", "charbonnier"] = "mse",
    ) -> None:
        super().__init__(loss_weight)
        if criterion not in _CRITERIA:
            raise UserError(
                f"AlignmentLoss: criterion is one of {', '.join(_CRITERIA)}, got {criterion!r}"
            )
        self.key, self.criterion = key, criterion

    def forward(self, aux: Mapping[str, Tensor], lq: Tensor) -> Tensor:
        """The weighted loss.

        Args:
            aux: The network's outputs beside ``sr``.
            lq: The reference frame (N, C, h, w).

        Raises:
            UserError: if the network has no such output, or one of another shape.
        """
        if self.key not in aux:
            raise UserError(
                f"AlignmentLoss: the network has no output '{self.key}'; its outputs are "
                f"{', '.join(['sr', *aux])}"
            )
        aligned = aux[self.key].float()
        if aligned.ndim != 5 or aligned[:, 0].shape != lq.shape:
            raise UserError(
                f"AlignmentLoss: output '{self.key}' is {tuple(aligned.shape)}, which are not "
                f"frames (N, T, C, h, w) like the reference {tuple(lq.shape)}"
            )
        return self.loss_weight * _CRITERIA[self.criterion](aligned - lq.float()[:, None]).mean()


@LOSS_REGISTRY.register()
class TemporalConsistencyLoss(Loss):
    """Mean absolute error of the change from each frame to the next.

    It needs no optical flow: where the ground truth stands still, so must the result. For networks
    that restore all frames of a clip.

    Args:
        loss_weight: Factor on the loss.
    """

    def value(self, sr: Tensor, gt: Tensor) -> Tensor:
        if sr.ndim != 5 or sr.shape[1] < 2:
            raise UserError(
                "TemporalConsistencyLoss: needs a network that restores several frames "
                f"(N, T, C, H, W), got {tuple(sr.shape)}"
            )
        return (sr - gt).diff(dim=1).abs().mean()

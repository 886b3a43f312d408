"""Losses of multi-frame networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from srtoolbox.errors import UserError, check_choice
from srtoolbox.losses.base import Loss, masked_mean
from srtoolbox.registry import LOSS_REGISTRY

_CRITERIA = {
    "mse": torch.square,
    "l1": torch.abs,
    "charbonnier": lambda difference: torch.sqrt(difference.square() + 1e-12),
}


@LOSS_REGISTRY.register()
class AlignmentLoss(Loss):
    """Compares the frames that a network aligned with the LR reference frame.

    TDAN adds it with weight 1 to the MSE of its SR image (Tian et al., CVPR 2020).

    A mask of the ground truth does not change it, because it compares LR frames; missing pixels of
    LR frames are filled from their neighbours by the dataset.

    Args:
        loss_weight: Factor on the loss.
        key: Name of the network's output with the aligned frames (N, T, C, h, w).
        criterion: Loss of each pixel; the result is the mean over all frames and pixels.
    """

    inputs = ("aux", "lq")

    def __init__(
        self,
        loss_weight: float = 1.0,
        key: str = "aligned",
        criterion: Literal["mse", "l1", "charbonnier"] = "mse",
    ) -> None:
        super().__init__(loss_weight)
        check_choice("AlignmentLoss: criterion", criterion, _CRITERIA)
        self.key, self.criterion = key, criterion

    def forward(self, aux: Mapping[str, Tensor], lq: Tensor) -> Tensor:
        """Returns the weighted loss, a scalar.

        Args:
            aux: The network's outputs other than ``sr``.
            lq: The reference frame (N, C, h, w) in [0, 1].

        Raises:
            UserError: if the network has no output ``key``, or its shape is wrong.
        """
        if self.key not in aux:
            raise UserError(
                f"AlignmentLoss: the network has no output '{self.key}'; its outputs are "
                f"{', '.join(['sr', *aux])}"
            )
        aligned = aux[self.key].float()
        if aligned.ndim != 5 or aligned[:, 0].shape != lq.shape:
            raise UserError(
                f"AlignmentLoss: output '{self.key}' is {tuple(aligned.shape)}; it must be frames "
                f"(N, T, C, h, w) of the size of the reference {tuple(lq.shape)}"
            )
        return self.loss_weight * _CRITERIA[self.criterion](aligned - lq.float()[:, None]).mean()


@LOSS_REGISTRY.register()
class TemporalConsistencyLoss(Loss):
    """Mean absolute error of the change from each frame to the next.

    It compares frame differences of result and ground truth, without optical flow. It is for
    networks that restore all frames of a clip. With a mask, a change counts where both frames are
    valid.

    Args:
        loss_weight: Factor on the loss.
    """

    takes_mask = True

    def value(self, sr: Tensor, gt: Tensor, mask: Tensor | None = None) -> Tensor:
        if sr.ndim != 5 or sr.shape[1] < 2:
            raise UserError(
                "TemporalConsistencyLoss: needs a network that restores several frames "
                f"(N, T, C, H, W), got {tuple(sr.shape)}"
            )
        if mask is not None:
            difference = (sr - gt).where(mask, 0).diff(dim=1)
            return masked_mean(difference.abs(), mask[:, 1:] & mask[:, :-1])
        return (sr - gt).diff(dim=1).abs().mean()

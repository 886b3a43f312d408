"""Pixel-wise losses."""

from __future__ import annotations

import torch
from torch import Tensor

from srtoolbox.losses.base import Loss, Reduction
from srtoolbox.registry import LOSS_REGISTRY


class _PixelLoss(Loss):
    def __init__(self, loss_weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(loss_weight)
        self.reduction = reduction

    def value(self, sr: Tensor, gt: Tensor) -> Tensor:
        return self.reduce(self.distance(sr - gt))

    def distance(self, difference: Tensor) -> Tensor:
        """Returns the loss of each element of ``sr - gt``."""
        raise NotImplementedError


@LOSS_REGISTRY.register()
class L1Loss(_PixelLoss):
    """Mean absolute error.

    Args:
        loss_weight: Factor on the loss.
        reduction: Mean or sum over all elements.
    """

    def distance(self, difference: Tensor) -> Tensor:
        return difference.abs()


@LOSS_REGISTRY.register()
class MSELoss(_PixelLoss):
    """Mean squared error.

    Args:
        loss_weight: Factor on the loss.
        reduction: Mean or sum over all elements.
    """

    def distance(self, difference: Tensor) -> Tensor:
        return difference.square()


@LOSS_REGISTRY.register()
class CharbonnierLoss(_PixelLoss):
    """sqrt(difference² + eps): a smooth version of L1 (Charbonnier et al., ICIP 1994).

    Args:
        loss_weight: Factor on the loss.
        reduction: Mean or sum over all elements.
        eps: Constant under the root, in squared intensity. EDVR uses 1e-12, FBANet 1e-6.
    """

    def __init__(
        self, loss_weight: float = 1.0, reduction: Reduction = "mean", eps: float = 1e-12
    ) -> None:
        super().__init__(loss_weight, reduction)
        self.eps = eps

    def distance(self, difference: Tensor) -> Tensor:
        return torch.sqrt(difference.square() + self.eps)

"""Pixel-wise losses."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from srtoolbox.errors import check_choice
from srtoolbox.losses.base import Loss, Reduction, as_images
from srtoolbox.registry import LOSS_REGISTRY


class _PixelLoss(Loss):
    takes_mask = True

    def __init__(self, loss_weight: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(loss_weight)
        self.reduction = reduction

    def value(self, sr: Tensor, gt: Tensor, mask: Tensor | None = None) -> Tensor:
        difference = sr - gt
        if mask is not None:  # 1, as every distance has a finite derivative there
            difference = difference.where(mask, 1)
        return self.reduce(self.distance(difference), mask)

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


@LOSS_REGISTRY.register()
class PSNRLoss(Loss):
    """The negative PSNR in dB: 10 log10(MSE + eps), for values with peak 1.

    It falls as the images get better and is negative for every useful result (−30 at 30 dB), so
    ``loss_weight`` is positive. Its scale is dB: beside losses of about 0.1 it needs a small
    weight, such as 0.03 (DSTC-SRNet's combined loss).

    With ``train.accumulate`` or several processes, a batch is the part that is processed at a time.
    With a mask, the MSE is that of the valid pixels; images without a valid pixel are left out.

    Args:
        loss_weight: Factor on the loss.
        over: The MSE is taken over the "batch" (DSTC-SRNet), or over each "image" and the PSNRs are
            averaged (NAFNet, Chen et al., ECCV 2022).
        eps: Added to the MSE; it limits the PSNR to 80 dB.
    """

    takes_mask = True

    def __init__(
        self,
        loss_weight: float = 1.0,
        over: Literal["batch", "image"] = "batch",
        eps: float = 1e-8,
    ) -> None:
        super().__init__(loss_weight)
        check_choice("PSNRLoss: over", over, ("batch", "image"))
        self.over, self.eps = over, eps

    def value(self, sr: Tensor, gt: Tensor, mask: Tensor | None = None) -> Tensor:
        difference = as_images(sr - gt)
        if mask is not None:
            return self._of_valid(difference, as_images(mask))
        error = difference.square()
        mse = error.mean() if self.over == "batch" else error.mean(dim=(1, 2, 3))
        return (10 / math.log(10)) * torch.log(mse + self.eps).mean()

    def _of_valid(self, difference: Tensor, mask: Tensor) -> Tensor:
        dims = (0, 1, 2, 3) if self.over == "batch" else (1, 2, 3)
        count = mask.sum(dim=dims) * difference.shape[1]
        mse = difference.where(mask, 0).square().sum(dim=dims) / count.clamp(min=1)
        counts = count > 0
        values = torch.log(mse.where(counts, 1) + self.eps).where(counts, 0)
        return (10 / math.log(10)) * values.sum() / counts.sum().clamp(min=1)

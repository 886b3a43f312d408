"""What all losses share: a weight, what they are called with, float32, shapes that must agree."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from srtoolbox.errors import UserError

Reduction = Literal["mean", "sum"]


class Loss(nn.Module):
    """A loss; the subclasses here compare ``sr`` with ``gt``, in float32, and give one number.

    Class attributes:
        inputs: What the loss is called with, in this order: ``sr`` and ``gt``, (N, C, H, W) or
            (N, T, C, H, W) in [0, 1]; ``lq``, the reference frame (N, C, h, w); ``frames``, all
            of them (N, T, C, h, w); ``aux``, the network's other outputs by name.
        reduction: "mean" or "sum": how the losses of the parts of a batch make up its own.

    Args:
        loss_weight: Factor on the loss.
    """

    inputs: tuple[str, ...] = ("sr", "gt")
    reduction: Reduction = "mean"

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The weighted loss.

        Raises:
            UserError: if the shapes differ.
        """
        check_shapes(sr, gt)
        return self.loss_weight * self.value(sr.float(), gt.float())

    def value(self, sr: Tensor, gt: Tensor) -> Tensor:
        """The loss of two tensors of one shape; what a loss implements."""
        raise NotImplementedError

    def reduce(self, values: Tensor) -> Tensor:
        """The mean or the sum of all elements."""
        return values.mean() if self.reduction == "mean" else values.sum()


def check_shapes(sr: Tensor, gt: Tensor) -> None:
    """Refuses tensors that would be broadcast.

    Raises:
        UserError: naming both shapes.
    """
    if sr.shape != gt.shape:
        raise UserError(
            f"sr is {tuple(sr.shape)} but gt is {tuple(gt.shape)}; the scales, channels and frames "
            "of network and dataset must agree"
        )


def as_images(stack: Tensor) -> Tensor:
    """Clips (N, T, C, H, W) as images (N * T, C, H, W); images as they are."""
    return stack.flatten(0, 1) if stack.ndim == 5 else stack

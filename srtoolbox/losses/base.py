"""Base class of all losses, and checks of their inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from weakref import WeakSet

import torch
from torch import Tensor, nn

from srtoolbox.errors import ComponentError, UserError
from srtoolbox.utils.own_code import calling, describe_value, place_of

Reduction = Literal["mean", "sum"]

_checked: WeakSet[nn.Module] = WeakSet()  # losses whose first value was correct


class Loss(nn.Module):
    """Base class of losses. The default one compares ``sr`` with ``gt`` in float32.

    Class attributes:
        inputs: Arguments of `forward`, in this order: ``sr`` and ``gt``, (N, C, H, W) or
            (N, T, C, H, W) in [0, 1]; ``lq``, the reference frame (N, C, h, w); ``frames``, all
            LR frames (N, T, C, h, w); ``aux``, the network's other outputs by name.
        reduction: "mean" or "sum": how to combine the losses of the parts of a batch.

    Args:
        loss_weight: Factor on the loss.
    """

    inputs: tuple[str, ...] = ("sr", "gt")
    reduction: Reduction = "mean"

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, sr: Tensor, gt: Tensor) -> Tensor:
        """Returns the weighted loss, a scalar.

        Raises:
            UserError: if the shapes differ.
        """
        check_shapes(sr, gt)
        return self.loss_weight * self.value(sr.float(), gt.float())

    def value(self, sr: Tensor, gt: Tensor) -> Tensor:
        """Returns the unweighted loss of two float32 tensors of one shape. To be implemented."""
        raise NotImplementedError("implement value(sr, gt)")

    @classmethod
    def identity(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns everything that decides the values of a loss with these options.

        A loss that reads a file puts the hash of its content in the place of its path.
        """
        return dict(options)

    def reduce(self, values: Tensor) -> Tensor:
        """Returns the mean or the sum of all elements."""
        return values.mean() if self.reduction == "mean" else values.sum()


def run_loss(loss: nn.Module, inputs: Sequence[Any]) -> Tensor:
    """Calls a loss; its first value is checked.

    Args:
        loss: A registered loss.
        inputs: The tensors that its ``inputs`` name; ``aux`` is a dict.

    Returns:
        The weighted loss, a scalar.

    Raises:
        ComponentError: if it returns anything else or a value without gradient, or if the code of a
            user's own loss fails.
    """
    with calling(loss, "forward"):
        value = loss(*inputs)
    if loss not in _checked:
        _check_value(loss, inputs, value)
        _checked.add(loss)
    return value


def _check_value(loss: nn.Module, inputs: Sequence[Any], value: Any) -> None:
    tensors = [tensor for tensor in inputs if isinstance(tensor, Tensor)]
    name = f"{type(loss).__name__}{place_of(loss, 'forward')}"
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
        raise ComponentError(
            f"{name} returned {describe_value(value)}; return a scalar floating-point tensor, such "
            "as the mean of all elements"
        )
    if tensors and value.device != tensors[0].device:
        raise ComponentError(
            f"{name} returned a value on {value.device} for tensors on {tensors[0].device}; create "
            "tensors on the device of the inputs"
        )
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    # A loss that does not apply to a batch may return a constant 0.
    if learns and not value.requires_grad and value.item() != 0:
        raise ComponentError(
            f"{name} returned a value without gradient; compute it with torch, without .detach(), "
            ".item(), numpy or torch.no_grad()"
        )


def check_shapes(sr: Tensor, gt: Tensor) -> None:
    """Checks that both tensors have one shape, as torch would broadcast other ones.

    Raises:
        UserError: if the shapes differ; the message names both.
    """
    if sr.shape != gt.shape:
        raise UserError(
            f"sr is {tuple(sr.shape)} but gt is {tuple(gt.shape)}; the scales, channels and frames "
            "of network and dataset must agree"
        )


def as_images(stack: Tensor) -> Tensor:
    """Reshapes clips (N, T, C, H, W) to images (N * T, C, H, W); returns images unchanged."""
    return stack.flatten(0, 1) if stack.ndim == 5 else stack


def check_size(name: str, image: Tensor, min_size: int) -> None:
    """Checks that height and width of ``image`` (…, H, W) are at least ``min_size``.

    Raises:
        UserError: if they are not; the message begins with ``name``.
    """
    height, width = image.shape[-2:]
    if min(height, width) < min_size:
        raise UserError(f"{name}: needs {min_size}×{min_size} pixels, got {height}×{width}")

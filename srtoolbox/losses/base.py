"""Base class of all losses, and checks of their inputs."""

from __future__ import annotations

import inspect
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

    Pixels that a dataset masks (clouds, missing values) count nowhere. A loss with ``takes_mask``
    gets the mask and averages over the other pixels. Every other loss, also that of a plugin, gets
    ``sr`` with the masked pixels replaced by those of ``gt``; they have no difference and no
    gradient, and a mean still divides by all pixels. With ``train.accumulate`` or several
    processes, each part of a batch has its own mean over its valid pixels, and these means are
    averaged.

    Class attributes:
        inputs: Arguments of `forward`, in this order: ``sr`` and ``gt``, (N, C, H, W) or
            (N, T, C, H, W) in [0, 1]; ``lq``, the reference frame (N, C, h, w); ``frames``, all
            LR frames (N, T, C, h, w); ``aux``, the network's other outputs by name.
        reduction: "mean" or "sum": how to combine the losses of the parts of a batch.
        takes_mask: Whether `forward` and `value` have a third argument ``mask``. A subclass whose
            own `value` or `forward` lacks it does not inherit it.

    Args:
        loss_weight: Factor on the loss.
    """

    inputs: tuple[str, ...] = ("sr", "gt")
    reduction: Reduction = "mean"
    takes_mask: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = [vars(cls)[name] for name in ("value", "forward") if callable(vars(cls).get(name))]
        lacks = any("mask" not in inspect.signature(method).parameters for method in own)
        if lacks and "takes_mask" not in vars(cls):
            cls.takes_mask = False

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, sr: Tensor, gt: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the weighted loss, a scalar.

        Args:
            sr: Restored images (N, C, H, W) or (N, T, C, H, W).
            gt: The ground truth, of the same shape.
            mask: True for the pixels that count, (N, 1, H, W) or (N, T, 1, H, W); only for a loss
                with ``takes_mask``. None: all count.

        Raises:
            UserError: if the shapes differ.
        """
        check_shapes(sr, gt)
        if mask is None:
            return self.loss_weight * self.value(sr.float(), gt.float())
        return self.loss_weight * self.value(sr.float(), gt.float(), mask)  # type: ignore[call-arg]

    def value(self, sr: Tensor, gt: Tensor) -> Tensor:
        """Returns the unweighted loss of two float32 tensors of one shape. To be implemented.

        A loss with ``takes_mask`` has a third parameter ``mask: Tensor | None = None``.
        """
        raise NotImplementedError("implement value(sr, gt)")

    @classmethod
    def check_options(cls, options: Mapping[str, Any], channels: int) -> None:
        """As ``check_channels``, before a loss with these options is built, which may need files.

        Raises:
            UserError: if images of so many channels cannot be compared.
        """

    def check_channels(self, channels: int) -> None:
        """Checks, before the training starts, that images of so many channels can be compared.

        Raises:
            UserError: if they cannot; the message names the option to set.
        """

    @classmethod
    def identity(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns everything that decides the values of a loss with these options.

        A loss that reads a file puts the hash of its content in the place of its path.
        """
        return dict(options)

    def reduce(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the mean or the sum of all elements, or of those where ``mask`` is True."""
        if mask is None:
            return values.mean() if self.reduction == "mean" else values.sum()
        if self.reduction == "mean":
            return masked_mean(values, mask)
        return values.where(mask, 0).sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean of the elements where the mask is True; 0 if there are none.

    Args:
        values: (…, C, H, W), finite, also where the mask is False.
        mask: (…, 1, H, W) bool.
    """
    count = mask.sum() * (values.numel() // mask.numel())
    return values.where(mask, 0).sum() / count.clamp(min=1)


def run_loss(loss: nn.Module, inputs: Sequence[Any], mask: Tensor | None = None) -> Tensor:
    """Calls a loss; its first value is checked.

    Args:
        loss: A registered loss.
        inputs: The tensors that its ``inputs`` name; ``aux`` is a dict.
        mask: True for the pixels that count; only for a loss with ``takes_mask``.

    Returns:
        The weighted loss, a scalar.

    Raises:
        ComponentError: if it returns anything else or a value without gradient, or if the code of a
            user's own loss fails.
    """
    with calling(loss, "forward"):
        value = loss(*inputs) if mask is None else loss(*inputs, mask=mask)
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

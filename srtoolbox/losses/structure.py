"""Losses on structure: edges, frequencies, local statistics.

They use shifted views instead of convolutions, because a GPU may round the input of a convolution
to 10 bits, which is too coarse for differences and variances.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.errors import check_choice
from srtoolbox.losses.base import Loss, Reduction, as_images, check_size
from srtoolbox.registry import LOSS_REGISTRY


@LOSS_REGISTRY.register()
class EdgeLoss(Loss):
    """Mean absolute error of image derivatives, at pixels whose 3×3 window is inside the image.

    Args:
        loss_weight: Factor on the loss.
        operator: "sobel" (two first derivatives) or "laplacian" (second derivative).
    """

    def __init__(
        self, loss_weight: float = 1.0, operator: Literal["sobel", "laplacian"] = "sobel"
    ) -> None:
        super().__init__(loss_weight)
        check_choice("EdgeLoss: operator", operator, ("sobel", "laplacian"))
        self.operator = operator

    def value(self, sr: Tensor, gt: Tensor) -> Tensor:
        difference = sr - gt  # derivatives are linear
        check_size("EdgeLoss", difference, 3)
        if self.operator == "laplacian":
            return laplacian(difference).abs().mean()
        dx, dy = sobel(difference)
        return (dx.abs().mean() + dy.abs().mean()) / 2


@LOSS_REGISTRY.register()
class GradientWeightedLoss(Loss):
    """L1 with larger weights where edges differ: (1 + 4 dx)(1 + 4 dy) |sr − gt|.

    dx and dy are the absolute differences of Sobel derivatives, with zeros beyond the border (Wei
    et al., Component divide-and-conquer, ECCV 2020; FBANet adds it to Charbonnier with weight 3).

    Args:
        loss_weight: Factor on the loss.
        reduction: Mean or sum over all elements.
        gain: Weight of the derivatives; 4 in the paper.
    """

    takes_mask = True

    def __init__(
        self, loss_weight: float = 1.0, reduction: Reduction = "mean", gain: float = 4.0
    ) -> None:
        super().__init__(loss_weight)
        self.reduction, self.gain = reduction, gain

    def value(self, sr: Tensor, gt: Tensor, mask: Tensor | None = None) -> Tensor:
        difference = sr - gt
        if mask is not None:  # masked pixels are zeros, like those beyond the border
            difference = difference.where(mask, 0)
        dx, dy = sobel(F.pad(difference, (1, 1, 1, 1)))
        weight = (1 + self.gain * dx.abs()) * (1 + self.gain * dy.abs())
        return self.reduce(weight * difference.abs(), mask)


@LOSS_REGISTRY.register()
class FFTLoss(Loss):
    """Mean absolute error of the spectrum, real and imaginary parts (Cho et al., ICCV 2021).

    Args:
        loss_weight: Factor on the loss; 0.1 in the paper, in addition to L1.
        norm: "backward" is the unscaled transform of the paper, whose values grow with the image
            size; those of "ortho" do not.
    """

    def __init__(
        self, loss_weight: float = 1.0, norm: Literal["backward", "ortho"] = "backward"
    ) -> None:
        super().__init__(loss_weight)
        check_choice("FFTLoss: norm", norm, ("backward", "ortho"))
        self.norm = norm

    def value(self, sr: Tensor, gt: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(sr - gt, norm=self.norm)  # linear
        return torch.view_as_real(spectrum).abs().mean()


@LOSS_REGISTRY.register()
class SSIMLoss(Loss):
    """1 − SSIM, averaged over all pixels and channels (Wang et al., TIP 2004).

    Args:
        loss_weight: Factor on the loss.
        window: "gaussian": 11×11, sigma 1.5, where it fits into the image. "average": 3×3 averages
            at all pixels, with zeros beyond the border (DSTC-SRNet's combined loss).
    """

    def __init__(
        self, loss_weight: float = 1.0, window: Literal["gaussian", "average"] = "gaussian"
    ) -> None:
        super().__init__(loss_weight)
        check_choice("SSIMLoss: window", window, ("gaussian", "average"))
        self.window = window

    def value(self, sr: Tensor, gt: Tensor) -> Tensor:
        x, y = as_images(sr), as_images(gt)
        c1, c2 = 0.01**2, 0.03**2
        maps = torch.stack((x, y, x * x + y * y, x * y))
        if self.window == "gaussian":
            check_size("SSIMLoss", x, len(_GAUSSIAN))
            maps = _blur(maps)
        else:  # not by weights of 1/3: their rounding errors are seen in the variances
            maps = F.avg_pool2d(maps.flatten(0, 1), 3, stride=1, padding=1).view_as(maps)
        mean_x, mean_y, power, product = maps
        means = mean_x * mean_y
        squares = mean_x.square() + mean_y.square()
        similarity = ((2 * means + c1) * (2 * (product - means) + c2)) / (
            (squares + c1) * (power - squares + c2)
        )
        return 1 - similarity.mean()


def sobel(image: Tensor) -> tuple[Tensor, Tensor]:
    """Returns Sobel derivatives along x and y without padding, (…, H - 2, W - 2) each."""

    def difference(x: Tensor, axis: int) -> Tensor:
        first, _, last = _shifts(x, axis)
        return last - first

    def smooth(x: Tensor, axis: int) -> Tensor:
        first, middle, last = _shifts(x, axis)
        return first + 2 * middle + last

    return difference(smooth(image, -2), -1), difference(smooth(image, -1), -2)


def laplacian(image: Tensor) -> Tensor:
    """Returns the sum of the four neighbours minus four times the pixel: (…, H - 2, W - 2)."""
    above, middle, below = _shifts(image, -2)
    left, centre, right = _shifts(middle, -1)
    return above[..., 1:-1] + below[..., 1:-1] + left + right - 4 * centre


def _shifts(x: Tensor, axis: int) -> list[Tensor]:
    return [x.narrow(axis, start, x.shape[axis] - 2) for start in range(3)]


_WEIGHTS = [math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)]
_GAUSSIAN = [weight / sum(_WEIGHTS) for weight in _WEIGHTS]


def _blur(image: Tensor) -> Tensor:
    """Gaussian filter without padding: (…, H, W) to (…, H - 10, W - 10)."""
    for axis in (-2, -1):
        length = image.shape[axis] - len(_GAUSSIAN) + 1
        shifts = (weight * image.narrow(axis, i, length) for i, weight in enumerate(_GAUSSIAN))
        image = sum(shifts, image.new_zeros(()))
    return image

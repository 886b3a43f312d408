"""The steps of a degradation: blur, resizing, noise, JPEG, rounding, on any device.

A degradation is a *recipe*, a sequence of steps. All random choices are made when a recipe is
drawn; applying it draws nothing. Steps compute in float64 on levels from 0 to 255, and what they
round is rounded half up with a small margin. Therefore a CPU and a GPU give the same pixels, and
the result for an image does not depend on the other images of its batch.

``apply_recipes`` applies one recipe to each image. Images of equal size whose next step is of one
kind are computed together.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from srtoolbox.data.degradations.jpeg import compress, round_levels
from srtoolbox.data.degradations.noise import normal_noise, poisson_noise
from srtoolbox.data.resize.kernels import Interpolation, interpolate

_LUMA = (0.299, 0.587, 0.114)


class Step:
    """One step of a recipe."""

    @property
    def form(self) -> Hashable:
        """Steps of one class with equal forms are applied to a batch together."""
        return ()

    def for_frame(self, frame: int) -> Step:
        """Returns the step for a frame of a clip: noise differs, everything else does not."""
        return self

    @classmethod
    def apply(cls, steps: Sequence[Any], images: Tensor) -> Tensor:
        """Applies step n to image n.

        Args:
            steps: N steps of this class and of one form.
            images: (N, C, H, W) float64 levels.

        Returns:
            (N, C, H', W') float64 levels.
        """
        raise NotImplementedError


Recipe = tuple[Step, ...]


def for_frame(recipe: Recipe, frame: int) -> Recipe:
    """Returns the recipe of a frame of a clip; that of frame 0 is the recipe itself."""
    return tuple(step.for_frame(frame) for step in recipe)


def apply_recipes(images: Tensor, recipes: Sequence[Recipe]) -> list[Tensor]:
    """Degrades every image by its own recipe.

    Args:
        images: (N, C, H, W) float64 levels from 0 to 255.
        recipes: N recipes.

    Returns:
        N images (C, h, w), float64 levels.
    """
    current = list(images)
    for number in range(max(map(len, recipes), default=0)):
        groups: dict[Hashable, list[int]] = {}
        for index, recipe in enumerate(recipes):
            if number < len(recipe):
                step = recipe[number]
                kind = type(step), step.form, current[index].shape
                groups.setdefault(kind, []).append(index)
        for members in groups.values():
            steps = [recipes[index][number] for index in members]
            batch = torch.stack([current[index] for index in members])
            for index, image in zip(members, type(steps[0]).apply(steps, batch), strict=True):
                current[index] = image
    return current


@dataclass(frozen=True, eq=False)
class Blur(Step):
    """Correlates with a kernel of odd size; the image is mirrored at its outermost pixels.

    Args:
        kernel: (k, k) float64.
        name: Name of the kernel, for descriptions.
    """

    kernel: np.ndarray
    name: str = "blur"

    @classmethod
    def apply(cls, steps: Sequence[Blur], images: Tensor) -> Tensor:
        radius = max(len(step.kernel) for step in steps) // 2
        side = 2 * radius + 1
        kernels = np.zeros((len(steps), side, side))
        for whole, step in zip(kernels, steps, strict=True):
            spare = (side - len(step.kernel)) // 2
            whole[spare : side - spare, spare : side - spare] = step.kernel
        return correlate(images, torch.from_numpy(kernels).to(images.device))

    def __str__(self) -> str:
        return f"{self.name.replace('_', ' ')} {len(self.kernel)}×{len(self.kernel)}"


def correlate(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlates each image with its own kernel, by the Fourier transform.

    In float64 its error is about 1e-12 levels, and large kernels cost no more than small ones.

    Args:
        images: (N, C, H, W) float64; mirrored at the outermost pixels, as often as needed.
        kernels: (N, k, k) float64 of odd size.

    Returns:
        (N, C, H, W) float64.
    """
    radius, size = kernels.shape[-1] // 2, images.shape[-2:]
    padded = images
    for dim, length in zip((-2, -1), size, strict=True):
        padded = padded.index_select(dim, _mirrored(length, radius, images.device))
    whole = [fft.next_fast_len(length + 2 * radius, real=True) for length in size]
    spectrum = torch.fft.rfft2(padded, s=whole)
    spectrum = spectrum * torch.fft.rfft2(kernels, s=whole).conj()[:, None]
    return torch.fft.irfft2(spectrum, s=whole)[..., : size[0], : size[1]]


def _mirrored(length: int, radius: int, device: torch.device) -> Tensor:
    period = max(2 * (length - 1), 1)
    index = torch.arange(-radius, length + radius, device=device) % period
    return torch.minimum(index, period - index) if length > 1 else 0 * index


@dataclass(frozen=True)
class Resize(Step):
    """Resizes to a size.

    Args:
        size: Height and width.
        kernel: As of ``interpolate``.
        clip: Clip to the range of levels, which bicubic kernels leave.
    """

    size: tuple[int, int]
    kernel: Interpolation
    clip: bool = False

    @property
    def form(self) -> Hashable:
        return self

    @classmethod
    def apply(cls, steps: Sequence[Resize], images: Tensor) -> Tensor:
        resized = interpolate(images, steps[0].size, steps[0].kernel)
        return resized.clamp(0, 255) if steps[0].clip else resized

    def __str__(self) -> str:
        return f"{self.kernel} to {self.size[1]}×{self.size[0]}"


@dataclass(frozen=True)
class Subsample(Step):
    """Takes every ``factor``-th pixel of every ``factor``-th row, from the first on."""

    factor: int

    @property
    def form(self) -> Hashable:
        return self

    @classmethod
    def apply(cls, steps: Sequence[Subsample], images: Tensor) -> Tensor:
        return images[..., :: steps[0].factor, :: steps[0].factor].clamp(0, 255)

    def __str__(self) -> str:
        return f"every {self.factor}th pixel"


@dataclass(frozen=True, eq=False)
class GaussianNoise(Step):
    """Adds normal noise, then clips to the range of levels.

    Args:
        mixing: (C, C) float64: a pixel's noise is this matrix times C standard normal numbers, in
            levels. A multiple of the identity gives independent channels, a single column of equal
            numbers grey noise.
        seed: Seed of the numbers.
        name: Kind of noise, for descriptions.
    """

    mixing: np.ndarray
    seed: int
    name: str = "Gaussian noise"

    def for_frame(self, frame: int) -> GaussianNoise:
        return replace(self, seed=self.seed + frame)

    @classmethod
    def apply(cls, steps: Sequence[GaussianNoise], images: Tensor) -> Tensor:
        normal = normal_noise(_seeds(steps, images), images.shape, torch.float64).unbind(1)
        mixing = torch.from_numpy(np.stack([step.mixing for step in steps])).to(images.device)
        noise = torch.zeros_like(images)
        for column, numbers in enumerate(normal):  # a fixed order of sums, unlike a matrix product
            noise += mixing[:, :, column, None, None] * numbers[:, None]
        return (images + noise).clamp_(0, 255)

    def __str__(self) -> str:
        strength = math.sqrt((self.mixing**2).sum() / len(self.mixing))
        return f"{self.name} {strength:.1f}"


@dataclass(frozen=True)
class PoissonNoise(Step):
    """Adds the Poisson noise of the image in 8 bits (see ``poisson_noise``), then clips.

    Args:
        scale: Factor of the noise.
        grey: Add the noise of the grey image to all channels.
        seed: Seed of the numbers.
    """

    scale: float
    grey: bool
    seed: int

    @property
    def form(self) -> Hashable:
        return self.grey

    def for_frame(self, frame: int) -> PoissonNoise:
        return replace(self, seed=self.seed + frame)

    @classmethod
    def apply(cls, steps: Sequence[PoissonNoise], images: Tensor) -> Tensor:
        source = round_levels(grey(images)) if steps[0].grey else round_levels(images)
        noise = poisson_noise(_seeds(steps, images), source)
        scale = images.new_tensor([step.scale for step in steps])[:, None, None, None]
        return (images + scale * noise).clamp_(0, 255)

    def __str__(self) -> str:
        return f"{'grey ' if self.grey else ''}Poisson noise ×{self.scale:.2f}"


@dataclass(frozen=True)
class Jpeg(Step):
    """Compresses by JPEG; see ``jpeg.compress``.

    Args:
        quality: From 1 to 100.
    """

    quality: int

    @classmethod
    def apply(cls, steps: Sequence[Jpeg], images: Tensor) -> Tensor:
        return compress(images, [step.quality for step in steps])

    def __str__(self) -> str:
        return f"JPEG {self.quality}"


@dataclass(frozen=True)
class Quantize(Step):
    """Rounds to whole levels of a bit depth and clips; the result has the range 0 to 255."""

    bit_depth: int = 8

    @property
    def form(self) -> Hashable:
        return self

    @classmethod
    def apply(cls, steps: Sequence[Quantize], images: Tensor) -> Tensor:
        top = 2 ** steps[0].bit_depth - 1
        return round_levels(images * (top / 255), top) * (255 / top)

    def __str__(self) -> str:
        return f"{self.bit_depth} bits"


def grey(images: Tensor) -> Tensor:
    """Returns the luma of RGB images, or the mean of other channels: (N, 1, H, W)."""
    channels = images.shape[1]
    weights = _LUMA if channels == 3 else (1 / channels,) * channels
    total = images[:, :1] * weights[0]
    for index in range(1, channels):
        total = total + images[:, index : index + 1] * weights[index]
    return total


def sharpen(images: Tensor, weight: float = 0.5, threshold: float = 10.0) -> Tensor:
    """Sharpens images by an unsharp mask where they have contrast, as Real-ESRGAN does.

    The mask is a Gaussian of 51 pixels with a standard deviation of 8.

    Args:
        images: (N, C, H, W) float64 levels.
        weight: Share of the difference from the blurred image that is added.
        threshold: Difference, in levels, from which on a pixel is sharpened; the selection is
            blurred by the same Gaussian.

    Returns:
        (N, C, H, W) float64 levels from 0 to 255.
    """
    offset = np.arange(-25, 26)
    line = np.exp(-0.5 * (offset / 8.0) ** 2)
    kernel = torch.from_numpy(np.outer(line, line) / line.sum() ** 2).to(images.device)
    kernels = kernel.expand(len(images), -1, -1)
    residual = images - correlate(images, kernels)
    # 1e-6: differences that equal the threshold are decided alike on every device.
    selected = correlate((residual.abs() > threshold + 1e-6).to(images.dtype), kernels)
    sharp = (images + weight * residual).clamp(0, 255)
    return (selected * sharp + (1 - selected) * images).clamp(0, 255)


def _seeds(steps: Sequence[Any], images: Tensor) -> Tensor:
    return torch.tensor([step.seed for step in steps], dtype=torch.int64, device=images.device)

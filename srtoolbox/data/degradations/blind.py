"""Blind degradations: how recipes of random steps are drawn, as options of datasets.

- ``first_order``: y = JPEG((x ⊗ k)↓s + n), the classical model.
- ``bsrgan``: Zhang et al., "Designing a practical degradation model for deep blind image
  super-resolution", ICCV 2021: the steps have a random order.
- ``real_esrgan``: Wang et al., "Real-ESRGAN: training real-world blind super-resolution with pure
  synthetic data", ICCVW 2021: the classical model twice, with other steps and a final sinc filter.

A degradation is an immutable object whose ``draw`` returns a recipe (see ``degradations.steps``).
Its options have the names that BasicSR and Real-ESRGAN use. ``(low, high)`` is the range of a
uniform draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from srtoolbox.data.degradations.kernels import (
    KERNELS,
    gaussian_kernel,
    motion_kernel,
    sinc_kernel,
)
from srtoolbox.data.degradations.steps import (
    Blur,
    GaussianNoise,
    Jpeg,
    PoissonNoise,
    Recipe,
    Resize,
    Step,
    Subsample,
)
from srtoolbox.data.resize.kernels import Interpolation
from srtoolbox.errors import UserError, check_choice
from srtoolbox.registry import DEGRADATION_REGISTRY

Size = tuple[int, int]
Pair = tuple[float, float]
KernelName = Literal[
    "iso",
    "aniso",
    "generalized_iso",
    "generalized_aniso",
    "plateau_iso",
    "plateau_aniso",
    "sinc",
    "motion",
]

_REAL_KERNELS: tuple[KernelName, ...] = KERNELS[:6]
_REAL_PROBS = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
_REAL_RESIZE: tuple[Interpolation, ...] = ("area", "bilinear", "bicubic")


class Degradation(Protocol):
    """The interface of a registered degradation.

    Attributes:
        margin: HR pixels around a training crop that are degraded, too, and then cut off.
        gt_usm: Whether the ground truth of training crops is sharpened before it is degraded.
    """

    @property
    def margin(self) -> int: ...

    @property
    def gt_usm(self) -> bool: ...

    def draw(self, rng: np.random.Generator, size: Size, scale: int, channels: int) -> Recipe:
        """Draws the recipe of an image.

        Args:
            rng: Source of all random choices.
            size: Height and width of the image, multiples of ``scale``.
            scale: HR size divided by LR size.
            channels: Channels of the image.

        Returns:
            Steps that make (C, H / scale, W / scale) of (C, H, W); rounding to whole levels is
            added by the dataset.
        """
        ...


@dataclass(frozen=True)
class BlurOptions:
    """How a blur kernel is drawn; the arguments are those of ``RealESRGAN`` without a number."""

    kernel_list: Sequence[str] = _REAL_KERNELS
    kernel_prob: Sequence[float] = _REAL_PROBS
    sinc_prob: float = 0.1
    kernel_size_range: tuple[int, int] = (7, 21)
    blur_sigma: Pair = (0.2, 3.0)
    betag_range: Pair = (0.5, 4.0)
    betap_range: Pair = (1.0, 2.0)
    motion_length: Pair = (3.0, 15.0)

    def draw(self, rng: np.random.Generator) -> Blur:
        """Draws a kernel and returns the step that blurs with it."""
        size = draw_size(self.kernel_size_range, rng)
        if rng.random() < self.sinc_prob:
            name = "sinc"
        else:
            name = self.kernel_list[choose(self.kernel_prob, rng)]
        if name == "sinc":
            return draw_sinc(size, rng)
        angle = rng.uniform(-math.pi, math.pi)
        if name == "motion":
            length = min(rng.uniform(*self.motion_length), size - 1)
            return Blur(motion_kernel(size, length, angle), "motion")
        first, second = rng.uniform(*self.blur_sigma, 2)
        sigma = (first, first) if name.endswith("iso") and "aniso" not in name else (first, second)
        beta = 1.0
        plateau = name.startswith("plateau")
        if plateau or name.startswith("generalized"):
            low, high = self.betap_range if plateau else self.betag_range
            if low <= 1 <= high:  # half of the exponents are at most 1
                low, high = (low, 1.0) if rng.random() < 0.5 else (1.0, high)
            beta = rng.uniform(low, high)
        return Blur(gaussian_kernel(size, sigma, angle, beta=beta, plateau=plateau), name)


@dataclass(frozen=True)
class NoiseOptions:
    """How noise is drawn; the arguments are those of ``RealESRGAN`` without a number."""

    gaussian_noise_prob: float = 0.5
    noise_range: Pair = (1.0, 30.0)
    poisson_scale_range: Pair = (0.05, 3.0)
    gray_noise_prob: float = 0.4

    def draw(self, rng: np.random.Generator, channels: int) -> Step:
        """Draws Gaussian or, otherwise, Poisson noise."""
        grey = bool(rng.random() < self.gray_noise_prob)
        if rng.random() < self.gaussian_noise_prob:
            return gaussian_noise(rng.uniform(*self.noise_range), grey, channels, rng)
        return poisson_noise(self.poisson_scale_range, grey, rng)


@DEGRADATION_REGISTRY.register("first_order")
@dataclass(frozen=True)
class FirstOrder:
    """The classical model: blur, reduction, noise, then JPEG if asked for.

    The sizes and widths of the isotropic kernels are those of Gu et al., "Blind super-resolution
    with iterative kernel correction", CVPR 2019, at x4. The other defaults are our choice: as many
    anisotropic kernels, and noise of up to 25 levels.

    Args:
        kernel_list: Blur kernels to choose from: iso, aniso, generalized_iso, generalized_aniso,
            plateau_iso, plateau_aniso, sinc, motion.
        kernel_prob: Weight of each kernel.
        kernel_size_range: Smallest and largest side of a kernel; odd sizes in between are drawn.
        blur_prob: Probability of a blur.
        blur_sigma: Standard deviations in HR pixels.
        betag_range: Exponent of generalized Gaussian kernels; half of them are at most 1.
        betap_range: Exponent of plateau kernels; half of them are at most 1.
        motion_length: Length of the path of motion kernels, in HR pixels.
        resize_list: Interpolation kernels of the reduction, equally probable: nearest, area,
            bilinear, bicubic, or bicubic-aa, which is MATLAB's.
        gaussian_noise_prob: Probability of Gaussian noise.
        noise_range: Standard deviation of Gaussian noise, in 8-bit levels.
        poisson_noise_prob: Probability of Poisson noise.
        poisson_scale_range: Factor of Poisson noise.
        gray_noise_prob: Probability that noise is the same in all channels.
        jpeg_prob: Probability of JPEG compression.
        jpeg_range: Quality of JPEG, whole numbers.
        margin: HR pixels around a training crop that are degraded, too, and then cut off.
        gt_usm: Sharpen the ground truth of training crops, as Real-ESRGAN does.

    Raises:
        UserError: names the invalid option.
    """

    kernel_list: Sequence[KernelName] = ("iso", "aniso")
    kernel_prob: Sequence[float] = (0.5, 0.5)
    kernel_size_range: tuple[int, int] = (21, 21)
    blur_prob: float = 1.0
    blur_sigma: Pair = (0.2, 4.0)
    betag_range: Pair = (0.5, 4.0)
    betap_range: Pair = (1.0, 2.0)
    motion_length: Pair = (3.0, 15.0)
    resize_list: Sequence[Interpolation] = ("bicubic-aa",)
    gaussian_noise_prob: float = 1.0
    noise_range: Pair = (0.0, 25.0)
    poisson_noise_prob: float = 0.0
    poisson_scale_range: Pair = (0.05, 3.0)
    gray_noise_prob: float = 0.0
    jpeg_prob: float = 0.0
    jpeg_range: tuple[int, int] = (30, 95)
    margin: int = 32
    gt_usm: bool = False

    def __post_init__(self) -> None:
        check_options("first_order", vars(self))

    def draw(self, rng: np.random.Generator, size: Size, scale: int, channels: int) -> Recipe:
        """Draws the recipe of an image; see ``Degradation``."""
        blur = BlurOptions(
            self.kernel_list,
            self.kernel_prob,
            0.0,
            self.kernel_size_range,
            self.blur_sigma,
            self.betag_range,
            self.betap_range,
            self.motion_length,
        ).draw(rng)
        steps: list[Step] = [blur] if rng.random() < self.blur_prob else []
        steps.append(Resize(reduced(size, scale), pick(self.resize_list, rng)))
        grey = bool(rng.random() < self.gray_noise_prob)
        gaussian = gaussian_noise(rng.uniform(*self.noise_range), grey, channels, rng)
        poisson = poisson_noise(self.poisson_scale_range, grey, rng)
        jpeg = draw_jpeg(self.jpeg_range, rng)
        wanted = [
            (self.poisson_noise_prob, poisson),
            (self.gaussian_noise_prob, gaussian),
            (self.jpeg_prob, jpeg),
        ]
        return tuple(steps + [step for prob, step in wanted if rng.random() < prob])


@DEGRADATION_REGISTRY.register("bsrgan")
@dataclass(frozen=True)
class BSRGAN:
    """BSRGAN's chain in random order: two blurs, two reductions, Gaussian noise, JPEG; then JPEG.

    Zhang et al., ICCV 2021. At x4, the image is first halved with a probability of 1/4. Ranges that
    depend on the scale s, which is 2 after that: a blur is isotropic, with a standard deviation up
    to 2 + 0.2 s, or anisotropic, with variances up to 4 + s along its axes; the first reduction is
    by a factor of 1 to 2 s, or a Gaussian blur of 0.1 to 0.6 s with a shifted centre and every
    s-th pixel; the second one, which is always later, gives the size of the result. The camera's
    noise of the paper, which needs a model of its image processor, is left out, as in the public
    training code.

    Args:
        scale2_prob: Probability of the first halving, at x4.
        nearest_prob: Probability that the first reduction takes every s-th pixel.
        noise_range: Standard deviation of Gaussian noise, in 8-bit levels; whole numbers.
        color_noise_prob: Probability of independent noise in each channel.
        gray_noise_prob: Probability of noise that is the same in all channels. The rest is noise
            with a random covariance of the channels.
        jpeg_prob: Probability of JPEG compression inside the chain.
        jpeg_range: Quality of JPEG, whole numbers; also of the last one, which is always made.
        final_jpeg: Compress the result by JPEG.
        margin: HR pixels around a training crop that are degraded, too, and then cut off. The paper
            degrades whole images.
        gt_usm: Sharpen the ground truth of training crops, as Real-ESRGAN does.

    Raises:
        UserError: names the invalid option.
    """

    scale2_prob: float = 0.25
    nearest_prob: float = 0.25
    noise_range: tuple[int, int] = (2, 25)
    color_noise_prob: float = 0.4
    gray_noise_prob: float = 0.4
    jpeg_prob: float = 0.9
    jpeg_range: tuple[int, int] = (30, 95)
    final_jpeg: bool = True
    margin: int = 32
    gt_usm: bool = False

    def __post_init__(self) -> None:
        check_options("bsrgan", vars(self))
        if self.color_noise_prob + self.gray_noise_prob > 1 + 1e-9:
            raise UserError("bsrgan: color_noise_prob and gray_noise_prob add up to more than 1")

    def draw(self, rng: np.random.Generator, size: Size, scale: int, channels: int) -> Recipe:
        """Draws the recipe of an image; see ``Degradation``."""
        steps: list[Step] = []
        target = reduced(size, scale)
        if scale == 4 and rng.random() < self.scale2_prob:
            kernels = (*_REAL_RESIZE, "bicubic-aa")
            # Half of these reductions are MATLAB's.
            kernel = kernels[choose((1, 1, 1, 3), rng)]
            size, scale = reduced(size, 2), 2
            steps.append(Resize(size, kernel, clip=True))
        order = list(rng.permutation(6))
        first, second = sorted((order.index(2), order.index(3)))
        order[first], order[second] = 2, 3  # the reduction to the final size comes later
        for kind in order:
            if kind in (0, 1):
                steps.append(self._blur(rng, scale))
            elif kind == 2:
                steps += self._reduction(rng, size, scale)
            elif kind == 3:
                steps.append(Resize(target, pick(_REAL_RESIZE, rng), clip=True))
            elif kind == 4:
                steps.append(self._noise(rng, channels))
            elif rng.random() < self.jpeg_prob:
                steps.append(draw_jpeg(self.jpeg_range, rng))
        last = draw_jpeg(self.jpeg_range, rng)
        return (*steps, last) if self.final_jpeg else tuple(steps)

    @staticmethod
    def _blur(rng: np.random.Generator, scale: int) -> Blur:
        size = draw_size((7, 25), rng)
        if rng.random() < 0.5:
            first, second = np.sqrt(_positive(rng.uniform(0, 4 + scale, 2)))
            kernel = gaussian_kernel(size, (first, second), rng.uniform(0, math.pi))
            return Blur(kernel, "aniso")
        sigma = float(_positive(rng.uniform(0, 2 + 0.2 * scale)))
        return Blur(gaussian_kernel(size, (sigma, sigma)), "iso")

    def _reduction(self, rng: np.random.Generator, size: Size, scale: int) -> Iterator[Step]:
        if rng.random() >= self.nearest_prob:
            factor = rng.uniform(1, 2 * scale)
            yield Resize(reduced(size, factor), pick(_REAL_RESIZE, rng), clip=True)
            return
        sigma = rng.uniform(0.1, 0.6 * scale)
        # The first of s pixels gets the value at the middle of all.
        kernel = gaussian_kernel(25, (sigma, sigma), centre=(scale - 1) / 2)
        yield Blur(kernel, "shifted iso")
        yield Subsample(scale)

    def _noise(self, rng: np.random.Generator, channels: int) -> GaussianNoise:
        sigma = float(rng.integers(self.noise_range[0], self.noise_range[1], endpoint=True))
        kind = rng.random()
        if kind < self.gray_noise_prob:
            return gaussian_noise(sigma, True, channels, rng)
        if kind < self.gray_noise_prob + self.color_noise_prob:
            return gaussian_noise(sigma, False, channels, rng)
        # Covariance L² Uᵀ D U of an orthogonal U and eigenvalues D below 1; its root mixes.
        basis, _ = np.linalg.qr(rng.random((channels, channels)))
        mixing = self.noise_range[1] * basis.T * np.sqrt(rng.random(channels))
        return GaussianNoise(mixing, draw_seed(rng), "correlated noise")


@DEGRADATION_REGISTRY.register("real_esrgan")
@dataclass(frozen=True)
class RealESRGAN:
    """Real-ESRGAN's two stages of blur, resizing, noise and JPEG, with a final sinc filter.

    Wang et al., ICCVW 2021. The last resizing with the sinc filter, and the last JPEG, have a
    random order. Every image has its own choices; the public code draws resizing once for a batch
    and mixes batches afterwards.

    Args:
        kernel_list: Blur kernels to choose from: iso, aniso, generalized_iso, generalized_aniso,
            plateau_iso, plateau_aniso, sinc, motion.
        kernel_prob: Weight of each kernel.
        sinc_prob: Probability of a sinc kernel instead.
        kernel_size_range: Smallest and largest side of a kernel; odd sizes in between are drawn.
        blur_sigma: Standard deviations in pixels.
        betag_range: Exponent of generalized Gaussian kernels; half of them are at most 1.
        betap_range: Exponent of plateau kernels; half of them are at most 1.
        motion_length: Length of the path of motion kernels, in pixels.
        resize_list: Interpolation kernels of all resizings, equally probable: nearest, area,
            bilinear, bicubic, bicubic-aa.
        resize_prob: Weights of enlarging, reducing, and keeping the size.
        resize_range: Smallest and largest factor.
        gaussian_noise_prob: Probability of Gaussian noise; otherwise the noise is Poisson's.
        noise_range: Standard deviation of Gaussian noise, in 8-bit levels.
        poisson_scale_range: Factor of Poisson noise.
        gray_noise_prob: Probability that noise is the same in all channels.
        jpeg_range: Quality of JPEG, whole numbers.
        second_blur_prob: Probability of the second blur.
        kernel_list2: As ``kernel_list``, of the second stage, as all options with a 2.
        kernel_prob2: As ``kernel_prob``.
        sinc_prob2: As ``sinc_prob``.
        kernel_size_range2: As ``kernel_size_range``.
        blur_sigma2: As ``blur_sigma``.
        betag_range2: As ``betag_range``.
        betap_range2: As ``betap_range``.
        resize_prob2: As ``resize_prob``.
        resize_range2: As ``resize_range``; the factor relative to the size of the result.
        gaussian_noise_prob2: As ``gaussian_noise_prob``.
        noise_range2: As ``noise_range``.
        poisson_scale_range2: As ``poisson_scale_range``.
        gray_noise_prob2: As ``gray_noise_prob``.
        jpeg_range2: As ``jpeg_range``.
        final_sinc_prob: Probability of the final sinc filter.
        margin: HR pixels around a training crop that are degraded, too, and then cut off. The
            public code cuts 256 pixels from 400.
        gt_usm: Sharpen the ground truth of training crops before it is degraded.

    Raises:
        UserError: names the invalid option.
    """

    kernel_list: Sequence[KernelName] = _REAL_KERNELS
    kernel_prob: Sequence[float] = _REAL_PROBS
    sinc_prob: float = 0.1
    kernel_size_range: tuple[int, int] = (7, 21)
    blur_sigma: Pair = (0.2, 3.0)
    betag_range: Pair = (0.5, 4.0)
    betap_range: Pair = (1.0, 2.0)
    motion_length: Pair = (3.0, 15.0)
    resize_list: Sequence[Interpolation] = _REAL_RESIZE
    resize_prob: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: Pair = (0.15, 1.5)
    gaussian_noise_prob: float = 0.5
    noise_range: Pair = (1.0, 30.0)
    poisson_scale_range: Pair = (0.05, 3.0)
    gray_noise_prob: float = 0.4
    jpeg_range: tuple[int, int] = (30, 95)
    second_blur_prob: float = 0.8
    kernel_list2: Sequence[KernelName] = _REAL_KERNELS
    kernel_prob2: Sequence[float] = _REAL_PROBS
    sinc_prob2: float = 0.1
    kernel_size_range2: tuple[int, int] = (7, 21)
    blur_sigma2: Pair = (0.2, 1.5)
    betag_range2: Pair = (0.5, 4.0)
    betap_range2: Pair = (1.0, 2.0)
    resize_prob2: tuple[float, float, float] = (0.3, 0.4, 0.3)
    resize_range2: Pair = (0.3, 1.2)
    gaussian_noise_prob2: float = 0.5
    noise_range2: Pair = (1.0, 25.0)
    poisson_scale_range2: Pair = (0.05, 2.5)
    gray_noise_prob2: float = 0.4
    jpeg_range2: tuple[int, int] = (30, 95)
    final_sinc_prob: float = 0.8
    margin: int = 72
    gt_usm: bool = True

    def __post_init__(self) -> None:
        check_options("real_esrgan", vars(self))

    def draw(self, rng: np.random.Generator, size: Size, scale: int, channels: int) -> Recipe:
        """Draws the recipe of an image; see ``Degradation``."""
        target = reduced(size, scale)
        first = 1 / draw_factor(self.resize_prob, self.resize_range, rng)
        steps: list[Step] = [
            self._blur("").draw(rng),
            Resize(reduced(size, first), pick(self.resize_list, rng)),
            self._noise("").draw(rng, channels),
            draw_jpeg(self.jpeg_range, rng),
        ]
        blur = self._blur("2").draw(rng)
        if rng.random() < self.second_blur_prob:
            steps.append(blur)
        second = scale / draw_factor(self.resize_prob2, self.resize_range2, rng)
        steps += [
            Resize(reduced(size, second), pick(self.resize_list, rng)),
            self._noise("2").draw(rng, channels),
        ]
        last: list[Step] = [Resize(target, pick(self.resize_list, rng))]
        sinc = draw_sinc(draw_size(self.kernel_size_range2, rng), rng, math.pi / 3)
        if rng.random() < self.final_sinc_prob:
            last.append(sinc)
        jpeg = draw_jpeg(self.jpeg_range2, rng)
        return (*steps, *last, jpeg) if rng.random() < 0.5 else (*steps, jpeg, *last)

    def _blur(self, stage: str) -> BlurOptions:
        names = ["kernel_list", "kernel_prob", "sinc_prob", "kernel_size_range", "blur_sigma"]
        names += ["betag_range", "betap_range"]
        chosen = {name: getattr(self, name + stage) for name in names}
        return BlurOptions(motion_length=self.motion_length, **chosen)

    def _noise(self, stage: str) -> NoiseOptions:
        names = ("gaussian_noise_prob", "noise_range", "poisson_scale_range", "gray_noise_prob")
        return NoiseOptions(*(getattr(self, name + stage) for name in names))


def check_options(owner: str, options: Mapping[str, Any]) -> None:
    """Checks the options of a degradation by their names.

    Raises:
        UserError: names the degradation and the invalid option.
    """
    for name, value in options.items():
        if "_range" in name or name.startswith(("blur_sigma", "motion_length")):
            low, high = value
            if low > high or low < 0:
                raise UserError(
                    f"{owner}: {name} must be [low, high] with 0 ≤ low ≤ high, got {[low, high]}"
                )
            if low == 0 and name.startswith(("blur_sigma", "beta", "resize_range", "jpeg")):
                raise UserError(f"{owner}: {name} must be above 0, got {[low, high]}")
        if name.startswith("kernel_size_range") and not (value[0] % 2 and value[1] % 2):
            raise UserError(f"{owner}: {name} needs odd sizes, got {list(value)}")
        if name.startswith("jpeg_range") and value[1] > 100:
            raise UserError(f"{owner}: {name} must not exceed 100, got {list(value)}")
        if name.startswith("resize_range") and not value[0] <= 1 <= value[1]:
            raise UserError(f"{owner}: {name} must contain 1, got {list(value)}")
        if name.startswith(("kernel_prob", "resize_prob")):
            if min(value, default=0) < 0 or sum(value) <= 0:
                raise UserError(
                    f"{owner}: {name} needs weights of at least 0, one of them above, got "
                    f"{list(value)}"
                )
            listed = options.get(name.replace("prob", "list"))
            if name.startswith("kernel") and len(value) != len(listed or ()):
                raise UserError(
                    f"{owner}: {name} has {len(value)} weights for {len(listed or ())} kernels; "
                    "give one for each"
                )
        elif name.endswith(("_prob", "_prob2")) and not 0 <= value <= 1:
            raise UserError(f"{owner}: {name} must be from 0 to 1, got {value}")
        if name.startswith("kernel_list"):
            for kernel in value:
                check_choice(f"{owner}: {name}", kernel, KERNELS)
        if name.startswith("resize_list") and not value:
            raise UserError(f"{owner}: {name} is empty; name an interpolation kernel")
        if name == "margin" and value < 0:
            raise UserError(f"{owner}: margin must not be negative, got {value}")


def reduced(size: Size, factor: float) -> Size:
    """Returns the size of an image that is reduced by a factor, at least one pixel."""
    height, width = (max(1, int(side / factor + 1e-9)) for side in size)
    return height, width


def choose(weights: Sequence[float], rng: np.random.Generator) -> int:
    """Draws an index with probabilities in proportion to weights."""
    bounds = np.cumsum(weights)
    index = np.searchsorted(bounds, rng.random() * bounds[-1], side="right")
    return min(int(index), len(bounds) - 1)


def pick(names: Sequence[Any], rng: np.random.Generator) -> Any:
    """Draws one of some names with equal probabilities."""
    return names[int(rng.integers(len(names)))]


def draw_size(sizes: tuple[int, int], rng: np.random.Generator) -> int:
    """Draws an odd size in a range of odd sizes."""
    return int(rng.integers(sizes[0] // 2, sizes[1] // 2, endpoint=True)) * 2 + 1


def draw_factor(weights: Sequence[float], limits: Pair, rng: np.random.Generator) -> float:
    """Draws a factor above 1, below 1, or 1, with these weights."""
    bounds = ((1.0, limits[1]), (limits[0], 1.0), (1.0, 1.0))
    return float(rng.uniform(*bounds[choose(weights, rng)]))


def draw_sinc(size: int, rng: np.random.Generator, lowest: float | None = None) -> Blur:
    """Draws the cut-off frequency of a sinc kernel, up to π.

    Args:
        size: Side of the kernel.
        rng: Source of the draw.
        lowest: Lowest frequency; None: π/3 for kernels below 13 pixels, π/5 for larger ones.
    """
    if lowest is None:
        lowest = math.pi / 3 if size < 13 else math.pi / 5
    return Blur(sinc_kernel(size, rng.uniform(lowest, math.pi)), "sinc")


def draw_seed(rng: np.random.Generator) -> int:
    """Draws the seed of a noise step."""
    return int(rng.integers(2**62))


def draw_jpeg(limits: tuple[int, int], rng: np.random.Generator) -> Jpeg:
    """Draws a quality, a whole number."""
    return Jpeg(int(rng.integers(limits[0], limits[1], endpoint=True)))


def gaussian_noise(
    sigma: float, grey: bool, channels: int, rng: np.random.Generator
) -> GaussianNoise:
    """Returns Gaussian noise with a standard deviation in levels, alike in all channels if grey."""
    mixing = np.zeros((channels, channels))
    if grey:
        mixing[:, 0] = sigma
    else:
        np.fill_diagonal(mixing, sigma)
    name = "grey Gaussian noise" if grey else "Gaussian noise"
    return GaussianNoise(mixing, draw_seed(rng), name)


def poisson_noise(limits: Pair, grey: bool, rng: np.random.Generator) -> PoissonNoise:
    """Draws the factor of Poisson noise."""
    return PoissonNoise(float(rng.uniform(*limits)), grey, draw_seed(rng))


def _positive(value: Any) -> Any:
    """Raises numbers to a width that is too small to blur, but not 0."""
    return np.maximum(value, 1e-4)

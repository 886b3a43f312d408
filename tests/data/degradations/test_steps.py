"""Steps of degradations: exact, one result whatever the batch, noise of the stated strength."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from skimage import data

from srtoolbox.data.degradations.kernels import gaussian_kernel, sinc_kernel
from srtoolbox.data.degradations.noise import normal_noise, poisson_noise
from srtoolbox.data.degradations.steps import (
    Blur,
    GaussianNoise,
    Jpeg,
    PoissonNoise,
    Quantize,
    Recipe,
    Resize,
    Subsample,
    apply_recipes,
    correlate,
    for_frame,
    grey,
    sharpen,
)


def images(number: int = 2, channels: int = 3, height: int = 40, width: int = 56) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.uniform(0, 255, (number, channels, height, width)))


def apply(image: torch.Tensor, *steps: object) -> torch.Tensor:
    return apply_recipes(image[None], [steps])[0]  # pyright: ignore[reportArgumentType]


def colour_noise(sigma: float, seed: int) -> GaussianNoise:
    return GaussianNoise(sigma * np.eye(3), seed)


class TestBlur:
    @pytest.mark.parametrize("size", [1, 7, 21])
    def test_is_a_grouped_correlation_of_the_mirrored_image(self, size: int) -> None:
        kernels = torch.from_numpy(np.random.default_rng(1).uniform(0, 1, (2, size, size)))
        half = size // 2
        padded = F.pad(images(), (half,) * 4, mode="reflect").flatten(0, 1)[None]
        weights = kernels.repeat_interleave(3, 0)[:, None]
        expected = F.conv2d(padded, weights, groups=6)[0].unflatten(0, (2, 3))
        torch.testing.assert_close(correlate(images(), kernels), expected, rtol=1e-12, atol=1e-9)

    def test_images_smaller_than_the_kernel(self) -> None:
        kernel = gaussian_kernel(21, (3.0, 3.0))
        for height, width in ((1, 1), (2, 5), (3, 30)):
            pixels = images(1, 1, height, width)[0]
            padded = np.pad(pixels[0].numpy(), 10, mode="reflect")
            windows = np.lib.stride_tricks.sliding_window_view(padded, (21, 21))
            expected = (windows * kernel).sum((-2, -1))
            np.testing.assert_allclose(apply(pixels, Blur(kernel))[0], expected, atol=1e-9)

    def test_kernels_of_different_sizes_in_one_batch(self) -> None:
        kernels = [gaussian_kernel(7, (1.0, 2.0)), sinc_kernel(21, 1.5)]
        both = apply_recipes(images(), [(Blur(kernel),) for kernel in kernels])
        for image, kernel, result in zip(images(), kernels, both, strict=True):
            torch.testing.assert_close(result, apply(image, Blur(kernel)), rtol=0, atol=1e-9)


class TestNoise:
    def test_gaussian(self) -> None:
        flat = torch.full((3, 200, 200), 128.0, dtype=torch.float64)
        noise = apply(flat, colour_noise(10, 3)) - 128
        assert noise.mean().item() == pytest.approx(0, abs=0.1)
        assert noise.std().item() == pytest.approx(10, rel=0.01)
        assert np.abs(np.corrcoef(noise.flatten(1)) - np.eye(3)).max() < 0.02

    def test_grey(self) -> None:
        mixing = np.zeros((3, 3))
        mixing[:, 0] = 7
        noise = apply(torch.full((3, 99, 99), 128.0).double(), GaussianNoise(mixing, 3)) - 128
        assert torch.equal(noise[0], noise[1])
        assert torch.equal(noise[0], noise[2])
        assert noise.std().item() == pytest.approx(7, rel=0.02)

    def test_covariance(self) -> None:
        mixing = np.array([[3.0, 0, 0], [2, 1, 0], [0, -2, 4]])
        noise = apply(torch.full((3, 300, 300), 128.0).double(), GaussianNoise(mixing, 5)) - 128
        np.testing.assert_allclose(np.cov(noise.flatten(1)), mixing @ mixing.T, atol=0.25)

    def test_doubles_are_the_floats(self) -> None:
        seeds = torch.tensor([5, 2**61])
        shape = torch.Size((2, 3, 9))
        doubles = normal_noise(seeds, shape, torch.float64)
        torch.testing.assert_close(doubles.float(), normal_noise(seeds, shape))

    @pytest.mark.parametrize("level", [0, 3, 100, 255])
    def test_poisson_counts_have_the_distribution_of_poisson(self, level: int) -> None:
        """One half of the image has many levels, so that white has a mean of 256 counts."""
        image = torch.full((1, 1, 2, 40000), float(level))
        image[0, 0, 0, :256] = torch.arange(256.0)
        noise = poisson_noise(torch.tensor([11]), image)[0, 0, 1].numpy()
        counts = (noise + level) * 256 / 255
        np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
        mean = level / 255 * 256
        if level == 0:
            assert not counts.any()
            return
        assert counts.mean() == pytest.approx(mean, rel=0.02)
        assert counts.var() == pytest.approx(mean, rel=0.03)
        values = np.arange(int(mean - 2 * math.sqrt(mean)), int(mean + 2 * math.sqrt(mean)) + 1)
        share = (np.round(counts)[:, None] <= values).mean(0)
        assert np.abs(share - stats.poisson.cdf(values, mean)).max() < 0.01

    @pytest.mark.parametrize(("levels", "brightest"), [(2, 2), (3, 4), (17, 32), (128, 128)])
    def test_poisson_depends_on_the_number_of_levels(self, levels: int, brightest: int) -> None:
        image = (torch.arange(3000) % levels * (255 // levels)).reshape(1, 1, 50, 60).double()
        counts = (poisson_noise(torch.tensor([2]), image) + image) * brightest / 255
        torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-9)
        assert not torch.allclose(counts / 2, (counts / 2).round())

    def test_poisson_step(self) -> None:
        photograph = torch.from_numpy(data.astronaut()[:99, :99].transpose(2, 0, 1).copy()).double()
        one, half = (apply(photograph, PoissonNoise(scale, False, 4)) for scale in (1.0, 0.5))
        inside = (one > 0) & (one < 255)
        expected = photograph + (one - photograph) / 2
        torch.testing.assert_close(half[inside], expected[inside])
        noise = apply(photograph, PoissonNoise(0.2, True, 4)) - photograph
        inside = ((photograph > 60) & (photograph < 190)).all(0)
        torch.testing.assert_close(noise[0][inside], noise[2][inside])

    def test_the_frames_of_a_clip_have_their_own_numbers(self) -> None:
        recipe: Recipe = (colour_noise(5, 8), Jpeg(50), PoissonNoise(1.0, False, 9))
        frames = [for_frame(recipe, frame) for frame in range(3)]
        image = images(1)[0]
        made = apply_recipes(torch.stack([image] * 3), frames)
        assert not torch.equal(made[0], made[1])
        assert not torch.equal(made[1], made[2])
        assert torch.equal(made[0], apply(image, *recipe))


def recipes() -> list[Recipe]:
    """Recipes with the same and with different steps and sizes at one place."""
    kernel = gaussian_kernel(9, (1.0, 2.0), 0.3)
    return [
        (Blur(kernel), Resize((20, 28), "area"), colour_noise(9, 1), Jpeg(40), Quantize()),
        (Blur(kernel), Resize((20, 28), "area"), colour_noise(3, 2), Jpeg(80), Quantize()),
        (Jpeg(70), PoissonNoise(1.0, True, 3), Resize((10, 14), "bicubic"), Quantize()),
        (Subsample(2), Blur(kernel), PoissonNoise(2.0, False, 3), Jpeg(30), Quantize(12)),
        (PoissonNoise(0.5, True, 7), colour_noise(20, 4), Resize((9, 9), "bicubic-aa", clip=True)),
        (),
    ]


def test_an_image_does_not_depend_on_its_batch() -> None:
    pixels = images(6)
    together = apply_recipes(pixels, recipes())
    backwards = apply_recipes(pixels.flip(0), recipes()[::-1])[::-1]
    for image, recipe, first, second in zip(pixels, recipes(), together, backwards, strict=True):
        alone = apply(image, *recipe)
        assert torch.equal(first, alone)
        assert torch.equal(second, alone)


@pytest.mark.cuda
def test_devices_agree() -> None:
    ours = apply_recipes(images(6), recipes())
    theirs = apply_recipes(images(6).cuda(), recipes())
    for first, second in zip(ours, theirs, strict=True):
        torch.testing.assert_close(first / 255, second.cpu() / 255, rtol=0, atol=1e-5)


def test_global_random_numbers_do_not_matter() -> None:
    first = apply_recipes(images(6), recipes())
    torch.manual_seed(99)
    for ours, theirs in zip(first, apply_recipes(images(6), recipes()), strict=True):
        assert torch.equal(ours, theirs)


def test_rounding() -> None:
    pixels = torch.tensor([[[-3.0, 0.5, 1.4999, 99.5, 260.0]]], dtype=torch.float64)
    assert apply(pixels, Quantize()).tolist() == [[[0, 1, 1, 100, 255]]]
    deep = apply(pixels, Quantize(16)) * 257
    torch.testing.assert_close(deep, deep.round(), rtol=0, atol=1e-9)


def test_grey_is_luma_or_the_mean() -> None:
    three, two = images(1, 3), images(1, 2)
    expected = 0.299 * three[:, :1] + 0.587 * three[:, 1:2] + 0.114 * three[:, 2:]
    torch.testing.assert_close(grey(three), expected)
    torch.testing.assert_close(grey(two), two.mean(1, keepdim=True))


class TestSharpening:
    def test_leaves_smooth_images_alone(self) -> None:
        ramp = torch.linspace(50, 60, 80, dtype=torch.float64).expand(1, 1, 80, 80)
        torch.testing.assert_close(sharpen(ramp), ramp)

    def test_raises_the_contrast_at_edges(self) -> None:
        edge = torch.full((1, 1, 90, 90), 80.0, dtype=torch.float64)
        edge[..., 45:] = 160
        sharp = sharpen(edge)[0, 0, 45]
        assert sharp[44] < 75
        assert sharp[45] > 165
        torch.testing.assert_close(sharp[[0, -1]], edge[0, 0, 45][[0, -1]], rtol=0, atol=0.1)

    def test_agrees_with_opencv(self) -> None:
        """The published rule in float32 with OpenCV's Gaussian blur."""
        import cv2

        photograph = data.astronaut()[60:190, 150:290].astype(np.float32)
        soft = cv2.GaussianBlur(photograph, (51, 51), 0)
        residual = photograph - soft
        selected = (np.abs(residual) > 10).astype(np.float32)
        selected = cv2.GaussianBlur(selected, (51, 51), 0)
        expected = selected * (photograph + 0.5 * residual).clip(0, 255)
        expected += (1 - selected) * photograph
        pixels = torch.from_numpy(photograph.transpose(2, 0, 1)).double()
        ours = sharpen(pixels[None])[0].numpy().transpose(1, 2, 0)
        np.testing.assert_allclose(ours, expected, atol=0.02)

"""Recipes of blind degradations: their order, ranges and probabilities are the published ones."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from srtoolbox.config.files import as_tree
from srtoolbox.config.schema import OptionErrors, build, check
from srtoolbox.data.degradations.blind import (
    BSRGAN,
    BlurOptions,
    Degradation,
    FirstOrder,
    RealESRGAN,
    draw_factor,
    draw_size,
)
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
)
from srtoolbox.data.prepare.degrade import DegradationFile
from srtoolbox.errors import UserError
from srtoolbox.plugins import load_plugins
from srtoolbox.registry import DEGRADATION_REGISTRY

NAMES = ("bsrgan", "first_order", "real_esrgan")
every_degradation = pytest.mark.parametrize("name", NAMES)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn(
    degradation: Degradation, number: int = 400, size: tuple[int, int] = (64, 96), scale: int = 4
) -> list[Recipe]:
    numbers = rng(1)
    return [degradation.draw(numbers, size, scale, 3) for _ in range(number)]


def share(recipes: list[Recipe], kind: type, **where: Any) -> float:
    """The mean number of steps of a kind, with these attributes."""
    found = [
        isinstance(step, kind) and all(getattr(step, k) == v for k, v in where.items())
        for recipe in recipes
        for step in recipe
    ]
    return sum(found) / len(recipes)


def test_all_are_here() -> None:
    assert sorted(DEGRADATION_REGISTRY.names()) == sorted(NAMES)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.integers(0, 2**31),
    st.sampled_from([(1, 1), (2, 3), (7, 5), (12, 9)]),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.sampled_from([1, 2, 3, 5]),
)
def test_any_size_scale_and_number_of_bands(
    name: str, seed: int, small: tuple[int, int], scale: int, channels: int
) -> None:
    size = small[0] * scale, small[1] * scale
    recipe = build("degradation", {"type": name}).draw(rng(seed), size, scale, channels)
    image = torch.from_numpy(rng(seed).uniform(0, 255, (1, channels, *size)))
    (made,) = apply_recipes(image, [recipe])
    assert made.shape == (channels, *small)
    assert made.isfinite().all()


@every_degradation
def test_one_seed_one_recipe(name: str) -> None:
    degradation = build("degradation", {"type": name})
    first, second, other = (degradation.draw(rng(seed), (64, 64), 4, 3) for seed in (5, 5, 6))
    assert list(map(str, first)) == list(map(str, second))
    assert list(map(str, first)) != list(map(str, other))
    image = torch.from_numpy(rng().uniform(0, 255, (1, 3, 64, 64)))
    assert torch.equal(*(apply_recipes(image, [recipe])[0] for recipe in (first, second)))


@every_degradation
def test_the_rounding_of_another_device_changes_no_pixel(name: str) -> None:
    """Errors as of another order of sums are put behind every step; only rounding follows."""
    degradation, numbers = build("degradation", {"type": name}), rng(3)
    photograph = torch.from_numpy(data.astronaut().transpose(2, 0, 1).copy()).double()
    for place in range(0, 320, 20):
        image = photograph[:, place : place + 64, 100 : 100 + 64]
        image = image if place % 80 else torch.full_like(image, place / 2)  # ties
        recipe = (*degradation.draw(numbers, (64, 64), 4, 3), Quantize())
        (expected,) = apply_recipes(image[None], [recipe])
        made = image[None]
        for step in recipe:
            made = type(step).apply([step], made)
            if not isinstance(step, Jpeg | Quantize):  # their results are whole levels
                error = numbers.uniform(-2e-13, 2e-13, made.shape)
                made = made * (1 + torch.from_numpy(error))
        assert torch.equal(made[0], expected)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 2**31)), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_an_image_does_not_depend_on_its_batch(samples: list[tuple[str, int]], order: Any) -> None:
    """Whatever other images there are, and in whatever order."""
    made = {}
    for batch in (samples, order.sample(samples, len(samples)), *([sample] for sample in samples)):
        recipes = [
            build("degradation", {"type": name}).draw(rng(seed), (36, 44), 2, 3)
            for name, seed in batch
        ]
        pixels = [rng(seed).uniform(0, 255, (3, 36, 44)) for _, seed in batch]
        for sample, result in zip(
            batch, apply_recipes(torch.from_numpy(np.stack(pixels)), recipes), strict=True
        ):
            expected = made.setdefault(sample, result)
            torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


PINNED = {
    "bsrgan": (
        "bicubic-aa to 48×32, iso 23×23, iso 21×21, Gaussian noise 19.0, bicubic to 13×9, bilinear "
        "to 24×16, JPEG 59",
        145432,
        [54, 120, 152],
    ),
    "first_order": ("aniso 21×21, bicubic-aa to 24×16, Gaussian noise 4.4", 145522, [54, 125, 128]),
    "real_esrgan": (
        "iso 11×11, bilinear to 126×84, Gaussian noise 29.0, JPEG 48, aniso 17×17, area to 26×17, "
        "Gaussian noise 11.7, bilinear to 24×16, sinc 9×9, JPEG 42",
        145767,
        [55, 129, 138],
    ),
}


@every_degradation
def test_samples_do_not_change_by_accident(name: str) -> None:
    """Trained weights and test sets depend on these numbers."""
    y, x = np.mgrid[:64, :96]
    planes = [(x * 5 + y * 3) % 256, (x * y) % 256, (255 - x * 2 - y) % 256]
    image = torch.from_numpy(np.stack(planes).astype(np.float64))[None]
    degradation = build("degradation", {"type": name})
    recipe = degradation.draw(rng(2026), (64, 96), 4, 3)
    (made,) = apply_recipes(image, [(*recipe, Quantize())])
    steps = ", ".join(map(str, recipe))
    assert (steps, int(made.sum()), made[:, 7, 11].int().tolist()) == PINNED[name]


@every_degradation
def test_objects_are_immutable(name: str) -> None:
    degradation = build("degradation", {"type": name})
    with pytest.raises(AttributeError):
        degradation.margin = 3


class TestFirstOrder:
    def test_is_blur_reduction_noise(self) -> None:
        for recipe in drawn(FirstOrder(), 20):
            assert [type(step) for step in recipe] == [Blur, Resize, GaussianNoise]
            assert recipe[1] == Resize((16, 24), "bicubic-aa")

    def test_probabilities(self) -> None:
        options = {"blur_prob": 0.3, "gaussian_noise_prob": 0.6, "poisson_noise_prob": 0.2}
        recipes = drawn(FirstOrder(**options, jpeg_prob=0.4, resize_list=("area", "nearest")))
        for kind, expected in ((Blur, 0.3), (GaussianNoise, 0.6), (PoissonNoise, 0.2), (Jpeg, 0.4)):
            assert share(recipes, kind) == pytest.approx(expected, abs=0.08)
        assert share(recipes, Resize, kernel="area") == pytest.approx(0.5, abs=0.08)

    def test_without_everything_it_is_a_reduction(self) -> None:
        clean = FirstOrder(blur_prob=0, gaussian_noise_prob=0)
        assert drawn(clean, 3) == [(Resize((16, 24), "bicubic-aa"),)] * 3

    def test_every_kernel(self) -> None:
        for kernel in ("sinc", "motion", "plateau_aniso", "generalized_iso"):
            recipe = drawn(FirstOrder(kernel_list=(kernel,), kernel_prob=(1,)), 1)[0]
            assert isinstance(recipe[0], Blur)
            assert recipe[0].name == kernel


class TestBSRGAN:
    recipes = drawn(BSRGAN(), 1500)

    def test_two_blurs_and_noise_in_any_order(self) -> None:
        shifted = share(self.recipes, Blur, name="shifted iso")
        assert share(self.recipes, Blur) == pytest.approx(2 + shifted)
        assert shifted == pytest.approx(0.25, abs=0.04)
        assert share(self.recipes, Subsample) == shifted
        assert share(self.recipes, GaussianNoise) == 1
        assert share(self.recipes, Jpeg) == pytest.approx(1.9, abs=0.03)
        assert all(isinstance(recipe[-1], Jpeg) for recipe in self.recipes)
        places = [
            next(i for i, step in enumerate(recipe) if isinstance(step, GaussianNoise))
            for recipe in self.recipes
        ]
        assert len(set(places)) >= 6

    def test_the_last_reduction_gives_the_size(self) -> None:
        for recipe in self.recipes:
            sizes = [step for step in recipe if isinstance(step, Resize | Subsample)]
            assert isinstance(sizes[-1], Resize)
            assert sizes[-1].size == (16, 24)

    def test_noise(self) -> None:
        kinds = {
            name: share(self.recipes, GaussianNoise, name=name)
            for name in ("Gaussian noise", "grey Gaussian noise", "correlated noise")
        }
        assert kinds == pytest.approx(
            {"Gaussian noise": 0.4, "grey Gaussian noise": 0.4, "correlated noise": 0.2}, abs=0.04
        )
        for recipe in self.recipes:
            for step in recipe:
                if isinstance(step, GaussianNoise) and step.name == "correlated noise":
                    eigenvalues = np.linalg.eigvalsh(step.mixing @ step.mixing.T)
                    assert 0 <= eigenvalues.min() <= eigenvalues.max() <= 25**2
                elif isinstance(step, GaussianNoise):
                    assert step.mixing[0, 0] in range(2, 26)

    def test_the_first_halving(self) -> None:
        halved = [
            isinstance(recipe[0], Resize) and recipe[0].size == (32, 48) for recipe in self.recipes
        ]
        assert np.mean(halved) == pytest.approx(0.25, abs=0.04)
        doubles = drawn(BSRGAN(), 200, scale=2)
        assert all(step.factor == 2 for r in doubles for step in r if isinstance(step, Subsample))
        assert max(len(recipe) for recipe in doubles) <= 8

    def test_the_shifted_reduction_keeps_the_image_in_place(self) -> None:
        """The centre of mass of a blob stays where it is, in HR pixels."""
        y, x = np.mgrid[:96, :96] + 0.5
        blob = np.exp(-((x - 40) ** 2 + (y - 52) ** 2) / 200) * 255
        image = torch.from_numpy(blob)[None, None]
        steps = tuple(BSRGAN(nearest_prob=1)._reduction(rng(2), (96, 96), 4))
        small = apply_recipes(image, [steps])[0][0].numpy()
        assert small.shape == (24, 24)
        rows, columns = np.mgrid[:24, :24] * 4 + 2.0
        assert (small * columns).sum() / small.sum() == pytest.approx(40, abs=0.1)
        assert (small * rows).sum() / small.sum() == pytest.approx(52, abs=0.1)


class TestRealESRGAN:
    recipes = drawn(RealESRGAN(), 1500)

    def test_two_stages(self) -> None:
        for recipe in self.recipes:
            assert [type(step) for step in recipe[:2]] == [Blur, Resize]
            assert isinstance(recipe[2], GaussianNoise | PoissonNoise)
            assert isinstance(recipe[3], Jpeg)
        assert share(self.recipes, Jpeg) == 2
        assert share(self.recipes, Resize) == 3
        assert share(self.recipes, GaussianNoise) == pytest.approx(1, abs=0.06)
        assert share(self.recipes, Blur) == pytest.approx(1 + 0.8 + 0.8, abs=0.06)

    def test_the_end_has_two_orders(self) -> None:
        first = [isinstance(recipe[-1], Jpeg) for recipe in self.recipes]
        assert np.mean(first) == pytest.approx(0.5, abs=0.05)
        for recipe in self.recipes:
            last = [step for step in recipe if isinstance(step, Resize)][-1]
            assert last.size == (16, 24)

    def test_sizes(self) -> None:
        sizes = [recipe[1].size for recipe in self.recipes if isinstance(recipe[1], Resize)]
        heights = np.array(sizes)[:, 0]
        assert (heights > 64).mean() == pytest.approx(0.2, abs=0.04)
        assert heights.min() >= int(0.15 * 64)
        assert heights.max() <= 1.5 * 64
        second = [[s for s in r if isinstance(s, Resize)][1].size[0] for r in self.recipes]
        assert int(0.3 * 16) <= min(second) <= max(second) <= 1.2 * 16

    def test_kernels(self) -> None:
        names = Counter(recipe[0].name for recipe in self.recipes if isinstance(recipe[0], Blur))
        expected = {"iso": 0.45, "aniso": 0.25, "generalized_iso": 0.12, "plateau_iso": 0.12}
        for name, prob in expected.items():
            assert names[name] / 1500 == pytest.approx(0.9 * prob, abs=0.035)
        assert names["sinc"] / 1500 == pytest.approx(0.1, abs=0.03)
        sizes = {len(recipe[0].kernel) for recipe in self.recipes if isinstance(recipe[0], Blur)}
        assert sizes == set(range(7, 22, 2))

    def test_noise(self) -> None:
        noise = [recipe[2] for recipe in self.recipes]
        grey = [
            step.grey if isinstance(step, PoissonNoise) else step.name.startswith("grey")
            for step in noise
            if isinstance(step, PoissonNoise | GaussianNoise)
        ]
        assert np.mean(grey) == pytest.approx(0.4, abs=0.05)
        scales = [step.scale for step in noise if isinstance(step, PoissonNoise)]
        assert 0.05 <= min(scales) < max(scales) <= 3


def test_exponents_lie_on_both_sides_of_1() -> None:
    options = BlurOptions(("generalized_iso",), (1,), 0.0, (21, 21), (3.0, 3.0), (0.5, 4.0))
    numbers = rng()
    ratios = np.array([options.draw(numbers).kernel[10, [10, 13]] for _ in range(300)])
    # At one standard deviation, the value is exp(-1/2) for any exponent.
    np.testing.assert_allclose(ratios[:, 1] / ratios[:, 0], np.exp(-0.5), rtol=1e-9)
    other = BlurOptions(("generalized_iso",), (1,), 0.0, (21, 21), (3.0, 3.0), (2.0, 2.0))
    kernel = other.draw(numbers).kernel
    assert kernel[10, 16] / kernel[10, 10] == pytest.approx(np.exp(-(4**2) / 2))


def test_draws() -> None:
    numbers = rng()
    assert {draw_size((3, 9), numbers) for _ in range(200)} == {3, 5, 7, 9}
    factors = [draw_factor((1, 0, 0), (0.5, 2.0), numbers) for _ in range(50)]
    assert 1 <= min(factors) < max(factors) <= 2
    assert draw_factor((0, 0, 1), (0.5, 2.0), numbers) == 1


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"type": "first_order", "blur_sigma": [3, 1]}, "blur_sigma must be [low, high]"),
        ({"type": "first_order", "kernel_prob": [1]}, "1 weights for 2 kernels"),
        ({"type": "first_order", "kernel_size_range": [8, 21]}, "odd sizes"),
        ({"type": "real_esrgan", "resize_range": [1.2, 1.5]}, "must contain 1"),
        ({"type": "real_esrgan", "kernel_prob": [0] * 6}, "one of them above"),
        ({"type": "bsrgan", "color_noise_prob": 0.9}, "add up to more than 1"),
    ],
)
def test_mistakes_across_options(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        build("degradation", spec)
    assert words in str(caught.value)
    assert spec["type"] in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"type": "first_order", "kernel_list": ["isso"]}, "kernel_list.0: expected 'iso'"),
        ({"type": "first_order", "blur_prob": 2}, "must be <= 1"),
        ({"type": "real_esrgan", "jpeg_range": [30, 101]}, "must be <= 100"),
        ({"type": "real_esrgan", "jpeg_range": [30]}, "expected 2 values"),
        ({"type": "bsrgan", "resize_prob": [1, 1, 1]}, "unknown"),
        ({"type": "bsr_gan"}, "did you mean 'bsrgan'"),
    ],
)
def test_mistakes_are_found_in_the_option_file(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionErrors) as caught:
        check(as_tree({"degradation": spec}, "own.yml:3"), DegradationFile)
    assert words in str(caught.value)
    assert str(caught.value).startswith("own.yml:3: degradation")


def test_the_example_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[3] / "docs" / "degradations.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "shaken.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(DEGRADATION_REGISTRY, "_entries", dict(DEGRADATION_REGISTRY._entries))
    load_plugins([str(tmp_path / "shaken.py")])
    recipe = build("degradation", {"type": "shaken", "quality": 30}).draw(rng(), (64, 96), 4, 3)
    (made,) = apply_recipes(torch.full((1, 3, 64, 96), 90.0, dtype=torch.float64), [recipe])
    assert made.shape == (3, 16, 24)
    assert [str(step) for step in recipe] == ["blur 31×31", "area to 24×16", "JPEG 30"]

"""Consistency with LR and correctness: hand-made cases, and plain loops over the rules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import (
    SAM,
    Hallucination,
    Improvement,
    Metric,
    Omission,
    Protocol,
    ReflectanceConsistency,
    SpectralConsistency,
    get_protocol,
)

PLAIN = Protocol("t", color="bands", grey="direct", round_8bit=False)
BANDS = get_protocol("bands")
KINDS = (Improvement, Omission, Hallucination)
SCALE = 4


def scene(bands: int = 4, side: int = 48, seed: int = 0) -> Tensor:
    """Fields and edges (C, H, W) in [0.05, 0.95]."""
    rng = np.random.default_rng(seed)
    blocks = rng.uniform(0.1, 0.9, (bands, side // 6, side // 6)).repeat(6, 1).repeat(6, 2)
    detail = rng.normal(0, 0.05, (bands, side, side))
    return torch.from_numpy((blocks + detail).clip(0.05, 0.95))


def reduced(image: Tensor, mode: str = "bilinear", scale: int = SCALE) -> Tensor:
    size = [length // scale for length in image.shape[1:]]
    return functional.interpolate(image[None], size=size, mode=mode, antialias=True)[0]


def enlarged(image: Tensor, mode: str, scale: int = SCALE) -> Tensor:
    return functional.interpolate(image[None], scale_factor=scale, mode=mode)[0].clamp(0, 1)


def shares(sr: Tensor, gt: Tensor, lq: Tensor, **more: Any) -> list[float]:
    given = {"protocol": BANDS, "scale": SCALE, "lq": lq}
    called = {name: more.pop(name) for name in ("protocol", "mask", "scale") if name in more}
    return [kind(**more)(sr, gt, **{**given, **called}) for kind in KINDS]


def test_a_perfect_result_is_an_improvement() -> None:
    gt = scene()
    assert shares(gt, gt, reduced(gt)) == [1, 0, 0]
    improvement, omission, hallucination = shares(gt, gt, reduced(gt), share="softmin")
    weights = np.exp([0, -4, -4])
    assert improvement == pytest.approx(weights[0] / weights.sum())
    assert omission == pytest.approx(hallucination)


def test_interpolation_omits() -> None:
    gt = scene()
    lq = reduced(gt)
    assert shares(enlarged(lq, "bilinear"), gt, lq) == [0, 1, 0]
    assert shares(enlarged(lq, "bicubic"), gt, lq)[1] > 0.95


def test_random_detail_is_a_hallucination() -> None:
    gt = scene()
    lq = reduced(gt)
    noise = torch.from_numpy(np.random.default_rng(1).normal(0, 0.4, gt.shape))
    noisy = (enlarged(lq, "bilinear") + noise).clamp(0, 1)
    for match in (True, False):
        assert shares(noisy, gt, lq, match_histogram=match)[2] > 0.7
    worse = shares((gt + noise / 8).clamp(0, 1), gt, lq)
    assert worse[0] < 1 and worse[2] > 0


def test_shares_add_up_to_one() -> None:
    sr, gt = scene(seed=3), scene(seed=2)
    for share in ("percent", "softmin"):
        assert sum(shares(sr, gt, reduced(gt), share=share)) == pytest.approx(1)


def by_loops(
    sr: np.ndarray, gt: np.ndarray, low: np.ndarray, threshold: float | None, share: str
) -> list[float]:
    """The rules of opensr-test for images (C, n) with numbers only."""

    def distance(x: np.ndarray, y: np.ndarray) -> list[float]:
        return [
            sum(abs(a - b) / (a + b + 1e-8) for a, b in zip(x[:, n], y[:, n], strict=True)) / len(x)
            for n in range(x.shape[1])
        ]

    ref, im, om = distance(low, gt), distance(sr, gt), distance(sr, low)
    if threshold is None:
        threshold = sorted(ref)[int(0.75 * len(ref)) - 1]
    totals, count = [0.0, 0.0, 0.0], 0
    for r, i, o in zip(ref, im, om, strict=True):
        if max(r, i, o) <= threshold:
            continue
        count += 1
        i, o = i / r, o / r
        rest = 1 - math.exp(-0.05 * (i + o - 1))
        far = [i + o * rest, o + i * rest, math.exp(-0.05 * i * o)]
        if share == "percent":
            totals[far.index(min(far))] += 1
        else:
            weights = [math.exp(-value / 0.25) for value in far]
            totals = [t + w / sum(weights) for t, w in zip(totals, weights, strict=True)]
    return [total / count for total in totals]


@pytest.mark.parametrize("share", ["percent", "softmin"])
@pytest.mark.parametrize("threshold", [None, 0.1])
def test_agrees_with_loops(share: str, threshold: float | None) -> None:
    gt = scene(3, 24, 5)
    lq = reduced(gt)
    sr = (0.6 * gt + 0.4 * enlarged(lq, "bicubic") + 0.04 * scene(3, 24, 6)).clamp(0, 1)
    found = shares(
        *(sr, gt, lq),
        **{"protocol": PLAIN, "share": share, "threshold": threshold},
    )
    images = [image.flatten(1).numpy() for image in (sr, gt, enlarged(lq, "bilinear"))]
    assert found == pytest.approx(by_loops(*images, threshold, share), rel=1e-9)


def test_brightness_does_not_count_after_histogram_matching() -> None:
    gt = scene()
    assert shares(0.5 * gt + 0.1, gt, reduced(gt), match_histogram=True) == [1, 0, 0]
    assert shares(0.5 * gt + 0.1, gt, reduced(gt))[0] < 0.6


def test_equal_images_have_no_share() -> None:
    flat = torch.full((2, 32, 32), 0.25)
    assert all(math.isnan(value) for value in shares(flat, flat, flat[:, ::4, ::4]))


def test_detail_where_low_and_high_agree_is_a_hallucination() -> None:
    flat = torch.full((1, 32, 32), 0.25, dtype=torch.float64)
    sr = flat.clone()
    sr[:, 10:20, 10:20] = 0.5
    assert shares(sr, flat, flat[:, ::4, ::4], threshold=0.0) == [0, 0, 1]


@pytest.mark.parametrize("kind", [*KINDS, ReflectanceConsistency, SpectralConsistency])
def test_masked_pixels_do_not_count(kind: type[Metric]) -> None:
    gt, wrong = scene(), scene(seed=9)
    lq = reduced(gt)
    sr = 0.7 * gt + 0.3 * enlarged(lq, "bilinear")
    mask = torch.ones(1, 48, 48, dtype=torch.bool)
    mask[:, 17:30, 5:19] = False
    given: dict[str, Any] = {"protocol": PLAIN, "scale": SCALE, "mask": mask, "lq": lq}
    expected = kind()(sr, gt, **given)
    assert kind()(torch.where(mask, sr, wrong), gt, **given) == pytest.approx(expected, rel=1e-9)
    assert kind()(torch.where(mask, sr, wrong), gt, **{**given, "mask": None}) != expected
    if kind in KINDS:
        assert kind()(sr, torch.where(mask, gt, wrong), **given) == pytest.approx(expected)


@pytest.mark.parametrize("kind", [ReflectanceConsistency, SpectralConsistency])
def test_masked_pixels_that_the_protocol_crops_do_not_count(kind: type[Metric]) -> None:
    gt, sr, wrong = scene(), scene(seed=1), scene(seed=2)
    mask = torch.ones(1, 48, 48, dtype=torch.bool)
    mask[:, :SCALE] = False
    more: dict[str, Any] = {"protocol": BANDS, "scale": SCALE, "mask": mask, "lq": reduced(gt)}
    expected = kind()(sr, gt, **more)
    assert kind()(torch.where(mask, sr, wrong), gt, **more) == pytest.approx(expected, rel=1e-9)


def test_a_mask_without_a_whole_lr_pixel_is_an_error() -> None:
    gt = scene()
    mask = torch.zeros(1, 48, 48, dtype=torch.bool)
    mask[:, ::4] = True
    given: dict[str, Any] = {"protocol": PLAIN, "scale": SCALE, "mask": mask, "lq": reduced(gt)}
    with pytest.raises(RunError, match="the mask leaves no LR pixel to score"):
        ReflectanceConsistency()(gt, gt, **given)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic", "area"])
def test_consistency_of_the_image_that_lr_was_made_from(kernel: Any) -> None:
    gt = scene()
    lq = reduced(gt, kernel) if kernel != "area" else functional.avg_pool2d(gt, SCALE)
    given: dict[str, Any] = {"protocol": PLAIN, "scale": SCALE, "lq": lq.clamp(0, 1)}
    assert ReflectanceConsistency(kernel)(gt, gt, **given) == pytest.approx(0, abs=1e-12)
    assert SpectralConsistency(kernel)(gt, gt, **given) == pytest.approx(0, abs=1e-6)
    given["lq"] = (lq + 0.03).clamp(0, 1)
    assert ReflectanceConsistency(kernel)(gt, gt, **given) == pytest.approx(0.03)
    other = SAM()(lq.clamp(0, 1), given["lq"], protocol=PLAIN, scale=1)
    assert SpectralConsistency(kernel)(gt, gt, **given) == pytest.approx(other)


def test_crop_and_rounding_of_the_protocol() -> None:
    gt = scene()
    lq = reduced(gt)
    lq[:, 0], lq[:, -1], lq[..., 0], lq[..., -1] = 1, 1, 1, 1  # the border, which is cropped
    assert ReflectanceConsistency()(gt, gt, protocol=BANDS, scale=SCALE, lq=lq) < 1e-9
    assert ReflectanceConsistency()(gt, gt, protocol=PLAIN, scale=SCALE, lq=lq) > 0.1
    with pytest.raises(UserError, match=r"'bands' leaves no pixel of an LR image of 2×2"):
        small = scene(side=12)[:, :8, :8]
        wide = Protocol("bands", color="bands", crop_border=5, round_8bit=False)
        given: dict[str, Any] = {"protocol": wide, "scale": 4, "lq": reduced(small)}
        ReflectanceConsistency()(small, small, **given)


def test_bands_and_grey() -> None:
    gt = scene()
    lq = reduced(gt)
    one = ReflectanceConsistency(bands=[2])(gt, gt, protocol=BANDS, scale=SCALE, lq=lq + 0.01)
    assert one == pytest.approx(0.01)
    red = gt[:1]
    rgb = get_protocol("rgb")
    given: dict[str, Any] = {"protocol": rgb, "scale": SCALE, "lq": lq[:1].expand(3, -1, -1)}
    value = ReflectanceConsistency()(red.expand(3, -1, -1), red, **given)
    assert value == pytest.approx(0, abs=2e-3)  # rounding to 8 bits


def test_errors_are_clear() -> None:
    gt = scene()
    given: dict[str, Any] = {"protocol": BANDS, "scale": SCALE}
    with pytest.raises(UserError, match="Omission: needs the LR image of each result"):
        Omission()(gt, gt, **given)
    with pytest.raises(UserError, match=r"has shape \(3, 12, 12\), but the result needs \(4, 12"):
        Omission()(gt, gt, **given, lq=reduced(gt)[:3])
    with pytest.raises(UserError, match=r"has shape \(4, 12, 12\), but the result needs \(4, 24"):
        Omission()(gt, gt, protocol=BANDS, scale=2, lq=reduced(gt))
    for wrong in ({"share": "all"}, {"threshold": 1.0}, {"bands": [0]}):
        with pytest.raises(UserError, match=r"Improvement: "):
            Improvement(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="ReflectanceConsistency: kernel must be"):
        ReflectanceConsistency("lanczos")  # type: ignore[arg-type]

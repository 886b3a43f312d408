"""Tests the contract of every registered metric."""

from __future__ import annotations

import inspect
import math
import re

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import (
    PROTOCOLS,
    AnyMetric,
    ClipMetric,
    Metric,
    NoReferenceMetric,
    Protocol,
    get_protocol,
)
from srtoolbox.registry import METRIC_REGISTRY

_OF_CLIPS = {n for n in METRIC_REGISTRY if issubclass(METRIC_REGISTRY.get(n), ClipMetric)}
_ALONE = {n for n in METRIC_REGISTRY if issubclass(METRIC_REGISTRY.get(n), NoReferenceMetric)}
_EVERY_METRIC = pytest.mark.parametrize("name", METRIC_REGISTRY.names())
_OF_IMAGES = pytest.mark.parametrize("name", sorted({*METRIC_REGISTRY} - _OF_CLIPS - _ALONE))


@pytest.fixture
def build(tmp_path):
    """Returns a function that builds a metric by its name; some need a file."""
    norm = tmp_path / "norm.csv"
    norm.write_text("scene 45.2\n")

    needed = {"ProbaVScore": {"norm": norm}, "pyiqa": {"name": "ssimc"}}

    def metric(name, **options):
        return METRIC_REGISTRY.get(name)(**needed.get(name, {}), **options)

    return metric


def test_registered():
    of_images = {"PSNR", "SSIM", "LPIPS", "SAM", "ERGAS", "UIQI", "CPSNR", "ProbaVScore"}
    assert of_images <= {*METRIC_REGISTRY} - _OF_CLIPS
    assert {"TOF", "WarpingError", "TemporalPSNR"} <= _OF_CLIPS
    assert "NIQE" in _ALONE


def _low(metric, gt: Tensor, scale: int) -> dict[str, Tensor]:
    """The LR image as an argument, for metrics that use it."""
    if not metric.needs_lq:
        return {}
    size = [side // scale for side in gt.shape[1:]]
    return {"lq": interpolate(gt[None], size=size, mode="bilinear", antialias=True)[0]}


@_EVERY_METRIC
def test_attributes(name):
    metric = METRIC_REGISTRY.get(name)
    assert issubclass(metric, AnyMetric)
    assert metric.needs_gt == (name not in _ALONE)
    assert isinstance(metric.higher_is_better, bool)
    assert isinstance(metric.unit, str)
    assert isinstance(metric.digits, int)
    assert metric.digits > 0
    assert metric.paper
    direction = "higher" if metric.higher_is_better else "lower"
    for word in ("From", " to ", f"{direction} is better", " unit." if not metric.unit else "in "):
        assert word in metric.__doc__, f"the docstring must say range, direction and unit: {word}"
    for parameter in inspect.signature(metric).parameters.values():
        assert (parameter.default is parameter.empty) == (parameter.name in ("norm", "name"))


@_OF_IMAGES
@pytest.mark.parametrize("channels", [1, 3])
def test_identical_images_are_best_and_noise_makes_worse(build, name, channels):
    metric = build(name)
    if name in ("SAM", "SpectralConsistency") and channels == 1:
        pytest.skip("grey images have no spectrum")
    if reason := metric.available():
        pytest.skip(reason)
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(channels, 120, 124, generator=generator)
    low = _low(metric, gt, 4)
    noise = torch.randn(gt.shape, generator=generator)
    for protocol in PROTOCOLS.values():
        best, little, much = (
            metric(gt + amount * noise, gt, protocol=protocol, scale=4, key="scene", **low)
            for amount in (0, 0.02, 0.1)
        )
        scores = f"{protocol.name}: {best}, {little}, {much}"
        assert isinstance(best, float), scores
        if name.endswith("Consistency"):  # LR, too, is rounded by the protocol
            assert best == pytest.approx(0, abs=0.1 if metric.unit else 1e-3), scores
        else:
            assert best in (math.inf, 0) or best == pytest.approx(1, abs=1e-12), scores
        if name == "Omission":  # noise replaces omissions by hallucinations
            assert best <= min(little, much), scores
            continue
        assert (best > little > much) == metric.higher_is_better, scores
        assert (best < little < much) != metric.higher_is_better, scores


@_EVERY_METRIC
def test_shapes_must_agree(build, name):
    metric = build(name)
    sr, gt = torch.rand(3, 64, 64), torch.rand(3, 64, 65)
    if name in _OF_CLIPS:
        sr, gt = sr[None], gt[None]
    with pytest.raises(UserError, match=rf"(?i){name}: .*\(3, 64, 64\).*\(3, 64, 65\).*x4"):
        metric(sr, gt, protocol=PROTOCOLS["rgb"], scale=4)


class Mean(Metric):
    higher_is_better, digits, paper = True, 1, "none"

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        assert sr.shape == gt.shape
        return len(sr) * 1000 + (sr - gt).abs().mean().item()


@pytest.mark.parametrize(("grey", "channels"), [("direct", 1), ("replicate", 3)])
def test_grey_truths_of_rgb_results(grey: str, channels: int) -> None:
    gt = torch.rand(1, 4, 5)
    protocol = Protocol("p", grey=grey)
    assert Mean()(gt.expand(3, -1, -1), gt, protocol=protocol, scale=2) == pytest.approx(
        channels * 1000
    )


class Step(ClipMetric):
    higher_is_better, digits, paper = False, 1, "none"

    def score(self, previous, current, protocol: Protocol, scale: int) -> float:
        (sr, gt), (_, later) = previous, current
        assert sr.shape == gt.shape
        return len(sr) * 1000 + (later - gt).mean().item()


def test_a_clip_is_scored_pair_by_pair() -> None:
    gt = torch.tensor([1.0, 2.0, 5.0, 4.0]).reshape(4, 1, 1, 1).expand(4, 1, 4, 5)
    rgb = gt.expand(4, 3, 4, 5)
    assert Step()(rgb, rgb, protocol=Protocol("p"), scale=2) == pytest.approx(3001)
    assert Step()(iter(rgb), iter(rgb), protocol=Protocol("p"), scale=2) == pytest.approx(3001)
    assert Step()(rgb, gt, protocol=Protocol("p", grey="direct"), scale=2) == pytest.approx(1001)


def test_what_is_no_clip() -> None:
    clip = torch.rand(3, 3, 4, 5)
    for sr, gt, message in (
        (clip, clip[:2], "different numbers of frames"),
        (clip[:1], clip[:1], "only one"),
        (clip[:0], clip[:0], "only one"),
    ):
        with pytest.raises(UserError, match=f"Step: .*{message}"):
            Step()(sr, gt, protocol=Protocol("p"), scale=2)


def _masked(
    channels: int, frames: int | None = None, large: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns result, ground truth and a mask with a hole, a line and single pixels."""
    generator = torch.Generator().manual_seed(0)
    shape = () if frames is None else (frames,)
    height, width = (200, 408) if large else (64, 72)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin(x * (0.2 + 0.03 * i)) * torch.cos(y * 0.3 - i) for i in range(channels)]
    gt = (0.5 + 0.4 * torch.stack(waves)).expand(*shape, -1, -1, -1).clone()
    sr = (gt + 0.03 * torch.randn(gt.shape, generator=generator)).clamp(0, 1)
    mask = torch.ones(*shape, 1, height, width, dtype=torch.bool)
    mask[..., 10:25, 12:30] = False
    mask[..., 40, : 200 if large else None] = False
    mask[..., 60, ::9] = large
    return sr, gt, mask


def _filled(image: Tensor, mask: Tensor, seed: int) -> Tensor:
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(mask, image, noise)


@_EVERY_METRIC
@pytest.mark.parametrize(("protocol", "channels"), [("rgb", 3), ("basicsr-y", 1), ("bands", 4)])
def test_masked_pixels_change_nothing(build, name, protocol, channels):
    of_colours = name in ("LPIPS", "NIQE", "pyiqa") and channels == 4
    metric = build(name, **({"bands": [4, 2, 1]} if of_colours else {}))
    if reason := metric.available():
        pytest.skip(reason)
    sr, gt, mask = _masked(channels, 3 if name in _OF_CLIPS else None, name in _ALONE)
    options = {"protocol": get_protocol(protocol), "scale": 2, "key": "scene"}
    options |= _low(metric, gt, 2)
    score = metric(sr, gt, mask=mask, **options)
    assert math.isfinite(score)
    for seed in (1, 2):
        assert metric(_filled(sr, mask, seed), gt, mask=mask, **options) == score
        if metric.takes_mask and name not in ("TOF", "WarpingError"):  # those see motion there
            assert metric(sr, _filled(gt, mask, seed), mask=mask, **options) == score
    unmasked = metric(_filled(sr, mask, 1), gt, **options)
    has_spectrum = name not in ("SAM", "SpectralConsistency") or channels > 1
    assert unmasked != score or not has_spectrum
    # A mask without masked pixels, and one whose masked pixels the protocol crops, is no mask. LR
    # pixels next to the crop depend on pixels that it removes.
    assert metric(sr, gt, mask=torch.ones_like(mask), **options) == metric(sr, gt, **options)
    if protocol != "rgb" and name not in ("ReflectanceConsistency", "SpectralConsistency"):
        border = torch.zeros_like(mask)
        border[..., 2:-2, 2:-2] = True
        assert metric(sr, gt, mask=border, **options) == metric(sr, gt, **options)


@_EVERY_METRIC
def test_masks_that_leave_nothing(build, name):
    metric = build(name)
    if reason := metric.available():
        pytest.skip(reason)
    sr, gt, mask = _masked(3, 3 if name in _OF_CLIPS else None, name in _ALONE)
    options = {"protocol": get_protocol("rgb"), "scale": 2, "key": "scene"}
    with pytest.raises(
        RunError, match=f"(?i){name}: the mask leaves no .* to score; remove the image"
    ):
        metric(sr, gt, mask=torch.zeros_like(mask), **options)
    size, less = (re.escape(f"(1, {mask.shape[-2]}, {mask.shape[-1] - i})") for i in (0, 1))
    with pytest.raises(UserError, match=rf"(?i){name}: the mask has torch.float32 .*{size}"):
        metric(sr, gt, mask=mask.float(), **options)
    with pytest.raises(UserError, match=rf"(?i){name}: the mask has .*{less}.*{size}"):
        metric(sr, gt, mask=mask[..., 1:], **options)


@pytest.mark.parametrize("name", ["SSIM", "UIQI"])
def test_masks_that_leave_no_window(name):
    sr, gt, mask = _masked(3)
    mask[:, ::7, ::7] = False
    with pytest.raises(RunError, match=rf"(?i){name}: the mask leaves no window of \d+×\d+ pixels"):
        METRIC_REGISTRY.get(name)()(sr, gt, protocol=get_protocol("rgb"), scale=2, mask=mask)


@pytest.mark.parametrize("name", sorted(_OF_CLIPS))
def test_masks_without_a_common_pixel(name):
    sr, gt, mask = _masked(3, 2)
    mask[0], mask[1] = True, True
    mask[0, :, :, :36], mask[1, :, :, 36:] = False, False
    with pytest.raises(
        RunError, match=rf"(?i){name}: the mask leaves no pixel .* neighbouring frames"
    ):
        METRIC_REGISTRY.get(name)()(sr, gt, protocol=get_protocol("rgb"), scale=2, mask=mask)
    with pytest.raises(UserError, match=f"{name}: .*different numbers of frames"):
        METRIC_REGISTRY.get(name)()(sr, gt, protocol=get_protocol("rgb"), scale=2, mask=mask[:1])


def test_metrics_without_masks_see_the_truth() -> None:
    """A metric that knows nothing of masks gets no error at masked pixels."""
    sr, gt, mask = _masked(3)
    expected = torch.where(mask, (sr - gt).abs(), 0).mean().item()
    value = Mean()(sr, gt, protocol=Protocol("p"), scale=2, mask=mask)
    assert value == pytest.approx(3000 + expected, rel=1e-9)


@pytest.mark.parametrize("name", ["PSNR", "SSIM", "SAM", "ERGAS", "UIQI"])
def test_chosen_bands(name):
    metric, (sr, gt, _) = METRIC_REGISTRY.get(name), _masked(5)
    options = {"protocol": get_protocol("bands"), "scale": 2}
    chosen = metric(bands=[4, 2])(sr, gt, **options)
    assert chosen == metric()(sr[[3, 1]], gt[[3, 1]], **options)
    rgb = {"protocol": get_protocol("rgb"), "scale": 2}
    assert metric(bands=[3, 2, 1])(sr, gt, **rgb) == metric()(sr[[2, 1, 0]], gt[[2, 1, 0]], **rgb)
    with pytest.raises(UserError, match=f"{name}: there is no band 6 in images with 5"):
        metric(bands=[6])(sr, gt, **options)
    for bands in ([], [0], [1, 1]):
        with pytest.raises(UserError, match=rf"(?i){name}: bands .* expected different numbers"):
            metric(bands=bands)


def test_what_metrics_cannot_score(build) -> None:
    rgb, luma, bands = (get_protocol(name) for name in ("rgb", "matlab-y", "bands"))
    for protocol in (rgb, luma):
        reason = build("PSNR").unsuited(4, protocol)
        assert "not 4 bands; choose protocol: bands (--set val.protocol=bands; " in reason
        assert build("PSNR").unsuited(3, protocol) is None
        assert build("PSNR").unsuited(1, protocol) is None
        assert build("PSNR", bands=[4]).unsuited(4, protocol) is None
        assert "no band 5" in build("PSNR", bands=[5]).unsuited(4, protocol)
    assert build("PSNR").unsuited(13, bands) is None
    assert "set its bands" in build("LPIPS").unsuited(4, bands)
    assert build("LPIPS", bands=[3, 2, 1]).unsuited(4, bands) is None
    with pytest.raises(UserError, match=r"LPIPS: bands \[1, 2\]: expected three"):
        build("LPIPS", bands=[1, 2])
    with pytest.raises(UserError, match="LPIPS: it compares RGB images, not 4 bands"):
        build("LPIPS")(torch.rand(4, 64, 64), torch.rand(4, 64, 64), protocol=bands, scale=2)

"""Tests the contract of every registered metric."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import Tensor

from srtoolbox.errors import UserError
from srtoolbox.metrics import PROTOCOLS, ClipMetric, Metric, Protocol
from srtoolbox.registry import METRIC_REGISTRY

_OF_CLIPS = {n for n in METRIC_REGISTRY if issubclass(METRIC_REGISTRY.get(n), ClipMetric)}
_EVERY_METRIC = pytest.mark.parametrize("name", METRIC_REGISTRY.names())
_OF_IMAGES = pytest.mark.parametrize("name", sorted({*METRIC_REGISTRY} - _OF_CLIPS))


def test_registered():
    assert {"PSNR", "SSIM", "LPIPS", "SAM", "ERGAS"} <= {*METRIC_REGISTRY} - _OF_CLIPS
    assert {"TOF", "WarpingError", "TemporalPSNR"} <= _OF_CLIPS


@_EVERY_METRIC
def test_attributes(name):
    metric = METRIC_REGISTRY.get(name)
    assert issubclass(metric, Metric | ClipMetric)
    assert isinstance(metric.higher_is_better, bool)
    assert isinstance(metric.unit, str)
    assert isinstance(metric.digits, int)
    assert metric.digits > 0
    assert metric.paper
    direction = "higher" if metric.higher_is_better else "lower"
    for word in ("From", " to ", f"{direction} is better", " unit." if not metric.unit else "in "):
        assert word in metric.__doc__, f"the docstring must say range, direction and unit: {word}"
    for parameter in inspect.signature(metric).parameters.values():
        assert parameter.default is not parameter.empty


@_OF_IMAGES
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
@pytest.mark.parametrize("channels", [1, 3])
def test_identical_images_are_best_and_noise_makes_worse(name, protocol, channels):
    metric = METRIC_REGISTRY.get(name)()
    if name == "SAM" and channels == 1:
        pytest.skip("grey images have no spectrum")
    if reason := metric.available():
        pytest.skip(reason)
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(channels, 120, 124, generator=generator)
    noise = torch.randn(gt.shape, generator=generator)
    best, little, much = (
        metric(gt + amount * noise, gt, protocol=protocol, scale=4) for amount in (0, 0.02, 0.1)
    )
    assert isinstance(best, float)
    assert best in (math.inf, 0) or best == pytest.approx(1, abs=1e-12)
    assert (best > little > much) == metric.higher_is_better
    assert (best < little < much) != metric.higher_is_better


@_EVERY_METRIC
def test_shapes_must_agree(name):
    metric = METRIC_REGISTRY.get(name)()
    sr, gt = torch.rand(3, 64, 64), torch.rand(3, 64, 65)
    if name in _OF_CLIPS:
        sr, gt = sr[None], gt[None]
    with pytest.raises(UserError, match=rf"{name}: .*\(3, 64, 64\).*\(3, 64, 65\).*x4"):
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

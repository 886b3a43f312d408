"""What every registered metric promises."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import Tensor

from srtoolbox.errors import UserError
from srtoolbox.metrics import PROTOCOLS, Metric, Protocol
from srtoolbox.registry import METRIC_REGISTRY

_EVERY_METRIC = pytest.mark.parametrize("name", METRIC_REGISTRY.names())


def test_registered():
    assert {"PSNR", "SSIM", "LPIPS"} <= set(METRIC_REGISTRY)


@_EVERY_METRIC
def test_attributes(name):
    metric = METRIC_REGISTRY.get(name)
    assert issubclass(metric, Metric)
    assert isinstance(metric.higher_is_better, bool)
    assert isinstance(metric.unit, str)
    assert isinstance(metric.digits, int)
    assert metric.digits > 0
    assert metric.paper
    for parameter in inspect.signature(metric).parameters.values():
        assert parameter.default is not parameter.empty


@_EVERY_METRIC
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
@pytest.mark.parametrize("channels", [1, 3])
def test_identical_images_are_best_and_noise_makes_worse(name, protocol, channels):
    metric = METRIC_REGISTRY.get(name)()
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
    with pytest.raises(UserError, match=rf"{name}: .*\(3, 64, 64\).*\(3, 64, 65\).*x4"):
        metric(torch.rand(3, 64, 64), torch.rand(3, 64, 65), protocol=PROTOCOLS["rgb"], scale=4)


class Mean(Metric):
    higher_is_better, digits, paper = True, 1, "none"

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        assert sr.shape == gt.shape
        return len(sr) * 1000 + (sr - gt).abs().mean().item()


@pytest.mark.parametrize(("grey", "channels"), [("direct", 1), ("replicate", 3)])
def test_grey_truths_of_rgb_results(grey: str, channels: int) -> None:
    gt = torch.rand(1, 4, 5)
    protocol = Protocol("p", grey=grey)
    assert Mean()(gt.expand(3, -1, -1), gt, protocol=protocol, scale=2) == pytest.approx(channels * 1000)

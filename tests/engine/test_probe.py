"""Users' own metrics are tried on images with the bands and the LR image of the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import Tensor

from srtoolbox.config.schema import check
from srtoolbox.engine.options import ValOptions
from srtoolbox.engine.probe import probe_metrics
from srtoolbox.errors import ComponentError
from srtoolbox.metrics import Metric, Protocol
from srtoolbox.registry import METRIC_REGISTRY


@pytest.fixture
def names() -> Iterator[list[str]]:
    """Names of two metrics: one fails on four bands, one uses the LR image."""

    class FailsOnFourBands(Metric):
        def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
            return 1.0 if len(sr) != 4 else None  # type: ignore[return-value]

    class UsesLow(Metric):
        needs_lq = True

        def score(
            self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int, lq: Tensor
        ) -> float:
            return (lq - gt[:, ::scale, ::scale]).abs().max()  # type: ignore[return-value]

    own = {"FailsOnFourBandsHere": FailsOnFourBands, "UsesLowHere": UsesLow}
    for name, metric in own.items():
        METRIC_REGISTRY.register(name)(metric)
    yield list(own)
    for name in own:
        METRIC_REGISTRY._entries.pop(name)


def options(name: str) -> ValOptions:
    return check({"protocol": "bands", "metrics": {"own": {"type": name}}}, ValOptions)


def test_the_bands_of_the_run_are_tried(names: list[str]) -> None:
    probe_metrics(options(names[0]), 3)
    with pytest.raises(ComponentError, match="returned None"):
        probe_metrics(options(names[0]), 3, channels=4)


def test_metrics_get_an_lr_image(names: list[str]) -> None:
    probe_metrics(options(names[1]), 3, channels=5)

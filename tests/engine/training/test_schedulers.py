from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from srtoolbox.engine.options import TrainOptions
from srtoolbox.engine.training.optimization import build_scheduler
from srtoolbox.errors import UserError

COSINE = {"type": "CosineAnnealingRestartLR"}


def rates(total: int, warmup: int = 0, lr: float = 2.0, **spec: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    section = TrainOptions(total_iter=total, warmup_iter=warmup, scheduler={**COSINE, **spec})
    schedule = build_scheduler(section, optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def cosine(step: int, length: int, weight: float = 1.0, lr: float = 2.0, low: float = 0.0) -> float:
    return low + weight * (lr - low) * (1 + math.cos(math.pi * step / length)) / 2


def test_periods_of_different_lengths_end_on_their_last_step() -> None:
    found = rates(12, periods=[4, 6], restart_weights=[1, 0.5], eta_min=0.1)
    expected = [cosine(t, 4, low=0.1) for t in range(5)]
    expected += [cosine(t, 6, 0.5, low=0.1) for t in range(1, 7)]
    assert found == pytest.approx([*expected, 0.1], rel=1e-12)
    assert found[4] == found[10] == pytest.approx(0.1)


def test_it_differs_from_torchs_restarts_in_one_step_of_each_period() -> None:
    ours = rates(12, periods=[4, 4, 4])
    theirs = rates(12, type="CosineAnnealingWarmRestarts", T_0=4)
    differing = [t for t, (a, b) in enumerate(zip(ours, theirs, strict=True)) if abs(a - b) > 1e-9]
    assert differing == [4, 8]
    assert (ours[4], theirs[4]) == (pytest.approx(0), pytest.approx(2))


def test_periods_can_count_from_the_first_step_of_a_warm_up() -> None:
    found = rates(10, warmup=3, periods=[10], start=3)
    assert found[:3] == pytest.approx([0.5, 1, 1.5])
    assert found[3:] == pytest.approx([cosine(t, 10) for t in range(3, 10)])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"periods": []}, "periods: expected the steps of each period, all at least 1, got []"),
        ({"periods": [5, 0]}, "got [5, 0]"),
        ({"periods": [5, 5], "restart_weights": [1]}, "restart_weights: 1 values for 2 periods"),
        ({"periods": [5], "start": -1}, "start: must not be negative, got -1"),
    ],
)
def test_faults_are_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        rates(5, **spec)
    assert message in str(error.value)

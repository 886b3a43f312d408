"""Optimizers and learning rate schedules by their names in option files."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from srtoolbox.archs.bicubic import Bicubic
from srtoolbox.engine.options import ParamGroup, TrainOptions
from srtoolbox.engine.training.optimization import (
    ParameterFreezer,
    build_optimizer,
    build_scheduler,
)
from srtoolbox.errors import UserError

CPU = torch.device("cpu")


def rates(total: int, warmup: int, **scheduler: Any) -> list[float]:
    """Returns the learning rate of every step of a run."""
    section = TrainOptions(total_iter=total, warmup_iter=warmup, scheduler=scheduler or None)
    net = nn.Linear(1, 1)
    optimizer = build_optimizer({"type": "SGD", "lr": 1.0}, net, CPU)
    schedule = build_scheduler(section, optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        net(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        schedule.step()
    return found


def test_constant_with_and_without_warm_up() -> None:
    assert rates(4, 0) == [1, 1, 1, 1]
    assert rates(6, 3) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


@pytest.mark.parametrize("warmup", [0, 3])
def test_cosine_spans_what_the_warm_up_leaves(warmup: int) -> None:
    length = 11 - warmup
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * t / length)) / 2 for t in range(length)]
    found = rates(11, warmup, type="CosineAnnealingLR", eta_min=0.1)
    assert found[warmup:] == pytest.approx(expected)


def test_a_given_length_comes_first() -> None:
    found = rates(9, 0, type="CosineAnnealingLR", T_max=4)
    assert found[4] == pytest.approx(0, abs=1e-12)
    assert found[8] == pytest.approx(1)


@pytest.mark.parametrize("warmup", [0, 3])
def test_one_cycle_ends_with_the_run(warmup: int) -> None:
    found = rates(40, warmup, type="OneCycleLR", max_lr=1.0)
    assert max(found) == pytest.approx(1, abs=0.02)
    assert found[-1] < 1e-4


def test_milestones_count_from_the_end_of_the_warm_up() -> None:
    options = {"type": "MultiStepLR", "milestones": [2, 4], "gamma": 0.5}
    assert rates(6, 0, **options) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert rates(6, 1, **options) == [0.5, 1, 1, 0.5, 0.5, 0.25]


def test_a_plateau_schedule_is_its_warm_up_until_a_value_comes() -> None:
    assert rates(4, 0, type="ReduceLROnPlateau") == [1, 1, 1, 1]
    assert rates(6, 3, type="ReduceLROnPlateau") == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_restarts() -> None:
    found = rates(9, 0, type="CosineAnnealingWarmRestarts", T_0=4)
    assert found[0] == found[4] == found[8] == 1


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_fused_unless_the_user_says_otherwise(name: str) -> None:
    net = nn.Linear(2, 2)
    spec = {"type": name, "lr": 0.1}
    assert build_optimizer(spec, net, CPU).defaults["fused"] is True
    assert build_optimizer({**spec, "fused": False}, net, CPU).defaults["fused"] is False
    assert not build_optimizer({**spec, "foreach": True}, net, CPU).defaults["fused"]
    assert build_optimizer(spec, net, CPU).defaults["lr"] == 0.1


def test_optimizers_without_a_fused_form() -> None:
    assert type(build_optimizer({"type": "Adamax"}, nn.Linear(2, 2), CPU)).__name__ == "Adamax"


def test_frozen_parameters_are_left_out() -> None:
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    groups = build_optimizer({"type": "Adam"}, net, CPU).param_groups
    assert len(groups) == 1
    assert groups[0]["params"] == [net.weight]


def test_nothing_to_train() -> None:
    with pytest.raises(UserError, match="Bicubic has no parameters to train; use `srtoolbox test`"):
        build_optimizer({"type": "Adam"}, Bicubic(4), CPU)


def test_what_the_loop_cannot_drive() -> None:
    with pytest.raises(UserError, match="LBFGS runs the network several times"):
        build_optimizer({"type": "LBFGS"}, nn.Linear(2, 2), CPU)


class TestGroups:
    def net(self) -> nn.Module:
        return nn.ModuleDict({"body": nn.Linear(2, 2), "offset": nn.Linear(2, 2)})

    def groups(self, *groups: dict[str, Any]) -> list[ParamGroup]:
        return [ParamGroup(**group) for group in groups]

    def test_rates_and_weight_decay(self) -> None:
        groups = self.groups(
            {"pattern": "^offset", "lr_mult": 0.1},
            {"pattern": "bias", "lr_mult": 1, "weight_decay": 0.0},
        )
        net = self.net()
        spec = {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.5}
        optimizer = build_optimizer(spec, net, CPU, groups)
        found = [(g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups]
        assert found == [(1e-3, 0.5, 1), (1e-4, 0.5, 2), (1e-3, 0.0, 1)]

    def test_schedules_keep_the_factors(self) -> None:
        groups = self.groups({"pattern": "offset", "lr_mult": 0.1})
        for scheduler in ({"type": "OneCycleLR", "max_lr": 0.5}, {"type": "CosineAnnealingLR"}):
            optimizer = build_optimizer({"type": "SGD", "lr": 1.0}, self.net(), CPU, groups)
            schedule = build_scheduler(TrainOptions(total_iter=9, scheduler=scheduler), optimizer)
            for _ in range(8):
                one, other = (group["lr"] for group in optimizer.param_groups)
                assert other == pytest.approx(0.1 * one)
                optimizer.step()
                schedule.step()

    def test_a_pattern_that_fits_nothing(self) -> None:
        with pytest.raises(UserError, match=r"'dcn' matches no parameter .* body\.weight"):
            build_optimizer({"type": "SGD"}, self.net(), CPU, self.groups({"pattern": "dcn"}))

    def test_frozen_for_the_first_steps(self) -> None:
        net = self.net()
        parameter_freezer = ParameterFreezer(
            net, self.groups({"pattern": "^body", "frozen_iter": 3})
        )
        trained = []
        for step in (0, 2, 3, 9, 1):
            parameter_freezer.apply(step)
            trained.append((net["body"].weight.requires_grad, net["offset"].weight.requires_grad))
        assert trained == [(False, True), (False, True), (True, True), (True, True), (False, True)]


def test_all_parameters_frozen() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = [ParamGroup(pattern="0", frozen_iter=4), ParamGroup(pattern="1", frozen_iter=2)]
    with pytest.raises(UserError, match="all parameters are frozen in the first 2 steps"):
        ParameterFreezer(net, groups)
    ParameterFreezer(net, groups[:1])

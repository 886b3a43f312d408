"""Tests the ranges of components' options: in option files, in constructors, in the schema."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from srtoolbox.config.components import parameters_of
from srtoolbox.config.files import as_tree
from srtoolbox.config.json_schema import json_schema
from srtoolbox.config.ranges import Range, fault_of, refusal
from srtoolbox.config.schema import Component, OptionErrors, build, check, option
from srtoolbox.errors import UserError
from srtoolbox.registry import REGISTRIES, Registry


@dataclass(frozen=True)
class Options:
    """One component of each kind."""

    arch: Annotated[dict, Component("arch")] | None = None
    dataset: Annotated[dict, Component("dataset")] | None = None
    loss: Annotated[dict, Component("loss")] | None = None
    optimizer: Annotated[dict, Component("optimizer")] | None = None
    scheduler: Annotated[dict, Component("scheduler", ("T_max",))] | None = None
    seed: int = option(default=0, min=0, max=2**63 - 1)
    numbers: list[float] = field(default_factory=list)


def faults(content: dict[str, Any]) -> list[str]:
    with pytest.raises(OptionErrors) as caught:
        check(as_tree(content, "x.yml:1"), Options)
    return list(caught.value.errors)


@pytest.mark.parametrize(
    ("kind", "spec", "key", "part"),
    [
        ("arch", {"type": "EDSR", "num_feat": -1}, "num_feat", ">= 1"),
        ("arch", {"type": "EDSR", "num_feat": 1_000_000_000}, "num_feat", "<= 4096"),
        ("arch", {"type": "RDN", "num_block": -3}, "num_block", ">= 1"),
        ("arch", {"type": "RDN", "num_layer": 10**6}, "num_layer", "<= 1000"),
        ("arch", {"type": "EDSR", "res_scale": math.nan}, "res_scale", "finite"),
        ("arch", {"type": "EDSR", "img_range": 0}, "img_range", "> 0"),
        ("arch", {"type": "EDVR", "deformable_groups": 0}, "deformable_groups", ">= 1"),
        ("arch", {"type": "MSTTSTVSR", "patch_sizes": [4, 0]}, "patch_sizes", ">= 1"),
        ("arch", {"type": "MSTTSTVSR", "patch_sizes": []}, "patch_sizes", "at least one"),
        ("dataset", {"type": "SampleBursts", "gt_size": 0}, "gt_size", ">= 1"),
        ("dataset", {"type": "SampleBursts", "num_burst": -2}, "num_burst", ">= 1"),
        ("dataset", {"type": "SampleBursts", "read_noise": [-1, 2]}, "read_noise", ">= 0"),
        ("dataset", {"type": "SampleBursts", "max_shift": math.inf}, "max_shift", "finite"),
        ("dataset", {"type": "SampleBursts", "max_shift": 1e9}, "max_shift", "<= 1000"),
        ("dataset", {"type": "SampleBursts", "max_rotation": 1e9}, "max_rotation", "<= 180"),
        ("dataset", {"type": "SampleBursts", "num_burst": 10**8}, "num_burst", "<= 100000"),
        ("dataset", {"type": "SyntheticBursts", "max_shift": 1e9}, "max_shift", "<= 1000"),
        ("dataset", {"type": "SyntheticBursts", "blur_sigma": [0, 1e5]}, "blur_sigma", "<= 100"),
        ("dataset", {"type": "SyntheticBursts", "num_object": 10**7}, "num_object", "<= 1000"),
        ("dataset", {"type": "SyntheticBursts", "object_shift": 1e7}, "object_shift", "<= 1000"),
        ("dataset", {"type": "SBSRBursts", "blur_sigma": 1e5}, "blur_sigma", "<= 100"),
        ("dataset", {"type": "SBSRBursts", "noise_sigma": 1e30}, "noise_sigma", "<= 1000"),
        ("dataset", {"type": "Clips", "interval_list": []}, "interval_list", "at least one"),
        ("loss", {"type": "L1Loss", "loss_weight": -1}, "loss_weight", ">= 0"),
        ("loss", {"type": "PerceptualLoss", "layers": {"a": math.nan}}, "layers", "finite"),
        ("optimizer", {"type": "Adam", "lr": 0}, "lr", "> 0"),
        ("optimizer", {"type": "SGD", "lr": math.inf}, "lr", "finite"),
        ("optimizer", {"type": "AdamW", "lr": math.nan}, "lr", "finite"),
        ("optimizer", {"type": "Adam", "maximize": True}, "maximize", "raise the loss"),
        ("optimizer", {"type": "Adam", "differentiable": True}, "differentiable", "remove"),
        ("optimizer", {"type": "Adam", "betas": [0.9, math.nan]}, "betas", "finite"),
        ("scheduler", {"type": "StepLR", "step_size": 0}, "step_size", ">= 1"),
        ("scheduler", {"type": "CosineAnnealingLR", "eta_min": math.nan}, "eta_min", "finite"),
        ("scheduler", {"type": "CosineAnnealingLR", "T_max": -5}, "T_max", ">= 1"),
        ("scheduler", {"type": "MultiStepLR", "milestones": []}, "milestones", "at least one"),
        ("scheduler", {"type": "MultiStepLR", "milestones": [5, -1]}, "milestones", ">= 1"),
        ("scheduler", {"type": "MultiStepLR", "milestones": [5], "gamma": -1}, "gamma", "> 0"),
    ],
)
def test_in_option_files_and_in_constructors(
    kind: str, spec: dict[str, Any], key: str, part: str
) -> None:
    found = faults({kind: spec})
    assert len(found) == 1 and f"{kind}.{key}" in found[0] and part in found[0]
    with pytest.raises(UserError, match=key) as caught:
        build(kind, spec)
    assert part in str(caught.value)


@pytest.mark.parametrize("name", ["SparseAdam", "LBFGS"])
def test_optimizers_that_cannot_be_used(name: str) -> None:
    assert f"{name} cannot be used: it" in faults({"optimizer": {"type": name}})[0]
    with pytest.raises(UserError, match=f"optimizer {name} cannot be used"):
        build("optimizer", {"type": name})


@pytest.mark.parametrize("name", ["LambdaLR", "SequentialLR", "ChainedScheduler"])
def test_schedulers_that_cannot_be_used(name: str) -> None:
    assert f"{name} cannot be used" in faults({"scheduler": {"type": name, "lr_lambda": 3}})[0]


def test_seeds_beyond_64_bits() -> None:
    assert check(as_tree({"seed": 2**63 - 1}, "x"), Options).seed == 2**63 - 1
    for seed in (2**63, 2**64, 10**200, 1e300, -1):
        assert len(faults({"seed": seed})) == 1


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400])
def test_numbers_are_finite(value: float) -> None:
    assert len(faults({"numbers": [1, value]})) == 1


@pytest.mark.parametrize("kind", REGISTRIES)
def test_all_defaults_are_in_range(kind: str) -> None:
    for name in REGISTRIES[kind].names():
        for key, parameter in parameters_of(REGISTRIES[kind].get(name)).items():
            if parameter.default is not None:
                fault = fault_of(kind, key, parameter.default, parameter.hint)
                assert fault is None, f"{kind} {name}.{key}: {fault}"


def test_a_hint_has_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    archs = Registry("arch")
    monkeypatch.setitem(REGISTRIES, "arch", archs)

    @archs.register()
    class Own:
        def __init__(
            self,
            num_feat: Annotated[int, Range(min=0, max=3)] = 1,
            num_block: Annotated[int, Range(max=9)] | None = None,
        ) -> None:
            pass

    build("arch", {"type": "Own", "num_feat": 0})
    for key, value in (("num_feat", 4), ("num_block", 10)):
        assert "must be <=" in faults({"arch": {"type": "Own", key: value}})[0]
        with pytest.raises(UserError, match="must be <="):
            build("arch", {"type": "Own", key: value})


def test_the_schema_for_editors_has_them() -> None:
    definitions = json_schema(Options)["$defs"]
    assert definitions["arch.EDSR"]["properties"]["num_feat"]["minimum"] == 1
    assert definitions["optimizer.Adam"]["properties"]["lr"]["exclusiveMinimum"] == 0
    names = definitions["optimizer"]["properties"]["type"]["enum"]
    assert "SparseAdam" not in names and "Adam" in names
    assert refusal("optimizer", "SparseAdam") is not None


def test_many_faults_are_counted() -> None:
    with pytest.raises(OptionErrors) as caught:
        check(as_tree({f"k{i}": 1 for i in range(1000)}, "x"), Options)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21 and lines[-1].startswith("… and")


def test_names_have_no_range_in_own_components(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own:
        def __init__(self, scale: int = 4, num_refine: int = 0, rate: float = 1.0) -> None:
            self.scale = scale

    registry = REGISTRIES["arch"]
    monkeypatch.setattr(registry, "_entries", {**registry._entries, "Own": Own})
    build("arch", {"type": "Own", "num_refine": 0}, scale=4)
    spec = {"type": "Own", "num_refine": -1}
    check(as_tree({"arch": spec}, "x.yml:1"), Options)
    assert "must be finite" in faults({"arch": {**spec, "rate": math.inf}})[0]

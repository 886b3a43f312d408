"""Declarations of networks: defaults, instances before classes, wrong types."""

from __future__ import annotations

import dataclasses

import pytest
from support.networks import NAMES, SMALL
from torch import nn

from srtoolbox.archs.base import ArchInfo, arch_info
from srtoolbox.archs.two_stage import TwoStage
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY


class Plain(nn.Module):
    scales = (2, 4)


class WithProperties(nn.Module):
    scales = (2,)

    @property
    def num_frame(self) -> int:
        return 7

    @property
    def checkpoint_blocks(self) -> list[str]:
        return ["body"]


def with_attribute(name: str, value: object) -> type[nn.Module]:
    return type("Mine", (nn.Module,), {"scales": (4,), name: value})


@pytest.mark.parametrize("net", [Plain, Plain()], ids=["class", "instance"])
def test_only_the_scales_are_needed(net) -> None:
    info = arch_info(net)
    assert info == ArchInfo(scales=(2, 4))
    assert (info.num_frame, info.reference, info.size_multiple, info.min_size) == (1, 0, 1, 1)
    assert (info.channels, info.time_scale, info.needs_flow, info.paper) == (3, 1, None, "")
    assert info.out_channels is None
    assert (info.restores_all, info.own_weights) == (False, True)
    assert (info.square, info.weight_option, info.origin) == (False, None, "")


def test_instances_come_before_their_class() -> None:
    net = Plain()
    net.scales, net.num_frame, net.needs_flow = (8,), None, "DIS"
    assert arch_info(net) == ArchInfo(scales=(8,), num_frame=None, needs_flow="DIS")
    assert arch_info(Plain) == ArchInfo(scales=(2, 4))


def test_properties_have_values_on_instances_and_defaults_on_the_class() -> None:
    info = arch_info(WithProperties())
    assert (info.num_frame, info.checkpoint_blocks) == (7, ("body",))
    assert arch_info(WithProperties) == ArchInfo(scales=(2,))


def test_a_two_stage_network_declares_the_requirements_of_its_inner_network() -> None:
    net = TwoStage(2, {"type": "LGTD", **SMALL["LGTD"]}, time_scale=3, flow="DIS")
    inner, info = arch_info(net.network), arch_info(net)
    assert (info.scales, info.size_multiple, info.min_size) == (inner.scales, 4, 4)
    assert info.checkpoint_blocks == ("network.hat.layers",)
    assert info.dead_parameters == ("network.tdm_l.fus.",)
    assert (info.num_frame, info.restores_all, info.time_scale) == (None, True, 3)
    assert not info.own_weights


def test_lists_become_tuples() -> None:
    net = with_attribute("dead_parameters", ["tail.", "head."])
    assert arch_info(net).dead_parameters == ("tail.", "head.")
    assert arch_info(with_attribute("scales", [3])).scales == (3,)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_declares_a_paper_and_valid_types(name: str) -> None:
    arch = ARCH_REGISTRY.get(name)
    assert arch_info(arch).paper
    net = arch(arch.scales[0], **SMALL.get(name, {}))
    assert net.scale in arch_info(net).scales


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scales", 4, r"must be tuple\[int, \.\.\.\], got 4 \(int\)"),
        ("scales", (2, "3"), r"must be tuple\[int, \.\.\.\], got \(2, '3'\) \(tuple\)"),
        ("num_frame", "5", r"must be int \| None, got '5' \(str\)"),
        ("num_frame", True, r"must be int \| None, got True \(bool\)"),
        ("min_size", None, r"must be int, got None \(NoneType\)"),
        ("size_multiple", 2.0, r"must be int, got 2\.0 \(float\)"),
        ("restores_all", 1, r"must be bool, got 1 \(int\)"),
        ("needs_flow", True, r"must be str \| None, got True \(bool\)"),
        ("checkpoint_blocks", "body", r"must be tuple\[str, \.\.\.\], got 'body' \(str\)"),
        ("out_channels", "3", r"must be int \| None, got '3' \(str\)"),
        ("paper", None, r"must be str, got None \(NoneType\)"),
    ],
)
def test_wrong_types_are_named_in_one_line(name: str, value: object, message: str) -> None:
    arch = with_attribute(name, value)
    for net in (arch, arch()):
        with pytest.raises(UserError, match=rf"^Mine: the attribute '{name}' {message}$"):
            arch_info(net)


@pytest.mark.parametrize("attributes", [{}, {"scales": ()}, {"scales": []}])
def test_missing_scales_are_named_in_one_line(attributes) -> None:
    net = type("Mine", (nn.Module,), attributes)()
    with pytest.raises(UserError, match=r"^Mine: the attribute 'scales' is missing; .*$"):
        arch_info(net)


def test_every_attribute_is_documented() -> None:
    for field in dataclasses.fields(ArchInfo):
        assert f"        {field.name}: " in ArchInfo.__doc__

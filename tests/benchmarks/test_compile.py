"""Compilation in a process of its own for each network; mostly without the compiler."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.__main__ import BENCHMARKS
from benchmarks.compile import (
    Compiled,
    CompileOptions,
    measure_compile,
    measure_network,
    report_compile,
)
from srtoolbox.bench.network import build_net
from srtoolbox.bench.report import to_markdown
from srtoolbox.config.files import plain, read
from srtoolbox.config.schema import check
from srtoolbox.errors import UserError

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TREE = {
    "name": "tiny",
    "archs": {"small": {"type": "EDSR", "num_feat": 4, "num_block": 1}},
    "input": [1, 2, 3, 8, 8],
    "rounds": 2,
    "threads": 1,
}


def options(**changes) -> CompileOptions:
    return check({**TREE, **changes}, CompileOptions)


def measured(failure: str | None = None) -> Compiled:
    times = {"usual": [0.3, 0.2], "channels_last": [0.2, 0.2], "compiled": [0.1, 0.1]}
    return Compiled("small", {"forward": times}, {"forward": 12.4}, 1e-7, failure)


def test_the_small_networks_are_those_of_the_presets() -> None:
    presets = {}
    for path in (ROOT / "options" / "_base_" / "networks").glob("*_s.yml"):
        net = plain(read(path))["network_g"]
        presets[net["type"]] = net
    benched = plain(read(ROOT / "benchmarks" / "compile_small.yml"))
    for name, net in benched["archs"].items():
        # The preset of MSTTSTVSR leaves the number of input frames to the study.
        same = {key: value for key, value in net.items() if key in presets[net["type"]]}
        assert same == presets[net["type"]], name
        assert set(net) - set(same) <= {"num_frame"}, name
    assert {net["type"] for net in benched["archs"].values()} == set(presets)


def test_all_forms_are_measured(monkeypatch) -> None:
    compiled = []

    def compile_(self: nn.Module, **_: object) -> None:
        compiled.append(self)
        self._compiled_call_impl = self._call_impl

    monkeypatch.setattr(nn.Module, "compile", compile_)
    opt, found, reports = options(), Compiled("small"), []
    net = build_net("small", opt.archs["small"], opt.input[1:])
    measure_network(net, opt, found, lambda: reports.append(set(found.times)))
    assert reports == [{"forward"}, {"forward", "step"}]
    assert len(compiled) == 1
    assert all(len(rounds) == 2 for times in found.times.values() for rounds in times.values())
    assert set(found.times["step"]) == {"usual", "channels_last", "compiled"}
    assert found.deviation == 0
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.slow
def test_a_network_whose_time_is_over_does_not_end_the_others() -> None:
    archs = {name: TREE["archs"]["small"] for name in ("one", "other")}
    results = measure_compile(options(archs=archs, time_limit=1), CPU)
    assert [found.failure for found in results] == ["not finished after 1 s"] * 2
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_without_a_compiler(monkeypatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    (found,) = measure_compile(options(), CPU)
    assert found.failure is not None
    assert "ompiler" in found.failure and "\n" not in found.failure
    assert not found.times


def test_the_table() -> None:
    results = [measured(), measured("not finished after 5 s"), Compiled("other", failure="E: no")]
    text = to_markdown(report_compile(results, options(), CPU), options(), "command")
    assert "| small | 250 | 1.25 | 2.50 | 12 | fails |  |  |  | 1e-07 |" in text
    assert "| other | fails |  |  |  | fails |  |  |  |  |" in text
    assert "small fails: not finished after 5 s." in text and "other fails: E: no." in text
    assert "C++ compiler: " in text


def test_faults() -> None:
    with pytest.raises(UserError, match="num_feat"):
        measure_compile(options(archs={"bad": {"type": "EDSR", "num_feat": -1}}), CPU)
    with pytest.raises(UserError, match="archs: name at least one arch"):
        options(archs={})


def test_it_is_a_benchmark() -> None:
    assert BENCHMARKS["compile"].options is CompileOptions

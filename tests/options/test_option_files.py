"""Every option file that is shipped can be used as it stands."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from srtoolbox.archs.base import arch_info
from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.study.plan import list_jobs
from srtoolbox.config.components import parameters_of
from srtoolbox.config.files import read
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import build as build_component
from srtoolbox.data.layouts import get_layout
from srtoolbox.engine.build import build_network
from srtoolbox.engine.options import RunOptions
from srtoolbox.inference.padding import accepts_size
from srtoolbox.registry import DATASET_REGISTRY
from srtoolbox.utils.meta import without_memory

ROOT = Path(__file__).parents[2]
OPTIONS = ROOT / "options"
RUNS = sorted(p for kind in ("train", "test") for p in (OPTIONS / kind).rglob("*.yml"))
DATA = sorted((OPTIONS / "_base_" / "data").glob("*.yml"))
STUDIES = [*sorted((OPTIONS / "compare").rglob("*.yml"))]
STUDIES += sorted((ROOT / "docs" / "examples").glob("compare*.yml"))
TEXTS = [*OPTIONS.rglob("*.yml"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def build(opt: RunOptions) -> nn.Module:
    """The network without its numbers: the largest would take seconds and gigabytes."""
    with without_memory():
        return build_network(opt, torch.device("meta"))


def datasets(opt: Any) -> dict[str, dict[str, Any]]:
    train = {"train": opt.datasets.train} if opt.datasets.train else {}
    return {**train, **opt.datasets.val, **opt.datasets.test}


def value(spec: dict[str, Any], name: str) -> Any:
    """An option of a dataset, or its default."""
    known = parameters_of(DATASET_REGISTRY.get(spec["type"]))
    return spec.get(name, known[name].default if name in known else None)


def check_layout(spec: dict[str, Any], scale: int) -> None:
    """The layout, split and scale of a dataset are known; its crops are whole LR pixels."""
    assert value(spec, "gt_size") % scale == 0
    name = value(spec, "layout")
    if name is None:
        return
    layout = get_layout(name)
    assert len(layout.splits) == 1 or spec["split"] in layout.splits
    if spec["type"] in ("SyntheticBursts", "SBSRBursts"):
        return  # they use the HR images alone, at any scale
    # Layouts count from the sensor's pixels, of which a packed RAW pixel holds two by two.
    published = scale // 2 if layout.raw else scale
    assert not layout.scales or published in layout.scales


def check_fit(opt: RunOptions, net: nn.Module, in_study: bool = False) -> None:
    """The network takes the crops and the frames that it would be given.

    In a study it need not fit every test set, but one.
    """
    assert net.scale == opt.scale

    def fits_in(spec: dict[str, Any]) -> bool:
        return arch_info(net).num_frame in (1, None, value(spec, "num_frame"))

    for spec in datasets(opt).values():
        check_layout(spec, opt.scale)
    watched = [opt.datasets.train] if opt.datasets.train else []
    assert all(map(fits_in, [*watched, *opt.datasets.val.values()]))
    tested = [fits_in(spec) for spec in opt.datasets.test.values()]
    assert not tested or (any(tested) if in_study else all(tested))
    if opt.datasets.train is not None:
        assert accepts_size(net, value(opt.datasets.train, "gt_size") // opt.scale)


@cache
def options_of_run(path: Path) -> RunOptions:
    return load_options(path, (), RunOptions)[0]


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_run(path: Path) -> None:
    opt = options_of_run(path)
    check_fit(opt, build(opt))
    assert opt.train is not None or path.is_relative_to(OPTIONS / "test")
    assert opt.datasets.test or opt.datasets.val


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=name_of)
def test_study(path: Path) -> None:
    opt, tree = load_options(path, (), StudyOptions)
    jobs = list_jobs(opt, tree)
    for job in jobs[: len(opt.methods)]:
        check_fit(job.opt, build(job.opt), in_study=True)
    assert len(jobs) == len(opt.methods) * len(opt.seeds)


@pytest.mark.parametrize("path", DATA, ids=name_of)
def test_data(path: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.yml"
    run.write_text(f"_base_: {path}\nname: run\nnetwork_g: {{type: Bicubic}}\n")
    opt, _ = load_options(run, (), RunOptions)
    assert datasets(opt)
    for spec in datasets(opt).values():
        check_layout(spec, opt.scale)


def test_names_of_runs_are_their_own() -> None:
    named: dict[str, Path] = {}
    for path in RUNS:
        opt = options_of_run(path)
        assert named.setdefault(opt.name, path) == path, opt.name


def test_option_files_that_a_text_names_exist() -> None:
    missing = [
        f"{name_of(path)}: {named}"
        for path in TEXTS
        for named in re.findall(r"\boptions/[\w./-]+\.yml", path.read_text(encoding="utf-8"))
        if not (ROOT / named).is_file() and not named.endswith("/mine.yml")
    ]
    assert not missing


def test_the_quickstart_compares_networks_of_comparable_size() -> None:
    opt, tree = load_options(ROOT / "options" / "compare" / "quickstart.yml", (), StudyOptions)
    sizes = {}
    for job in list_jobs(opt, tree):
        net = build(job.opt)
        sizes[job.method] = sum(parameter.numel() for parameter in net.parameters())
    names = ["Bicubic", "EDSR", "DSRNet", "TDAN", "EDVR", "DSTC-SRNet", "DSTC-SRNet+"]
    assert list(sizes) == names
    trained = [size for method, size in sizes.items() if method != "Bicubic"]
    assert max(trained) < 1.6 * min(trained)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("burstormer_s", 193_098), ("fbanet_s", 186_041), ("bipnet_s", 191_716)],
)
def test_small_burst_networks_have_the_stated_size(name: str, expected: int) -> None:
    path = OPTIONS / "_base_" / "networks" / f"{name}.yml"
    with without_memory():
        net = build_component("arch", read(path)["network_g"])
    assert sum(parameter.numel() for parameter in net.parameters()) == expected
    assert f"{expected / 1e6:.2f} M" in path.read_text(encoding="utf-8").splitlines()[0]

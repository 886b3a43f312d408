"""Every option file that is shipped can be used as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srtoolbox.comparison.plan import StudyOptions, plan
from srtoolbox.engine.run import build_network, load_options

ROOT = Path(__file__).parents[1]
RUNS = sorted(p for kind in ("train", "test") for p in (ROOT / "options" / kind).rglob("*.yml"))
STUDIES = [*sorted((ROOT / "options" / "compare").rglob("*.yml"))]
STUDIES += sorted((ROOT / "docs" / "examples").glob("compare*.yml"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.relative_to(ROOT)))
def test_run(path: Path) -> None:
    opt, _ = load_options(path)
    assert build_network(opt, torch.device("cpu")).scale == opt.scale


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: str(path.relative_to(ROOT)))
def test_study(path: Path) -> None:
    opt, tree = load_options(path, (), StudyOptions)
    for job in plan(opt, tree):
        assert build_network(job.opt, torch.device("cpu")).scale == opt.scale


def test_the_quickstart_compares_networks_of_comparable_size() -> None:
    opt, tree = load_options(ROOT / "options" / "compare" / "quickstart.yml", (), StudyOptions)
    sizes = {}
    for job in plan(opt, tree):
        net = build_network(job.opt, torch.device("cpu"))
        sizes[job.method] = sum(parameter.numel() for parameter in net.parameters())
    assert list(sizes) == ["Bicubic", "EDSR", "DSRNet", "TDAN", "EDVR", "DSTC-SRNet"]
    trained = [size for method, size in sizes.items() if method != "Bicubic"]
    assert max(trained) < 1.6 * min(trained)

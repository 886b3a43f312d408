"""The doctor finds every option file of Jilin-189 in order, given files in that layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.networks import SMALL

from srtoolbox.cli import main
from srtoolbox.comparison.options import StudyOptions
from srtoolbox.config.load import load_options
from srtoolbox.engine.doctor import diagnose as doctor

OPTIONS = Path(__file__).parents[2] / "options"
FILES = [
    *sorted((OPTIONS / "train").glob("*/jilin189_x4.yml")),
    *sorted((OPTIONS / "compare").glob("jilin189_x4*.yml")),
    OPTIONS / "compare" / "dstc_plus" / "jilin.yml",
]
SIDE = 64
# Crops and batches for a CPU; that the files' own crops fit the networks is tested without data.
SMALL_DATA = [f"datasets.train.gt_size={SIDE}", "train.batch_size=1", "train.num_worker=0"]
# The published patches need crops of 320 pixels: a step would take half a minute.
PATCHES = "network_g.patch_sizes=[8, 4, 2, 1]"


@pytest.fixture(scope="module")
def jilin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``datasets/Jilin-189``: two clips to train on, one to test on."""
    folder = tmp_path_factory.mktemp("jilin")
    rng = np.random.default_rng(0)
    for clip in ("train/{}/000", "train/{}/001", "eval/{}/000"):
        for frame in range(7):
            for part, side in (("GT", SIDE), ("LR4x", SIDE // 4)):
                path = folder / "datasets" / "Jilin-189" / clip.format(part) / f"{frame:08d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(path)
    return folder


def smaller(place: str, network: dict[str, Any]) -> list[str]:
    """Overrides for the networks of studies, which have many; those of one run keep their sizes."""
    if network["type"] == "TwoStage":
        return smaller(f"{place}.network", network["network"])
    options = SMALL.get(network["type"], {})
    return [f"{place}.{key}={json.dumps(value)}" for key, value in options.items()]


def name_of(path: Path) -> str:
    return str(path.relative_to(OPTIONS))


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_doctor(path: Path, jilin: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(jilin)
    monkeypatch.setenv("COLUMNS", "200")  # names of methods are not broken
    monkeypatch.setattr(doctor, "_MAX_EXTRA_SECONDS", 0)  # two steps, none for a better timing
    values, methods = list(SMALL_DATA), [""]
    if path.is_relative_to(OPTIONS / "compare"):
        study = load_options(path, (), StudyOptions)[0].methods
        methods = [f"{name}: " for name in study]
        for name, method in study.items():
            values += smaller(f"methods.{name}.network_g", method.network_g)
    elif "MSTTSTVSR" in path.read_text():
        values.append(PATCHES)
    overrides = [part for value in values for part in ("--set", value)]
    assert main(["doctor", str(path), "--device", "cpu", *overrides]) == 0
    shown = capsys.readouterr().out
    assert "all checks passed" in shown
    for method in methods:
        assert f"{method}evaluation" in shown
        assert f"{method}training" in shown or "Bicubic" in method
    assert [path.name for path in jilin.iterdir()] == ["datasets"]

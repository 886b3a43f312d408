"""Tests the options of runs: names, metrics, workers, and misplaced keys."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from srtoolbox.config.load import load_options
from srtoolbox.config.schema import OptionErrors
from srtoolbox.engine.build import fingerprint
from srtoolbox.engine.options import RunOptions
from srtoolbox.errors import UserError
from srtoolbox.utils.cpu import cpu_count

RUN = """
name: run
network_g: {type: EDSR, num_feat: 4, num_block: 1}
datasets:
  train: {type: SampleBursts, gt_size: 32}
  val:
    sample: {type: SampleBursts}
train: {total_iter: 5, optim_g: {type: Adam, lr: 1e-4}}
"""


def read(folder: Path, *overrides: str) -> RunOptions:
    (folder / "x.yml").write_text(RUN)
    return load_options(folder / "x.yml", overrides, RunOptions)[0]


def fault_of(folder: Path, *overrides: str) -> str:
    with pytest.raises(OptionErrors) as caught:
        read(folder, *overrides)
    assert len(caught.value.errors) == 1
    return caught.value.errors[0]


@pytest.mark.parametrize(
    "name",
    ["..", "../..", "/abs", "", ".", ".hidden", "a/b", "a\\b", "a\nb", "~", "\u202ea", "x" * 300],
)
def test_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    quoted = '"' + name.encode("unicode_escape").decode() + '"'
    assert "folder" in fault_of(tmp_path, f"name={quoted}")
    for part in ("val", "test"):
        override = f"datasets.{part}={{{quoted}: {{type: SampleBursts}}}}"
        fault = fault_of(tmp_path, override)
        assert "folder" in fault and f"datasets.{part}" in fault


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *[(name, "begins or ends with a blank") for name in (" x", "x ", "  ")],
        *[(name, "ends with a dot") for name in ("x.", "x..")],
        *[
            (name, "is reserved by Windows")
            for name in ("CON", "con", "Prn", "aux", "NUL", "COM1", "lpt9", "nul.x4", "AUX .b")
        ],
    ],
)
def test_names_that_other_systems_change_or_refuse(tmp_path: Path, name: str, words: str) -> None:
    assert words in fault_of(tmp_path, f"name='{name}'")
    fault = fault_of(tmp_path, f"datasets.test={{'{name}': {{type: SampleBursts}}}}")
    assert words in fault and "datasets.test" in fault


@pytest.mark.parametrize("name", ["CONV", "com", "COM10", "x4 CON", "lpt 1", "v1.2", "nul-a"])
def test_names_that_only_look_reserved(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, f"name='{name}'").name == name


def test_names_of_other_scripts_are_allowed(tmp_path: Path) -> None:
    opt = read(tmp_path, "name=武汉 2024 (x4)", "datasets.test={'x4 [a]': {type: SampleBursts}}")
    assert opt.name == "武汉 2024 (x4)"


def test_a_dataset_in_the_other_section(tmp_path: Path) -> None:
    fault = fault_of(tmp_path, "datasets.test.sample.split=val")
    assert "datasets.test.sample.type: missing; there is 'datasets.val.sample'" in fault
    assert "one of" in fault_of(tmp_path, "datasets.test.other.split=val")


def test_the_best_metric_follows_the_metrics(tmp_path: Path) -> None:
    assert read(tmp_path).val.best_metric == "psnr"
    assert read(tmp_path, "val.metrics={s: {type: SSIM}}").val.best_metric == "s"
    both = "val.metrics={s: {type: SSIM}, psnr: {type: PSNR}}"
    assert read(tmp_path, both).val.best_metric == "psnr"
    fault = fault_of(tmp_path, "val.metrics={s: {type: SSIM}}", "val.best_metric=psnr")
    assert "'psnr' is not one of ['s']" in fault
    assert "name at least one metric" in fault_of(
        tmp_path, "val={metrics: !delete}", "val.metrics={}"
    )


def test_workers_are_capped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = read(tmp_path, "train.num_worker=10000").train
    assert train is not None and train.num_worker == 10_000
    with caplog.at_level(logging.WARNING, "srtoolbox"):
        assert train.workers == 4 * cpu_count()
    assert "10000 is too many" in caplog.text
    few = read(tmp_path, "train.num_worker=1").train
    assert few is not None and few.workers == 1


@pytest.mark.parametrize(
    "override",
    [
        "train.grad_clip=.inf",
        "manual_seed=9223372036854775808",
        "train.batch_size=100000000",
        "train.accumulate=100000000",
    ],
)
def test_numbers_out_of_range(tmp_path: Path, override: str) -> None:
    assert override.split("=")[0] in fault_of(tmp_path, override)


def test_weights_that_are_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for path, kind in (("/dev/zero", "a device"), (tmp_path / "pipe.pth", "a pipe")):
        opt = read(tmp_path, f"path.pretrain_network_g={path}")
        with pytest.raises(UserError, match=f"{path}: is {kind}, not a regular file"):
            fingerprint(opt)

"""Option files of a run and of a study that train within a second."""

from __future__ import annotations

from pathlib import Path

import pytest

RUN = """
name: tiny
scale: 4
network_g: {type: EDSR, num_feat: 4, num_block: 1}
datasets:
  train: {type: SampleBursts, num_frame: 3, gt_size: 32}
  val:
    sample: {type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: 2}
train: {total_iter: 4, batch_size: 2}
val: {val_freq: 2}
logger: {print_freq: 2, save_checkpoint_freq: 2, use_tb_logger: false}
"""


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yml"
    path.write_text(RUN)
    return path


@pytest.fixture
def study_file(run_file: Path) -> Path:
    path = run_file.with_name("study.yml")
    methods = (
        "{Bicubic: {network_g: {type: Bicubic}}, EDSR: {network_g: {type: EDSR, num_feat: 4}}}"
    )
    path.write_text(f"_base_: run.yml\nnetwork_g: !delete\nmethods: {methods}\n")
    return path

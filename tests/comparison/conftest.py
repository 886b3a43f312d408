"""A study small enough to be run in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

STUDY = """
name: tiny
scale: 4
seeds: [0]
datasets:
  train: {type: SampleBursts, num_frame: 3, gt_size: 32}
  val:
    sample: {type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: 3}
train:
  total_iter: 6
  batch_size: 2
  optim_g: {type: Adam, lr: 1e-3}
val: {val_freq: 3}
logger: {print_freq: 2, save_checkpoint_freq: 2, use_tb_logger: false}
report: {num_image: 2}
methods:
  Bicubic: {network_g: {type: Bicubic}}
  EDSR: {network_g: {type: EDSR, num_feat: 4, num_block: 1}}
  EDVR:
    network_g:
      {type: EDVR, num_frame: 3, num_feat: 8, deformable_groups: 2, num_extract_block: 1,
       num_reconstruct_block: 1}
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny study, its results going to ``tmp_path``; ``extra`` is YAML laid over it."""

    def write(extra: str = "", name: str = "study.yml") -> Path:
        base = tmp_path / "base.yml"
        base.write_text(STUDY + f"path: {{experiments_root: '{tmp_path / 'experiments'}'}}\n")
        path = tmp_path / name
        path.write_text(f"_base_: base.yml\n{extra}")
        return path

    return write

"""A training so small that it takes a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from srtoolbox.config.load import load_options
from srtoolbox.engine.options import RunOptions

TINY = """
name: tiny
scale: 4
datasets:
  train: {type: SampleBursts, split: train, num_frame: 2, gt_size: 32}
  val:
    sample: {type: SampleBursts, split: test, num_frame: 2, gt_size: 32, num_burst: 2}
network_g: {type: EDSR, num_feat: 4, num_block: 1}
train:
  total_iter: 6
  batch_size: 2
  optim_g: {type: Adam, lr: 1e-3}
val:
  val_freq: 3
  metrics: {psnr: {type: PSNR}}
logger: {print_freq: 2, save_checkpoint_freq: 2, use_tb_logger: false}
"""

Options = Callable[..., RunOptions]


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """``options("train.total_iter=4", …)``: the tiny run, writing below ``tmp_path``."""
    file = tmp_path / "tiny.yml"
    file.write_text(TINY)

    def make(*overrides: str) -> RunOptions:
        root = f"path.experiments_root={tmp_path / 'experiments'}"
        return load_options(file, [root, *overrides], RunOptions)[0]

    return make

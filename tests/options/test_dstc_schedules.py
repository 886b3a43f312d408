"""The released training of DSTC-SRNet: its rate, its loss and a short run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.config.load import load_options
from srtoolbox.config.schema import build
from srtoolbox.config.shipped import options_folder
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.plateau import Plateau
from srtoolbox.engine.training.train import train
from srtoolbox.models import SRModel
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")


def options(folder: Path, name: str, *overrides: str) -> RunOptions:
    """Returns a run with a shipped schedule, a small network and six training photographs."""
    file = folder / "run.yml"
    file.write_text(f"""
_base_: {options_folder()}/_base_/schedules/{name}.yml
name: small
path: {{experiments_root: {folder / "experiments"}}}
network_g: {{type: EDSR, num_feat: 4, num_block: 1}}
datasets:
  train: {{type: SampleBursts, num_frame: 2, gt_size: 64, use_hflip: false, use_rot: false}}
  val:
    sample: {{type: SampleBursts, split: val, num_frame: 2, gt_size: 64, num_burst: 1}}
logger: {{print_freq: 6, use_tb_logger: false}}
""")
    return load_options(file, overrides, RunOptions)[0]


class Given(nn.Module):
    """Returns images that are set before, for x4."""

    scales, num_frame, reference, scale, restores_all = (4,), 1, 0, 4, False
    sr: Tensor

    def forward(self, lq: Tensor) -> Tensor:
        return self.sr


def test_three_epochs_without_a_lower_loss_lower_the_rate(tmp_path: Path) -> None:
    opt = options(tmp_path, "dstc_srnet").train
    start = 2e-8  # so low that torch's default of eps would keep it
    optimizer = torch.optim.Adam(nn.Linear(1, 1).parameters(), lr=start)
    plateau = Plateau(opt, {"g": optimizer}, 1, False, CPU)
    rates = []
    for step, loss in enumerate([0.5, 0.4, 0.4, 0.41, 0.4, 0.3999999, 0.4, 0.4, 0.4, 0.4]):
        plateau.add_loss(step, torch.tensor(loss))
        plateau.end_step(step + 1)
        rates.append(optimizer.param_groups[0]["lr"] / start)
    assert rates == pytest.approx([1, 1, 1, 1, 0.95, 0.95, 0.95, 0.95, 0.95**2, 0.95**2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "golden"), [("dstc_srnet", "loss_l1"), ("dstc_srnet_combined", "loss_combined")]
)
def test_the_losses_of_the_authors(
    tmp_path: Path, lpips_alex: None, dstc_pairs, name: str, golden: str
) -> None:
    opt = options(tmp_path, name).train
    losses = {key: build("loss", spec) for key, spec in opt.losses.items()}
    net = Given()
    model = SRModel(net, losses, loss_crop_border=opt.loss_crop_border)
    for sr, gt, values in dstc_pairs:
        net.sr = sr[None]
        found = model.objective("g", {"lq": torch.zeros(1, 1, 3, 18, 18), "gt": gt[None]})
        assert sum(found.values()).item() == pytest.approx(values[golden], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dstc_srnet", "dstc_srnet_combined"])
def test_a_short_run(tmp_path: Path, lpips_alex: None, name: str) -> None:
    opt = options(tmp_path, name, "train.total_iter=30", "train.num_worker=0")
    train(opt, CPU, resume=False)
    log = list(read_lines(opt.folder / "log.jsonl"))
    assert len(log) == 5
    assert all(record["lr"] in (1.5e-5, 0.95 * 1.5e-5) for record in log)
    (scores,) = read_lines(opt.folder / "evaluation.jsonl")
    assert {"psnr", "ssim", "lpips"} <= scores.keys()
    assert 0 < scores["lpips"] < 1

"""The authors' DSRNet x2 weights score what the authors' network scores with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from srtoolbox.config.load import load_options
from srtoolbox.engine.build import build_dataset, build_network, load_pretrained
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.evaluation.records import average
from srtoolbox.engine.evaluation.test import run_test
from srtoolbox.engine.options import RunOptions
from srtoolbox.metrics import PROTOCOLS, Protocol

CPU = torch.device("cpu")
OPTIONS = Path(__file__).parents[3] / "options" / "test" / "DSRNet" / "dsrnet_x2_official.yml"
RGB = Protocol("rgb-crop-scale", crop_border="scale")

# PSNR in dB and SSIM on Set5 x2, measured with the public network and metrics.
SCORES = {
    ("basicsr-y", 2): (37.748, 0.9596),
    ("basicsr-y", 1): (37.061, 0.9564),
    ("matlab-y", 2): (37.670, 0.9585),
    (RGB.name, 2): (35.570, 0.9423),
}


def official(reference: Path, *overrides: str) -> RunOptions:
    return load_options(
        OPTIONS,
        [
            f"path.pretrain_network_g={reference / 'weights' / 'DSRNet_x2_600000.pth'}",
            f"datasets.test.Set5.dataroot={reference / 'data' / 'Set5'}",
            *overrides,
        ],
        RunOptions,
    )[0]


@pytest.mark.slow
@pytest.mark.parametrize("branch", [1, 2])
def test_outputs(reference: Path, branch: int) -> None:
    opt = official(reference, f"network_g.branch={branch}")
    net = build_network(opt, CPU).eval()
    load_pretrained(opt, net)
    golden = np.load(reference / "goldens" / "dsrnet_x2_officialckpt_io.npz")
    with torch.inference_mode():
        output = net(torch.from_numpy(golden["input"]))
    # The index is the gate's: its first logit is for branch 2.
    torch.testing.assert_close(
        output, torch.from_numpy(golden[f"output_idx{2 - branch}"]), atol=1e-4, rtol=0
    )


def check(protocol: str, branch: int, scores: Mapping[str, float | None]) -> None:
    psnr, ssim = SCORES[protocol, branch]
    assert scores["psnr"] == pytest.approx(psnr, abs=6e-4), protocol
    assert scores["ssim"] == pytest.approx(ssim, abs=6e-5), protocol


@pytest.mark.slow
def test_scores_of_a_test(reference: Path, tmp_path: Path) -> None:
    root = f"path.experiments_root={tmp_path}"
    opt = official(reference, "network_g.branch=1", "val.protocol=basicsr-y", root)
    check("basicsr-y", 1, run_test(opt, CPU).scores["Set5"])


@pytest.mark.slow
def test_scores_under_several_protocols(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, RGB.name, RGB)
    opt = official(reference, "network_g.branch=2")
    net = build_network(opt, CPU).eval()
    load_pretrained(opt, net)
    dataset = build_dataset("Set5", opt.datasets.test["Set5"], opt, net)
    names = [protocol for protocol, branch in SCORES if branch == 2]
    evaluator = Evaluator(opt.val, CPU, protocols=names)
    for name, records in evaluator.run(net, dataset).items():
        means = average(records, evaluator.protocols[name].average, evaluator.lower_is_better)
        check(name, 2, means)

"""Outputs of a whole training."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from support.runs import best_of, run

from srtoolbox.config.files import plain
from srtoolbox.config.load import load_options
from srtoolbox.engine.build import build_network, fingerprint
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.weights.load import load, load_weights, weights_hash
from srtoolbox.metrics import PSNR
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")


class TestResult:
    def test_what_a_run_leaves(self, options) -> None:
        opt = options()
        result = run(opt)
        folder = opt.folder
        assert result.step == 6
        assert result.seconds > 0
        assert not result.net.training
        assert result.weights == weights_hash(result.net)
        for name in ("options.yml", "environment.json", "run.json", "finished.json"):
            assert (folder / name).is_file()
        assert (folder / "options.yml").read_text().startswith("name: tiny\n")
        net = build_network(opt, CPU)
        load_weights(net, folder / "weights" / "net_g_latest.pth")
        assert weights_hash(net) == result.weights
        assert [r["step"] for r in read_lines(folder / "log.jsonl")] == [2, 4, 6]
        scores = list(read_lines(folder / "evaluation.jsonl"))
        assert [(r["step"], r["dataset"]) for r in scores] == [(3, "sample"), (6, "sample")]
        assert len(list((folder / "checkpoints").iterdir())) == opt.logger.keep_checkpoint
        assert not list(folder.rglob("*.tmp"))

    @pytest.mark.slow
    def test_options_can_be_run_again(self, options) -> None:
        opt = options("train.scheduler={type: CosineAnnealingLR}", "train.warmup_iter=2")
        run(opt)
        again = load_options(opt.folder / "options.yml", (), RunOptions)[0]
        assert plain(again) == plain(opt)
        assert fingerprint(again) == fingerprint(opt)
        other = run(again, folder=opt.folder.parent / "again")
        assert other.weights == json.loads((opt.folder / "finished.json").read_text())["weights"]

    def test_the_average_is_the_result(self, options) -> None:
        opt = options("train.ema_decay=0.5")
        result = run(opt)
        content = torch.load(opt.folder / "weights" / "net_g_latest.pth")
        assert set(content) == {"arch", "params", "params_ema"}
        net = build_network(opt, CPU)
        load_weights(net, opt.folder / "weights" / "net_g_latest.pth")
        assert weights_hash(net) == result.weights
        net.load_state_dict(content["params"])
        assert weights_hash(net) != result.weights

    def test_weights_know_their_network(self, options, caplog) -> None:
        opt = options()
        result = run(opt)
        with caplog.at_level(logging.INFO, "srtoolbox"):
            net, arch = load(opt.folder / "weights" / "net_g_latest.pth", CPU)
        assert arch == {"type": "EDSR", "num_feat": 4, "num_block": 1, "scale": 4}
        assert weights_hash(net) == result.weights
        assert not net.training
        assert "tensors loaded from params" in caplog.text

    @pytest.mark.slow
    def test_pretrained_weights_are_the_start(self, options) -> None:
        first = options()
        weights = first.folder / "weights" / "net_g_latest.pth"
        start = run(first).weights
        opt = options(
            "name=second",
            f"path.pretrain_network_g={weights}",
            "train.optim_g={type: SGD, lr: 1e-30}",  # changes no float32 weight
            "datasets.val=!delete",
        )
        assert run(opt).weights == start
        assert not (opt.folder / "weights" / "net_g_best.pth").exists()

    @pytest.mark.parametrize("higher", [True, False])
    def test_best_weights(self, options, monkeypatch, higher: bool) -> None:
        monkeypatch.setattr(PSNR, "higher_is_better", higher)
        rate = "train.optim_g.lr=3e-2"  # so much that scores go up and down
        opt = options("val.val_freq=1", rate)
        run(opt)
        records = list(read_lines(opt.folder / "evaluation.jsonl"))
        choose = max if higher else min
        step = choose(records, key=lambda record: record["psnr"])["step"]
        shorter = options("name=shorter", f"train.total_iter={step}", rate)
        assert best_of(opt) == run(shorter).weights

    def test_the_first_dataset_chooses_the_best(self, options) -> None:
        second = "{type: SampleBursts, split: val, num_frame: 2, gt_size: 64, num_burst: 1}"
        opt = options(f"datasets.val.second={second}")
        run(opt)
        records = list(read_lines(opt.folder / "evaluation.jsonl"))
        assert [r["dataset"] for r in records] == ["sample", "second"] * 2

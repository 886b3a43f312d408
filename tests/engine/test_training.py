"""A whole training in a folder: guards, results, and being killed at any instant."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from srtoolbox.engine.files import read_lines
from srtoolbox.engine.run import RunOptions, build_network, fingerprint, load_options
from srtoolbox.engine.training import train
from srtoolbox.engine.weights import load_trained, load_weights, weights_hash
from srtoolbox.errors import UserError
from srtoolbox.metrics import PSNR
from srtoolbox.options import plain

CPU = torch.device("cpu")


def run(opt: RunOptions, resume: bool = False, folder: Path | None = None):
    return train(opt, CPU, resume=resume, folder=folder)


def best_of(opt: RunOptions) -> str:
    net = build_network(opt, CPU)
    load_weights(net, opt.folder / "weights" / "net_g_best.pth")
    return weights_hash(net)


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
        net = build_network(opt, CPU)
        load_weights(net, folder / "weights" / "net_g_latest.pth")
        assert weights_hash(net) == result.weights
        assert [r["step"] for r in read_lines(folder / "log.jsonl")] == [2, 4, 6]
        scores = list(read_lines(folder / "evaluation.jsonl"))
        assert [(r["step"], r["dataset"]) for r in scores] == [(3, "sample"), (6, "sample")]
        assert len(list((folder / "checkpoints").iterdir())) == opt.logger.keep_checkpoint
        assert not list(folder.rglob("*.tmp"))

    def test_options_can_be_run_again(self, options) -> None:
        opt = options("train.scheduler={type: CosineAnnealingLR}", "train.warmup_iter=2")
        run(opt)
        again = load_options(opt.folder / "options.yml")[0]
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
            net, arch = load_trained(opt.folder / "weights" / "net_g_latest.pth", CPU)
        assert arch == {"type": "EDSR", "num_feat": 4, "num_block": 1, "scale": 4}
        assert weights_hash(net) == result.weights
        assert not net.training
        assert "tensors loaded from params" in caplog.text

    def test_pretrained_weights_are_the_start(self, options) -> None:
        first = options()
        weights = first.folder / "weights" / "net_g_latest.pth"
        start = run(first).weights
        opt = options(
            "name=second",
            f"path.pretrain_network_g={weights}",
            "train.optim_g={type: SGD, lr: 0}",
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


class TestFolder:
    def test_a_run_is_not_overwritten(self, options) -> None:
        opt = options()
        run(opt)
        before = {path: path.stat().st_mtime_ns for path in opt.folder.rglob("*")}
        with pytest.raises(UserError, match=r"tiny holds a run already; go on with it by --resume"):
            run(opt)
        assert {path: path.stat().st_mtime_ns for path in opt.folder.rglob("*")} == before

    def test_other_options_are_refused(self, options) -> None:
        run(options())
        words = "tiny holds a run with other options .*options.yml"
        with pytest.raises(UserError, match=words):
            run(options("train.optim_g.lr=1e-4"), resume=True)

    def test_a_finished_run_returns_at_once(self, options, monkeypatch, caplog) -> None:
        opt = options()
        first = run(opt)
        monkeypatch.setattr("srtoolbox.engine.training.Trainer", None)
        with caplog.at_level(logging.INFO, "srtoolbox"):
            again = run(opt, resume=True)
        assert (again.weights, again.step) == (first.weights, first.step)
        assert again.seconds == first.seconds
        assert weights_hash(again.net) == first.weights
        assert not again.net.training
        assert "is finished (6 steps)" in caplog.text

    def test_resume_without_a_run_starts_one(self, options) -> None:
        assert run(options(), resume=True).step == 6

    def test_another_folder(self, options, tmp_path: Path) -> None:
        opt = options()
        run(opt, folder=tmp_path / "elsewhere")
        assert (tmp_path / "elsewhere" / "finished.json").exists()
        assert not opt.folder.exists()

    def test_a_file_in_its_place(self, options) -> None:
        opt = options()
        opt.folder.parent.mkdir()
        opt.folder.write_text("no folder")
        with pytest.raises(UserError, match="tiny: cannot be written"):
            run(opt)

    @pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
    )
    def test_a_folder_without_permission(self, options) -> None:
        opt = options()
        opt.folder.mkdir(parents=True)
        opt.folder.chmod(0o500)
        with pytest.raises(UserError, match=r"tiny: cannot be written .*[Pp]ermission"):
            run(opt)

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("datasets.train.num_frame=0", "num_frame"),
            ("network_g={type: Bicubic}", "Bicubic has no parameters to train"),
            ("path.pretrain_network_g=none.pth", "none.pth: no such weight file"),
        ],
    )
    def test_a_run_that_cannot_start_leaves_its_folder_free(
        self, options, override: str, words: str
    ) -> None:
        """Else the mended options would be refused as another run."""
        with pytest.raises(UserError, match=words):
            run(options(override))
        assert run(options()).step == 6

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("train=null", "tiny: the options have no 'train' section"),
            ("datasets.train=null", "tiny: the options have no 'datasets.train' section"),
        ],
    )
    def test_options_without_training(self, options, override: str, words: str) -> None:
        with pytest.raises(UserError, match=words):
            run(options(override))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
def test_killed_at_any_instant_it_ends_the_same(options, outcome, monkeypatch) -> None:
    """SIGKILL at one write after the other: before and after each file takes its new name."""
    rest = ("train.total_iter=4", "val.val_freq=2", "train.ema_decay=0.9", "train.optim_g.lr=1e-2")
    whole = options("name=whole", *rest)
    expected = run(whole)
    expected_best = best_of(whole)
    fsync, writes = os.fsync, 0

    def train_until(opt: RunOptions, last: int) -> None:
        done = 0

        def fatal(handle: int) -> None:
            nonlocal done
            done += 1
            if done > last:
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(handle)

        os.fsync = fatal
        run(opt, resume=True)

    while True:
        opt = options(f"name=killed_{writes}", *rest)
        child = multiprocessing.get_context("fork").Process(target=train_until, args=(opt, writes))
        child.start()
        child.join(60)
        result = run(opt, resume=True)
        assert result.weights == expected.weights, writes
        assert best_of(opt) == expected_best, writes
        for name in ("log.jsonl", "evaluation.jsonl"):
            logs = [outcome(read_lines(run_.folder / name)) for run_ in (whole, opt)]
            assert logs[0] == logs[1], (writes, name)
        if child.exitcode == 0:  # it wrote less often than that
            break
        assert child.exitcode == -signal.SIGKILL
        writes += 1
    assert writes > 15

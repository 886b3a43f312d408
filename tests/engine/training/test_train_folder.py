"""The folder of a run: refused folders, resumed runs, and a full disk."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
from pathlib import Path

import pytest
import torch
from support.runs import best_of, outcome, run

from srtoolbox.engine.training import train as train_module
from srtoolbox.engine.training.train import train
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.engine.weights.load import weights_hash
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.files import locked, read_lines, write_atomic

CPU = torch.device("cpu")


class TestFolder:
    def test_a_run_is_not_overwritten(self, options) -> None:
        opt = options()
        run(opt)
        files = [path for path in opt.folder.rglob("*") if path.name != ".lock"]
        before = {path: path.stat().st_mtime_ns for path in files}
        with pytest.raises(UserError, match=r"tiny holds a run already; continue it with --resume"):
            run(opt)
        assert {path: path.stat().st_mtime_ns for path in files} == before
        assert len(list(opt.folder.rglob("*"))) == len(files) + 1

    def test_killed_while_more_steps_are_entered(self, options, monkeypatch) -> None:
        """The options of the folder are those of the run, so that it can have more steps again."""

        def steps(number: int):
            return options(f"train.total_iter={number}", "train.scheduler=null")

        def die(path: Path, content: str) -> None:
            if path.name == "options.yml":
                raise KeyboardInterrupt
            write_atomic(path, content)

        run(steps(2))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(train_module, "write_atomic", die)
            run(steps(3), resume=True)
        assert run(steps(3), resume=True).step == 3
        assert "total_iter: 3" in (steps(3).folder / "options.yml").read_text()
        assert "unfinished" not in json.loads((steps(3).folder / "run.json").read_text())
        assert run(steps(4), resume=True).step == 4

    def test_other_options_are_refused(self, options) -> None:
        run(options())
        words = "tiny holds a run with other options .*options.yml"
        with pytest.raises(UserError, match=words):
            run(options("train.optim_g.lr=1e-4"), resume=True)

    def test_a_finished_run_returns_at_once(self, options, monkeypatch, caplog) -> None:
        opt = options()
        first = run(opt)
        monkeypatch.setattr("srtoolbox.engine.training.train.Trainer", None)
        with caplog.at_level(logging.INFO, "srtoolbox"):
            again = run(opt, resume=True)
        assert (again.weights, again.step) == (first.weights, first.step)
        assert again.seconds == first.seconds
        assert weights_hash(again.net) == first.weights
        assert not again.net.training
        assert "is finished (6 steps)" in caplog.text

    def test_resume_without_a_run_starts_one(self, options) -> None:
        assert run(options(), resume=True).step == 6

    def test_parts_of_something_else_are_not_overwritten(self, options) -> None:
        opt = options()
        weights = opt.folder / "weights" / "net_g_latest.pth"
        weights.parent.mkdir(parents=True)
        weights.write_text("precious")
        words = r"tiny contains weights but no run.json, so it is not a run folder; left untouched"
        for resume in (False, True):
            with pytest.raises(UserError, match=words):
                run(opt, resume)
        assert weights.read_text() == "precious"
        assert not (opt.folder / "options.yml").exists()

    def test_a_damaged_card(self, options) -> None:
        run(options())
        (options().folder / "run.json").write_text("")
        with pytest.raises(RunError, match=r"run.json is damaged; restore a copy"):
            run(options(), resume=True)

    def test_damaged_checkpoints_only(self, options) -> None:
        opt = options()
        run(opt)
        (opt.folder / "finished.json").unlink()
        for path in (opt.folder / "checkpoints").iterdir():
            path.write_bytes(b"")
        log = (opt.folder / "log.jsonl").read_text()
        with pytest.raises(RunError, match="none of its checkpoints"):
            run(opt, resume=True)
        assert (opt.folder / "log.jsonl").read_text() == log

    @pytest.mark.slow
    def test_checkpoints_of_another_run(self, options) -> None:
        """E.g. copied by hand; their networks have other tensors."""
        opt, other = options(), options("name=other", "network_g.num_feat=8")
        run(opt)
        run(other)
        (opt.folder / "finished.json").unlink()
        for path in (opt.folder / "checkpoints").iterdir():
            path.unlink()
        for path in (other.folder / "checkpoints").iterdir():
            path.rename(opt.folder / "checkpoints" / path.name)
        with pytest.raises(RunError, match="none of its checkpoints"):
            run(opt, resume=True)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
    def test_two_processes(self, options, monkeypatch) -> None:
        monkeypatch.setattr("srtoolbox.utils.files._MAX_LOCK_WAIT", 0.1)
        opt = options()
        opt.folder.mkdir(parents=True)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            with locked(opt.folder):
                os.write(write, b"!")
                signal.pause()
        os.read(read, 1)
        try:
            with pytest.raises(UserError, match=f"tiny is in use by process {child} on"):
                run(opt)
            assert [path.name for path in opt.folder.iterdir()] == [".lock"]
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert run(opt).step == 6

    @pytest.mark.slow
    def test_a_disk_that_is_full_again_and_again(self, options, monkeypatch) -> None:
        """The run waits at each write and ends with the same result."""
        whole = options("name=whole")
        expected = run(whole)
        opt = options("logger.use_tb_logger=true")
        fsync, calls, waits = os.fsync, 0, []

        def full(handle: int) -> None:
            nonlocal calls
            calls += (opt.folder / "run.json").exists()
            if calls % 3 == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(handle)

        monkeypatch.setattr("os.fsync", full)
        monkeypatch.setattr("srtoolbox.utils.files.sleep", waits.append)
        assert run(opt).weights == expected.weights
        assert len(waits) > 8
        assert best_of(opt) == best_of(whole)
        for name in ("log.jsonl", "evaluation.jsonl"):
            logs = [outcome(read_lines(o.folder / name)) for o in (whole, opt)]
            assert logs[0] == logs[1]
        assert not list(opt.folder.rglob("*.tmp"))

    @pytest.mark.slow
    def test_scores_are_not_doubled(self, options, monkeypatch) -> None:
        """Stopped in a step that is due for evaluation, then killed after that evaluation."""
        whole = options("name=whole")
        run(whole)
        opt = options()
        optimize = Trainer._optimize

        def stop(self: Trainer, *arguments: object) -> None:
            optimize(self, *arguments)
            if self.step == 2:
                signal.raise_signal(signal.SIGTERM)

        def die(self: Trainer, reporter: object) -> None:
            raise MemoryError

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Trainer, "_optimize", stop)
            run(opt)
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(Trainer, "_report", die)
            run(opt, resume=True)
        run(opt, resume=True)
        logs = [outcome(read_lines(o.folder / "evaluation.jsonl")) for o in (whole, opt)]
        assert logs[0] == logs[1]

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
        """Otherwise the corrected options would be refused as another run."""
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


def test_images_of_each_evaluation(options) -> None:
    opt = options("val.save_img=true", "train.total_iter=3")
    train(opt, CPU, resume=False)
    found = sorted(path.relative_to(opt.folder).as_posix() for path in opt.folder.rglob("*.png"))
    assert found == [f"images/sample/00000003/{key}_00.png" for key in ("astronaut", "chelsea")]


def test_the_precision_that_was_picked_is_recorded(options) -> None:
    opt = options("train.precision=auto", "train.total_iter=1")
    train(opt, CPU, resume=False)
    assert json.loads((opt.folder / "environment.json").read_text())["precision"] == "fp32"

"""Stopping and resuming: exact results, signals, and evaluations that are due."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

import pytest
import torch
from support.runs import go, outcome, same, start, stop_in, wait_for_end
from torch import nn

from srtoolbox.data.base import Batch
from srtoolbox.engine.build import build_network, fingerprint
from srtoolbox.engine.training import plateau, trainer, validation
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.train import train
from srtoolbox.engine.weights.load import read_weights
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
SCHEDULES = {
    "none": "null",
    "cosine": "{type: CosineAnnealingLR, eta_min: 1e-6}",
    "milestones": "{type: MultiStepLR, milestones: [2, 4], gamma: 0.5}",
    "restarts": "{type: CosineAnnealingWarmRestarts, T_0: 2}",
    "one_cycle": "{type: OneCycleLR, max_lr: 1e-2}",
}


def without_clock(state: dict) -> dict:
    return {key: value for key, value in state.items() if key != "seconds"}


class TestResume:
    def check(self, opt, tmp_path, stop: int) -> None:
        whole = go(start(opt, tmp_path / "whole"), tmp_path / "whole")
        broken = tmp_path / "broken"
        with pytest.raises(KeyboardInterrupt):
            go(stop_in(stop, start(opt, broken)), broken)
        resumed = start(opt, broken)
        assert resumed.step == stop
        go(resumed, broken)
        assert same(without_clock(resumed.state_dict()), without_clock(whole.state_dict()))
        logs = [outcome(read_lines(tmp_path / name / "log.jsonl")) for name in ("whole", "broken")]
        assert logs[0] == logs[1]
        assert [record["step"] for record in logs[0]] == [2, 4, 6]

    @pytest.mark.parametrize("stop", [1, 3, 4, 5])
    def test_is_exact(self, options, tmp_path, stop: int) -> None:
        opt = options("train.ema_decay=0.9", "train.grad_clip=0.1")
        self.check(opt, tmp_path, stop)

    @pytest.mark.parametrize("warmup", [0, 2])
    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_with_schedules(self, options, tmp_path, schedule: str, warmup: int) -> None:
        opt = options(
            f"train.scheduler={SCHEDULES[schedule]}",
            f"train.warmup_iter={warmup}",
            "logger.save_checkpoint_freq=100",
        )
        self.check(opt, tmp_path, 3)

    @pytest.mark.parametrize(
        "optimizer", ["{type: SGD, lr: 1e-2, momentum: 0.9}", "{type: AdamW}", "{type: RMSprop}"]
    )
    def test_with_optimizers(self, options, tmp_path, optimizer: str) -> None:
        opt = options(f"train.optim_g={optimizer}")
        self.check(opt, tmp_path, 3)

    @pytest.mark.slow
    def test_with_workers(self, options, tmp_path) -> None:
        states = []
        for workers in (0, 2):
            opt = options(f"train.num_worker={workers}")
            folder = tmp_path / str(workers)
            states.append(go(start(opt, folder), folder).state_dict())
        assert same(*map(without_clock, states))

    def test_from_an_older_checkpoint(self, options, tmp_path) -> None:
        opt = options()
        whole = go(start(opt, tmp_path), tmp_path)
        log = outcome(read_lines(tmp_path / "log.jsonl"))
        newest = max((tmp_path / "checkpoints").iterdir())
        newest.write_bytes(newest.read_bytes()[:-1])
        resumed = start(opt, tmp_path)
        assert resumed.step == 4
        go(resumed, tmp_path)
        assert same(without_clock(resumed.state_dict()), without_clock(whole.state_dict()))
        assert outcome(read_lines(tmp_path / "log.jsonl")) == log

    def test_time_is_summed_up(self, options, tmp_path) -> None:
        with pytest.raises(KeyboardInterrupt):
            go(stop_in(3, start(options(), tmp_path)), tmp_path)
        resumed = start(options(), tmp_path)
        before = resumed.seconds
        assert before > 0
        assert go(resumed, tmp_path).seconds > before

    def test_randomness_of_a_network_survives_a_resume(self, options, tmp_path) -> None:
        def noisy(opt) -> nn.Module:
            net = build_network(opt, CPU)
            net.body.append(nn.Dropout2d(0.5))
            return net

        opt = options()
        whole = go(start(opt, tmp_path / "a", net=noisy(opt)), tmp_path / "a")
        with pytest.raises(KeyboardInterrupt):
            go(stop_in(3, start(opt, tmp_path / "b", net=noisy(opt))), tmp_path / "b")
        resumed = go(start(opt, tmp_path / "b", net=noisy(opt)), tmp_path / "b")
        assert same(without_clock(resumed.state_dict()), without_clock(whole.state_dict()))

    def test_a_stopped_run_evaluates_as_often_as_a_whole_one(self, options, tmp_path) -> None:
        """A signal in a step that is due for evaluation skips no evaluation, not even the last."""
        for stop in (4, 6):
            seen: list[int] = []
            folder = tmp_path / str(stop)

            def evaluate(step: int, _: nn.Module, to: list[int] = seen) -> None:
                to.append(step)

            with pytest.raises(KeyboardInterrupt):
                go(stop_in(stop, start(options(), folder, evaluate)), folder)
            go(start(options(), folder, evaluate), folder)
            assert seen == [1, 2, 3, 4, 5, 6]


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_it_saves_and_stops(self, options, tmp_path, caplog, number: signal.Signals) -> None:
        before = signal.getsignal(number)
        opt = options("logger.save_checkpoint_freq=100")
        trainer = stop_in(3, start(opt, tmp_path), number)
        with caplog.at_level("WARNING", "srtoolbox"), pytest.raises(KeyboardInterrupt):
            go(trainer, tmp_path)
        assert trainer.checkpoints.load_latest(CPU)["step"] == 3
        assert f"{number.name}: saving after this step" in caplog.text
        assert signal.getsignal(number) is before

    @pytest.mark.slow
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("place", ["step", "evaluation"])
    def test_a_signal_to_all_processes(self, options, tmp_path, number, place: str) -> None:
        """Ctrl-C and ``timeout`` send such. The workers outlive SIGINT, but not SIGTERM."""

        def evaluate(step: int, _: nn.Module) -> None:
            if step == 2 and place == "evaluation":
                os.killpg(0, number)

        def train() -> None:
            os.setsid()
            opt = options("train.num_worker=2", "train.total_iter=20")
            trainer = start(opt, tmp_path, evaluate)
            apply = trainer._apply

            def send(optimizer: torch.optim.Optimizer) -> None:
                apply(optimizer)
                if trainer.step == 2 and place == "step":
                    os.killpg(0, number)
                    for worker in multiprocessing.active_children():
                        if number == signal.SIGTERM:
                            wait_for_end(worker.pid)

            trainer._apply = send
            with pytest.raises(KeyboardInterrupt):
                go(trainer, tmp_path)

        child = multiprocessing.get_context("fork").Process(target=train)
        child.start()
        child.join(30)
        assert child.exitcode == 0
        assert start(options(), tmp_path).step == (3 if place == "step" else 2)

    def test_in_a_step_that_fails(self, options, tmp_path, caplog) -> None:
        """It ends the caller too, which would go on with its next training after a RunError."""
        trainer = start(options("logger.save_checkpoint_freq=100"), tmp_path)
        read = trainer._next

        def missing() -> Iterator[Batch]:
            signal.raise_signal(signal.SIGTERM)
            raise RuntimeError("a.png: no such file")
            yield

        trainer._next = lambda batches: read(missing() if trainer.step == 2 else batches)
        with pytest.raises(KeyboardInterrupt):
            go(trainer, tmp_path)
        assert "the samples of step 3 cannot be read: a.png: no such file" in caplog.text
        assert start(options(), tmp_path).step == 2

    def test_a_second_one_acts_at_once(self, options, tmp_path) -> None:
        opt = options("logger.save_checkpoint_freq=100")
        trainer = stop_in(3, stop_in(3, start(opt, tmp_path), signal.SIGINT), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            go(trainer, tmp_path)
        assert trainer.checkpoints.load_latest(CPU) is None

    def test_in_the_last_step_it_is_not_swallowed(self, options, tmp_path) -> None:
        """A caller that runs several trainings has to stop; a resume finishes this one."""
        with pytest.raises(KeyboardInterrupt):
            go(stop_in(6, start(options(), tmp_path)), tmp_path)
        assert start(options(), tmp_path).step == 6
        assert go(start(options(), tmp_path), tmp_path).step == 6

    def test_in_the_last_evaluation_neither(self, options, tmp_path) -> None:
        def evaluate(step: int, _: nn.Module) -> None:
            if step == 6:
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            go(start(options(), tmp_path, evaluate), tmp_path)
        assert start(options(), tmp_path).step == 6

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("resumed", [False, True])
    def test_an_evaluation_ends_at_once(self, options, tmp_path, number, resumed: bool) -> None:
        """The signal ends the evaluation at once; a resume repeats all of it."""
        seen: list[int] = []

        def evaluate(step: int, _: nn.Module) -> None:
            if step == 4:
                signal.raise_signal(number)
            seen.append(step)

        for _ in range(2 if resumed else 1):  # the second time, the run starts with it
            with pytest.raises(KeyboardInterrupt):
                go(start(options("logger.save_checkpoint_freq=100"), tmp_path, evaluate), tmp_path)
        stopped = start(options(), tmp_path)
        assert seen == [1, 2, 3]
        assert (stopped.step, stopped.evaluated) == (4, 3)
        go(start(options(), tmp_path, lambda step, _: seen.append(step)), tmp_path)
        assert seen == [1, 2, 3, 4, 5, 6]


class TestSignalAtAnyLine:
    """A signal before any line of the code around an evaluation changes no result."""

    CHANGES = (
        "train.total_iter=2",
        "val.val_freq=1",
        "train.scheduler={type: ReduceLROnPlateau, patience: 0, threshold: 10}",
        "train.monitor=psnr",
    )
    CODE = frozenset(module.__file__ for module in (plateau, trainer, validation))

    def outputs(self, opt) -> dict:
        checkpoints = CheckpointFolder(opt.folder / "checkpoints", run=fingerprint(opt))
        records = list(read_lines(opt.folder / "evaluation.jsonl"))
        return {
            "state": without_clock(checkpoints.load_latest(CPU)),
            "best": read_weights(opt.folder / "weights" / "net_g_best.pth").state,
            "scores": [(record["step"], record["psnr"]) for record in records],
        }

    def train(self, opt, at: int | None = None) -> int:
        """Trains until SIGINT before line number ``at`` from the last evaluation on.

        Returns:
            The number of these lines.
        """
        calls = lines = 0

        def trace(frame: FrameType, event: str, _: object):
            nonlocal calls, lines
            if frame.f_code.co_filename not in self.CODE:
                return None
            # It is called at the start, after step 1 and after step 2.
            calls += event == "call" and frame.f_code.co_name == "_evaluate_or_save"
            if event == "line" and calls == 3:
                lines += 1
                if lines == at:
                    signal.raise_signal(signal.SIGINT)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            train(opt, CPU, resume=True)
        finally:
            sys.settrace(before)
        return lines

    @pytest.mark.slow
    def test_changes_nothing(self, options) -> None:
        whole = options("name=whole", *self.CHANGES)
        lines = self.train(whole)
        expected = self.outputs(whole)
        (_, first), (_, second) = expected["scores"]
        assert second > first  # so the best weights are those of the evaluation that is stopped
        assert lines > 50
        for at in range(1, lines + 1):
            opt = options(f"name=stopped_{at}", *self.CHANGES)
            with pytest.raises(KeyboardInterrupt):
                self.train(opt, at)
            train(opt, CPU, resume=True)
            assert same(self.outputs(opt), expected), at

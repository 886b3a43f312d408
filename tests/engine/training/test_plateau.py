"""Rates that fall when a monitored value does not improve: rules, faults, exact resumes."""

from __future__ import annotations

import pytest
import torch
from support.runs import best_of, go, outcome, run, same, start, stop_in
from torch import nn

from srtoolbox.engine.options import TrainOptions
from srtoolbox.engine.training.plateau import Plateau
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import PSNR
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
# After the first value nothing is an improvement of 10, so the rate is halved after each value.
HALVED = "train.scheduler={type: ReduceLROnPlateau, factor: 0.5, patience: 0, threshold: 10, \
threshold_mode: abs}"


def rates(values: list[float], higher: bool = False, **scheduler: object) -> list[float]:
    """Returns the rate of every epoch of three steps, whose losses have the means ``values``."""
    opt = TrainOptions(total_iter=99, scheduler={"type": "ReduceLROnPlateau", **scheduler})
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    plateau = Plateau(opt, {"g": optimizer}, 3, higher, CPU)
    found, step = [], 0
    for value in values:
        for offset in (-1.0, 0.0, 1.0):
            plateau.add_loss(step, torch.tensor(value + offset))
            step += 1
            found.append(optimizer.param_groups[0]["lr"])
            plateau.end_step(step)
    assert all(found[i] == found[i + 1] == found[i + 2] for i in range(0, len(found), 3))
    return found[::3]


class TestRule:
    def test_patience_counts_epochs_without_improvement(self) -> None:
        values = [5.0, 4.0, 4.0, 4.5, 4.2, 4.0, 3.9, 4.0]
        expected = [1, 1, 1, 1, 1, 0.5, 0.5, 0.5]  # halved after the third of 4.0, 4.5, 4.2
        found = rates(values, factor=0.5, patience=2, threshold=0)
        assert found == expected

    def test_the_count_starts_again(self) -> None:
        found = rates([1.0] * 8, factor=0.5, patience=2, threshold=0)
        assert found == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]

    def test_a_lower_negative_loss_is_an_improvement(self) -> None:
        values = [-20.0, -20.001, -20.002, -20.003]
        assert rates(values, factor=0.5, patience=0, threshold=0) == [1, 1, 1, 1]

    def test_higher_can_be_better(self) -> None:
        assert rates([1.0, 2.0, 3.0], True, factor=0.5, patience=0) == [1, 1, 1]
        assert rates([3.0, 2.0, 1.0], True, factor=0.5, patience=0) == [1, 1, 0.5]

    def test_options_that_torch_refuses(self) -> None:
        with pytest.raises(UserError, match="ReduceLROnPlateau' cannot be built: Factor should be"):
            rates([1.0], factor=2.0)


class TestTraining:
    def test_an_epoch_uses_each_training_sample_once(self, options, tmp_path) -> None:
        """The six photographs of the training bursts, two in a batch."""
        for override, epoch in (("train.batch_size=4", 2), ("train.epoch_iter=5", 5)):
            trainer = start(options(HALVED, override), tmp_path)
            assert trainer.plateau.epoch_iter == epoch
        go(start(options(HALVED, "logger.print_freq=1"), tmp_path), tmp_path)
        log = list(read_lines(tmp_path / "log.jsonl"))
        assert [record["lr"] for record in log] == [1e-3] * 5 + [5e-4]

    def test_the_value_is_the_mean_of_the_weighted_losses(self, options, tmp_path) -> None:
        losses = "train.losses={a: {type: L1Loss, loss_weight: 2}, b: {type: MSELoss}}"
        more = (losses, "train.accumulate=2", "logger.print_freq=1", "train.epoch_iter=4")
        trainer = go(start(options(HALVED, *more), tmp_path), tmp_path)
        log = [record["a"] + record["b"] for record in read_lines(tmp_path / "log.jsonl")]
        state = trainer.plateau.state_dict()
        assert state["schedulers"]["g"]["best"] == pytest.approx(sum(log[:4]) / 4)
        assert state["sum"].item() == pytest.approx(sum(log[4:]))
        assert state["steps"] == 2

    def test_epochs_count_from_the_end_of_the_warm_up(self, options, tmp_path) -> None:
        more = ("train.warmup_iter=2", "train.epoch_iter=1", "logger.print_freq=1")
        go(start(options(HALVED, *more), tmp_path), tmp_path)
        found = [record["lr"] for record in read_lines(tmp_path / "log.jsonl")]
        # The rates after each step; the first value is that of step 3.
        assert found == pytest.approx([2e-3 / 3, 1e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4])

    @pytest.mark.slow
    def test_all_groups_and_both_networks_of_a_gan(self, options, tmp_path) -> None:
        opt = options(
            HALVED,
            "model_type=GANModel",
            "network_d={type: UNetDiscriminatorSN, num_feat: 4}",
            "gan={net_d_init_iter: 3}",
            "train.optim_d={type: SGD, lr: 0.5}",
            "train.param_groups=[{pattern: body, lr_mult: 0.1}]",
            "train.epoch_iter=1",
        )
        trainer = go(start(opt, tmp_path), tmp_path)
        found = [[g["lr"] for g in o.param_groups] for o in trainer.optimizers.values()]
        assert found == [[pytest.approx(2.5e-4), pytest.approx(2.5e-5)], [pytest.approx(0.125)]]

    @pytest.mark.parametrize(("higher", "expected"), [(True, 1e-3), (False, 1e-3 / 32)])
    def test_a_metric(self, options, tmp_path, monkeypatch, higher: bool, expected: float) -> None:
        monkeypatch.setattr(PSNR, "higher_is_better", higher)
        scheduler = "train.scheduler={type: ReduceLROnPlateau, factor: 0.5, patience: 0}"
        opt = options(scheduler, "train.monitor=psnr")
        trainer = go(start(opt, tmp_path, lambda step, _: {"psnr": float(step)}), tmp_path)
        assert trainer.optimizers["g"].param_groups[0]["lr"] == pytest.approx(expected)

    def test_a_metric_that_fails_on_the_way(self, options, tmp_path) -> None:
        opt = options(HALVED, "train.monitor=psnr")
        with pytest.raises(RunError, match=r"train\.monitor: 'psnr' could not .* at step 1"):
            go(start(opt, tmp_path, lambda *_: {"psnr": None}), tmp_path)

    def test_a_metric_that_is_not_available(self, options, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        opt = options(HALVED, "val.metrics.lpips={type: LPIPS}", "train.monitor=lpips")
        with pytest.raises(UserError, match=r"train\.monitor: 'lpips' cannot be computed here"):
            run(opt)
        assert not (opt.folder / "run.json").exists()


@pytest.mark.slow
class TestResume:
    """Every way of stopping leads to the states and logs of an uninterrupted run, to the bit."""

    def check(self, opt, tmp_path, interrupt) -> None:
        whole = go(start(opt, tmp_path / "whole"), tmp_path / "whole")
        broken = tmp_path / "broken"
        with pytest.raises((KeyboardInterrupt, MemoryError)):
            go(interrupt(start(opt, broken)), broken)
        resumed = go(start(opt, broken), broken)
        states = [{**trainer.state_dict(), "seconds": 0} for trainer in (whole, resumed)]
        assert same(*states)
        logs = [outcome(read_lines(tmp_path / name / "log.jsonl")) for name in ("whole", "broken")]
        assert logs[0] == logs[1]
        assert logs[0][0]["lr"] > logs[0][-1]["lr"]

    @pytest.mark.parametrize("warmup", [0, 1])
    @pytest.mark.parametrize("stop", [1, 2, 3, 4, 6])
    def test_a_signal(self, options, tmp_path, stop: int, warmup: int) -> None:
        """In an epoch (of two steps) and at its end."""
        opt = options(
            HALVED,
            "train.epoch_iter=2",
            f"train.warmup_iter={warmup}",
            "logger.print_freq=1",
            "logger.save_checkpoint_freq=100",
        )
        self.check(opt, tmp_path, lambda trainer: stop_in(stop, trainer))

    @pytest.mark.parametrize("kill", [3, 4, 5, 6])
    def test_a_kill(self, options, tmp_path, kill: int) -> None:
        """The last checkpoint, of step 2 or 4, is in the middle of an epoch of three steps."""

        def dying(trainer: Trainer) -> Trainer:
            end_step = trainer.plateau.end_step

            def die(step: int) -> None:
                if step == kill:
                    raise MemoryError
                end_step(step)

            trainer.plateau.end_step = die
            return trainer

        self.check(options(HALVED, "logger.print_freq=1"), tmp_path, dying)

    @pytest.mark.parametrize("method", ["_report", "save"])
    def test_a_monitored_metric(self, options, monkeypatch, method: str) -> None:
        """Killed after an evaluation, before and at the checkpoint that follows it."""
        more = (HALVED, "train.monitor=psnr", "val.val_freq=1", "logger.print_freq=1")
        whole, opt = options("name=whole", *more), options("name=broken", *more)
        expected = run(whole)
        calls = []
        usual = getattr(Trainer, method)

        def die(self: Trainer, *arguments: object) -> None:
            calls.append(self.step)
            if len(calls) == 3 and len(set(calls)) > 1:
                raise MemoryError
            usual(self, *arguments)

        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(Trainer, method, die)
            run(opt)
        assert run(opt, resume=True).weights == expected.weights
        assert best_of(opt) == best_of(whole)
        for name in ("log.jsonl", "evaluation.jsonl"):
            logs = [outcome(read_lines(o.folder / name)) for o in (whole, opt)]
            assert logs[0] == logs[1]
        found = [record["lr"] for record in read_lines(opt.folder / "log.jsonl")]
        assert found == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4, 6.25e-5])


class TestFaults:
    @pytest.mark.parametrize(
        ("overrides", "words"),
        [
            (["train.monitor=psnr"], "train.monitor: only scheduler ReduceLROnPlateau uses it"),
            (["train.epoch_iter=2"], "train.epoch_iter: only scheduler ReduceLROnPlateau uses it"),
            ([HALVED, "train.scheduler.mode=max"], r"scheduler.mode: remove it; it follows from"),
            (
                [HALVED, "train.monitor=PSNR"],
                "there is no 'PSNR' in val.metrics; possible values: train_loss, psnr",
            ),
            (
                [HALVED, "train.monitor=psnr", "val.val_freq=6"],
                r"val.val_freq 6 gives no evaluation before the last step \(6\)",
            ),
            (
                [HALVED, "train.monitor=psnr", "datasets.val=!delete"],
                "train.monitor: 'psnr' needs a dataset in datasets.val, or use train_loss",
            ),
            (
                [HALVED, "train.monitor=psnr", "train.epoch_iter=2"],
                "train.epoch_iter: 'psnr' is watched at each evaluation; remove it",
            ),
            ([HALVED, "train.scheduler.patient=2"], "did you mean 'patience'"),
        ],
    )
    def test_one_line_each(self, options, overrides: list[str], words: str) -> None:
        with pytest.raises(UserError, match=words) as caught:
            options(*overrides)
        assert len(str(caught.value).splitlines()) == 1

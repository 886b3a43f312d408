"""Faults of a run that must never become results: NaN weights, damaged or removed files."""

from __future__ import annotations

import json
import logging
import math
import shutil

import pytest
import torch
from support.runs import outcome, run
from torch import nn

from srtoolbox.engine.training.acceleration import undo_acceleration
from srtoolbox.engine.training.nonfinite import nonfinite_weight
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.engine.weights.load import read_weights, save_weights, weights_hash
from srtoolbox.engine.weights.whole import state_hash
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.files import read_lines


def spoil(monkeypatch, at: int, change) -> None:
    """Calls ``change`` with the trainer after the update of step ``at``."""
    update = Trainer._optimize

    def optimize(self, batch) -> None:
        update(self, batch)
        if self.step + 1 == at:
            change(self)

    monkeypatch.setattr(Trainer, "_optimize", optimize)


def nan_weight(trainer: Trainer) -> None:
    with torch.no_grad():
        next(trainer.model.networks["g"].parameters()).view(-1)[3] = math.nan


class TestNonFiniteWeights:
    @pytest.mark.slow
    @pytest.mark.parametrize("at", [4, 6])
    @pytest.mark.parametrize("average", [0, 0.9])
    def test_they_are_never_saved(self, options, monkeypatch, at, average) -> None:
        opt = options(f"train.ema_decay={average}")
        whole = run(options("name=whole", f"train.ema_decay={average}")).weights
        with monkeypatch.context() as patch:
            spoil(patch, at, nan_weight)
            with pytest.raises(RunError, match=rf"network_g\.\S+ is not finite after step {at}"):
                run(opt)
        assert not (opt.folder / "finished.json").exists()
        for path in (opt.folder / "weights").glob("*.pth"):
            assert all(value.isfinite().all() for value in read_weights(path).state.values())
        assert run(opt, resume=True).weights == whole

    def test_a_rate_that_becomes_nan(self, options, monkeypatch) -> None:
        def change(trainer: Trainer) -> None:
            trainer.optimizers["g"].param_groups[0]["lr"] = math.nan

        spoil(monkeypatch, 5, change)
        with pytest.raises(RunError, match=r"not finite after step 6.*lr is now nan"):
            run(options())

    def test_masks_may_be_infinite(self) -> None:
        net = nn.Linear(2, 2)
        net.register_buffer("mask", torch.full((2,), -math.inf))
        assert nonfinite_weight({"g": net}) is None
        net.mask[0] = math.nan
        assert nonfinite_weight({"g": net}) == "network_g.mask"
        net.bias.data[1] = math.inf
        assert nonfinite_weight({"g": net}) == "network_g.bias"


class TestDamagedResults:
    @pytest.mark.slow
    @pytest.mark.parametrize("average", [0, 0.9])
    @pytest.mark.parametrize("fault", ["changed", "cut", "gone"])
    def test_weights_come_from_the_checkpoint(self, options, caplog, average, fault) -> None:
        opt = options(f"train.ema_decay={average}")
        first = run(opt)
        path = opt.folder / "weights" / "net_g_latest.pth"
        original = {
            key: read_weights(path, key).state
            for key in ("params", "params_ema")[: 1 + bool(average)]
        }
        if fault == "changed":
            other = run(options("name=other", f"train.ema_decay={average}", "manual_seed=5")).net
            save_weights(path, {}, other, other if average else None)
            with pytest.raises(RunError, match=r"net_g_latest.pth is damaged: its weights differ"):
                read_weights(path)
        elif fault == "cut":
            path.write_bytes(path.read_bytes()[:-500])
        else:
            path.unlink()
        again = run(opt, resume=True)
        assert weights_hash(again.net) == again.weights == first.weights
        assert "the weights of the last checkpoint are used" in caplog.text
        for key, state in original.items():
            now = read_weights(path, key).state
            assert all(torch.equal(now[name], value) for name, value in state.items())
        path.write_bytes(b"")
        shutil.rmtree(opt.folder / "checkpoints")
        with pytest.raises(RunError, match="is damaged, and no checkpoint"):
            run(opt, resume=True)

    @pytest.mark.slow
    @pytest.mark.parametrize("average", [0, 0.9])
    def test_the_best_weights_are_checked(self, options, average) -> None:
        opt = options(f"train.ema_decay={average}")
        run(opt)
        best, card = opt.folder / "weights" / "net_g_best.pth", opt.folder / "finished.json"
        kept = read_weights(best).state
        assert json.loads(card.read_text())["best"] == state_hash(kept)
        other = run(options("name=other", "manual_seed=5")).net
        save_weights(best, {}, other)
        with pytest.raises(
            RunError, match=r"net_g_best.pth is damaged: its weights differ"
        ) as info:
            read_weights(best)
        assert "restore a copy of it, or remove" in str(info.value)
        assert "\n" not in str(info.value)

    def test_the_best_weights_of_earlier_versions_have_no_hash(self, options) -> None:
        opt = options()
        run(opt)
        card = opt.folder / "finished.json"
        summary = json.loads(card.read_text())
        del summary["best"]
        card.write_text(json.dumps(summary))
        save_weights(opt.folder / "weights" / "net_g_best.pth", {}, torch.nn.Linear(2, 2))
        assert set(read_weights(opt.folder / "weights" / "net_g_best.pth").state) == {
            "weight",
            "bias",
        }
        assert run(opt, resume=True).step == 6

    def test_the_hash_of_the_best_weights_follows_more_steps(self, options) -> None:
        rate = "train.scheduler=null"
        run(options(rate, "train.total_iter=5"))
        more = options(rate, "train.total_iter=9")
        run(more, resume=True)
        best = read_weights(more.folder / "weights" / "net_g_best.pth").state
        summary = json.loads((more.folder / "finished.json").read_text())
        assert summary["best"] == state_hash(best)

    @pytest.mark.parametrize(
        "content", [b"", b"17", b"{", b"[]", b'{"step": 6}', b"\xff\xfe", b"null"]
    )
    def test_a_damaged_summary_is_made_again(self, options, caplog, content) -> None:
        opt = options()
        first = run(opt)
        card = opt.folder / "finished.json"
        card.write_bytes(content)
        assert run(opt, resume=True).weights == first.weights
        assert "finished.json:1 damaged; it is made again" in caplog.text
        assert run(opt, resume=True).step == 6
        card.write_bytes(content)
        shutil.rmtree(opt.folder / "checkpoints")
        with pytest.raises(RunError, match=r"finished.json:1 damaged, and there is no checkpoint"):
            run(opt, resume=True)

    @pytest.mark.parametrize("name", ["log.jsonl", "evaluation.jsonl"])
    @pytest.mark.parametrize(
        "line", [b"17", b'"x"', b'{"step": "2"}', b'{"step": 2, "lr": []}', b"\xff"]
    )
    def test_a_damaged_line_is_kept_aside(self, options, caplog, name, line) -> None:
        opt = options()
        run(opt)
        path = opt.folder / name
        expected = outcome(read_lines(path))
        path.write_bytes(line + b"\n" + path.read_bytes())
        (opt.folder / "finished.json").unlink()
        run(opt, resume=True)
        assert f"{name}:1 damaged; the line is moved" in caplog.text
        assert path.with_name(f"{name}.damaged").read_bytes() == line + b"\n"
        assert outcome(read_lines(path)) == expected


class TestFolderOfARun:
    def test_it_is_removed_during_the_training(self, options, monkeypatch) -> None:
        opt = options()
        spoil(monkeypatch, 3, lambda _: shutil.rmtree(opt.folder))
        with pytest.raises(RunError, match=r"tiny: its run.json disappeared"):
            run(opt)
        assert not opt.folder.exists()

    def test_the_refusal_names_the_options(self, options) -> None:
        run(options())
        words = r"train.optim_g.lr 0.01 instead of 0.001, train.batch_size 4 instead of 2"
        with pytest.raises(UserError) as error:
            run(options("train.optim_g.lr=1e-2", "train.batch_size=4", "val.val_freq=2"), True)
        for word in words.split(", "):
            assert word in str(error.value)
        assert "val_freq" not in str(error.value)

    @pytest.mark.slow
    @pytest.mark.parametrize("schedule", ["null", "{type: StepLR, step_size: 4}"])
    def test_more_steps(self, options, schedule) -> None:
        schedule = f"train.scheduler={schedule}"
        whole, opt = options("name=whole", schedule, "train.total_iter=9"), options(schedule)
        expected = run(whole)
        run(options(schedule, "train.total_iter=5"))
        more = options(schedule, "train.total_iter=9")
        assert opt.folder == more.folder
        assert run(more, resume=True).weights == expected.weights
        assert run(more, resume=True).step == 9
        log = {record["step"]: record for record in outcome(read_lines(more.folder / "log.jsonl"))}
        for record in outcome(read_lines(whole.folder / "log.jsonl")):
            if record["step"] != 6:  # the mean of one step, after the earlier end
                assert log[record["step"]] == record

        with pytest.raises(UserError, match="it can only be raised"):
            run(options(schedule, "train.total_iter=5"), resume=True)

    def test_more_steps_of_a_cosine(self, options) -> None:
        cosine = "train.scheduler={type: CosineAnnealingLR}"
        run(options(cosine))
        with pytest.raises(UserError, match="CosineAnnealingLR depends on it"):
            run(options(cosine, "train.total_iter=9"), resume=True)

    def test_a_new_validation_set_of_a_finished_run(self, options, caplog) -> None:
        run(options())
        extra = "datasets.val.more={type: SampleBursts, num_frame: 2, gt_size: 32, num_burst: 1}"
        run(options(extra), resume=True)
        assert "datasets.val.more is ignored" in caplog.text

    @pytest.mark.parametrize("name", ["log.jsonl", "evaluation.jsonl"])
    def test_a_damaged_line_of_a_finished_run(self, options, caplog, name: str) -> None:
        run(options())
        path = options().folder / name
        path.write_bytes('{"step": 1é, "lr": 1}\n'.encode() + path.read_bytes())
        run(options(), resume=True)
        assert f"{path}:1 damaged; this line is left out" in caplog.text

    @pytest.mark.parametrize(("kept", "steps"), [(0, "3, 6"), (1, "6")])
    def test_lost_scores_of_a_finished_run(self, options, caplog, kept: int, steps: str) -> None:
        run(options())
        path = options().folder / "evaluation.jsonl"
        run(options(), resume=True)
        assert "missing" not in caplog.text
        path.write_text("".join(path.read_text().splitlines(True)[:kept]))
        run(options(), resume=True)
        assert "ignored" not in caplog.text
        assert f"the points of sample at steps {steps} are missing" in caplog.text

    @pytest.mark.parametrize(
        ("lost", "steps"), [((0,), "2"), ((0, 1), "2, 4"), ((2,), "6"), ((0, 1, 2), "2, 4, 6")]
    )
    def test_lost_log_points_of_a_finished_run(self, options, caplog, lost, steps: str) -> None:
        opt = options("logger.print_freq=2")
        run(opt)
        path = opt.folder / "log.jsonl"
        lines = path.read_text().splitlines(True)
        assert len(lines) == 3
        kept = [line for number, line in enumerate(lines) if number not in lost]
        path.write_text("".join(kept))
        run(opt, resume=True)
        text = f"{path}: the points at steps {steps} are missing; they cannot be made again"
        assert caplog.text.count("are missing") == caplog.text.count(text) == 1

    def test_other_intervals_miss_no_log_points(self, options, caplog) -> None:
        run(options("logger.print_freq=4"))
        run(options("logger.print_freq=2"), resume=True)
        assert "missing" not in caplog.text

    def test_a_run_without_a_checkpoint_does_not_block_its_name(self, options, monkeypatch) -> None:
        with monkeypatch.context() as patch:
            spoil(patch, 1, nan_weight)
            with pytest.raises(RunError):
                run(options("logger.save_checkpoint_freq=1"))
        other = options("train.optim_g.lr=1e-2")
        assert run(other).weights == run(options("name=new", "train.optim_g.lr=1e-2")).weights


@pytest.mark.parametrize("average", [0, 0.9])
def test_the_memory_layout_does_not_depend_on_the_training(options, average) -> None:
    opt = options("train.channels_last=true", f"train.ema_decay={average}")
    trained, found = run(opt).net, run(opt, resume=True).net
    pairs = zip(trained.state_dict().values(), found.state_dict().values(), strict=True)
    assert all(ours.stride() == theirs.stride() for ours, theirs in pairs)


def test_layouts_of_size_one_are_undone() -> None:
    net = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(1, 8, 3), nn.Conv2d(8, 1, 3))
    strides = [p.stride() for p in net.parameters()]
    net.to(memory_format=torch.channels_last)
    assert [p.stride() for p in net.parameters()] != strides
    assert [p.stride() for p in undo_acceleration(net).parameters()] == strides


@pytest.fixture(autouse=True)
def _all_messages(caplog) -> None:
    caplog.set_level(logging.INFO, "srtoolbox")

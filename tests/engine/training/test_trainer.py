"""The training loop: seeds, accumulation, averages, evaluation, non-finite losses."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from support.runs import go, outcome, same, start, stop_in, wait_for_end
from torch import nn

from srtoolbox.engine.build import build_network
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.engine.weights.load import weights_hash
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.files import read_lines
from srtoolbox.utils.torch_private import set_compiled_call

CPU = torch.device("cpu")


class TestSeeds:
    def test_same_seed_same_weights_other_seed_others(self, options, tmp_path) -> None:
        found = []
        for number, seed in enumerate((0, 0, 1)):
            folder = tmp_path / str(number)
            trainer = go(start(options(f"manual_seed={seed}"), folder), folder)
            found.append(weights_hash(trainer.result))
        assert found[0] == found[1] != found[2]

    def test_two_methods_see_the_same_samples(self, options, tmp_path) -> None:
        seen: list[list[torch.Tensor]] = []
        for number, feat in enumerate((4, 6)):
            trainer = start(options(f"network_g.num_feat={feat}"), tmp_path / str(number))
            inputs: list[torch.Tensor] = []
            net = trainer.model.networks["g"]
            net.register_forward_pre_hook(lambda _, args, to=inputs: to.append(args[0].clone()))
            go(trainer, tmp_path / str(number))
            seen.append(inputs)
        assert len(seen[0]) == 6
        assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


class TestStep:
    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_accumulation_is_a_large_batch(self, options, tmp_path, reduction: str) -> None:
        results, losses = [], []
        for parts in (1, 2, 4):
            opt = options(
                "train.batch_size=4",
                f"train.accumulate={parts}",
                "train.optim_g={type: SGD, lr: 1e-4}",
                f"train.losses={{l_pix: {{type: L1Loss, reduction: {reduction}}}}}",
            )
            folder = tmp_path / str(parts)
            results.append(go(start(opt, folder), folder).result.state_dict())
            losses.append([record["l_pix"] for record in read_lines(folder / "log.jsonl")])
        for other, values in zip(results[1:], losses[1:], strict=True):
            assert values == pytest.approx(losses[0], rel=1e-5)
            for key, value in results[0].items():
                torch.testing.assert_close(other[key], value, atol=1e-6, rtol=1e-5)

    def test_gradients_are_clipped(self, options, tmp_path) -> None:
        before = build_network(options(), CPU).state_dict()
        moves = []
        for clip in ("null", "1e-3"):
            opt = options(
                f"train.grad_clip={clip}",
                "train.optim_g={type: SGD, lr: 1}",
                "train.total_iter=1",
            )
            after = go(start(opt, tmp_path / clip), tmp_path / clip).result.state_dict()
            total = sum((after[key] - before[key]).square().sum() for key in before)
            moves.append(total.sqrt().item())
        assert moves[0] > 1e-2
        assert moves[1] == pytest.approx(1e-3, rel=1e-2)

    def test_average_of_weights(self, options, tmp_path) -> None:
        """The first step's weights, then decay · average + (1 - decay) · weights."""
        decay = 0.8
        seen: list[dict[str, torch.Tensor]] = []
        trainer = start(
            options(f"train.ema_decay={decay}"),
            tmp_path,
            lambda *_: seen.append(
                {k: v.clone() for k, v in trainer.model.networks["g"].state_dict().items()}
            ),
        )
        go(trainer, tmp_path)
        for key, value in trainer.result.state_dict().items():
            average = seen[0][key]
            for weights in seen[1:]:
                average = decay * average + (1 - decay) * weights[key]
            torch.testing.assert_close(value, average, atol=1e-7, rtol=1e-6)
        assert trainer.result is not trainer.model.networks["g"]

    def test_bf16(self, options, tmp_path) -> None:
        found = {}
        for precision in ("fp32", "bf16"):
            opt = options(f"train.precision={precision}")
            trainer = go(start(opt, tmp_path / precision), tmp_path / precision)
            assert all(
                value.dtype == torch.float32 for value in trainer.result.state_dict().values()
            )
            found[precision] = [r["l_pix"] for r in read_lines(tmp_path / precision / "log.jsonl")]
        assert found["bf16"] == pytest.approx(found["fp32"], rel=0.05)
        assert found["bf16"] != found["fp32"]

    def test_channels_last_changes_no_result(self, options, tmp_path) -> None:
        results = []
        for flag in ("false", "true"):
            opt = options(f"train.channels_last={flag}", "train.optim_g={type: SGD, lr: 1e-2}")
            trainer = go(start(opt, tmp_path / flag), tmp_path / flag)
            results.append(trainer.result.state_dict())
        for key, value in results[0].items():
            torch.testing.assert_close(results[1][key], value, atol=1e-6, rtol=1e-4)

    def test_several_losses_are_summed(self, options, tmp_path) -> None:
        losses = "train.losses={one: {type: L1Loss}, two: {type: MSELoss, loss_weight: 2}}"
        go(start(options(losses), tmp_path), tmp_path)
        assert {"one", "two", "grad_g", "lr", "it/s", "data wait", "memory", "step"} == set(
            next(read_lines(tmp_path / "log.jsonl"))
        )

    def test_logged_losses_are_means_since_the_last_log_point(self, options, tmp_path) -> None:
        for freq in (1, 4):
            folder = tmp_path / str(freq)
            go(start(options(f"logger.print_freq={freq}"), folder), folder)
        each = [record["l_pix"] for record in read_lines(tmp_path / "1" / "log.jsonl")]
        some = list(read_lines(tmp_path / "4" / "log.jsonl"))
        assert [record["step"] for record in some] == [4, 6]
        expected = [sum(each[:4]) / 4, sum(each[4:]) / 2]
        assert [record["l_pix"] for record in some] == pytest.approx(expected)


class TestEvaluation:
    def test_when_and_with_what(self, options, tmp_path) -> None:
        seen = []
        trainer = start(options(), tmp_path, lambda step, net: seen.append((step, net)))
        trainer.eval_freq = 4
        go(trainer, tmp_path)
        assert [step for step, _ in seen] == [4, 6]
        assert all(net is trainer.result for _, net in seen)

    def test_it_changes_nothing(self, options, tmp_path) -> None:
        def rude(_: int, net: nn.Module) -> None:
            torch.rand(7)
            np.random.default_rng().random()

        one = go(start(options(), tmp_path / "a"), tmp_path / "a")
        two = go(start(options(), tmp_path / "b", rude), tmp_path / "b")
        for part in ("networks", "optimizers", "schedulers"):
            assert same(one.state_dict()[part], two.state_dict()[part])
        assert two.model.networks["g"].training


class Poisoned:
    """The training bursts; at one step, the first sample contains NaN."""

    def __init__(self, dataset, step: int) -> None:
        self.inner, self.step = dataset, step
        self.scale, self.num_frame = dataset.scale, dataset.num_frame
        self.reference = dataset.reference

    def __len__(self) -> int:
        return len(self.inner)

    def draw(self, index: int, rng: np.random.Generator) -> dict:
        _, _, step, number = rng.bit_generator.seed_seq.entropy
        sample = self.inner.draw(index, rng)
        sample["lq"] = sample["lq"].astype(np.float32) / 255
        sample["gt"] = sample["gt"].astype(np.float32) / 255
        if (step, number) == (self.step, 0):
            sample["lq"][0, 0, 0, 0] = np.nan
        return sample


class Vanishing(Poisoned):
    """A dataset whose files disappear at one step."""

    def draw(self, index: int, rng: np.random.Generator) -> dict:
        if rng.bit_generator.seed_seq.entropy[2] >= self.step:
            raise UserError("a/b.png: no such file")
        return super().draw(index, rng)


class TestNonFinite:
    def poisoned(self, options, folder: Path, **given):
        from srtoolbox.data import SampleBursts

        dataset = Poisoned(SampleBursts(num_frame=2, gt_size=32), 4)  # the fifth, from 0
        opt = options("logger.print_freq=3", "logger.save_checkpoint_freq=2", "train.ema_decay=0.9")
        return start(opt, folder, dataset=dataset, **given)

    def test_it_stops_with_step_and_samples(self, options, tmp_path) -> None:
        trainer = self.poisoned(options, tmp_path)
        with pytest.raises(RunError, match="non-finite at step 5") as caught:
            go(trainer, tmp_path)
        for key in next(trainer.stream.batches(4, 5))["key"]:
            assert key in str(caught.value)
        for word in ("lr", "train.grad_clip", "last checkpoint is untouched", "'lq' is not finite"):
            assert word in str(caught.value)
        state = trainer.checkpoints.load_latest(CPU)
        assert state["step"] == 4
        assert all(torch.isfinite(value).all() for value in state["networks"]["g"].values())

    def test_no_bad_network_is_evaluated(self, options, tmp_path) -> None:
        """A score of NaN could be taken for the best one."""
        finite = []

        def evaluate(_: int, net: nn.Module) -> None:
            finite.append(all(torch.isfinite(value).all() for value in net.state_dict().values()))

        with pytest.raises(RunError):
            go(self.poisoned(options, tmp_path, evaluate=evaluate), tmp_path)
        assert all(finite)

    def test_a_signal_saves_no_bad_state(self, options, tmp_path, caplog) -> None:
        trainer = stop_in(5, self.poisoned(options, tmp_path))
        with pytest.raises(KeyboardInterrupt):
            go(trainer, tmp_path)
        assert "after the signal: the loss or its gradient became non-finite at" in caplog.text
        assert trainer.checkpoints.load_latest(CPU)["step"] == 4


class TestSection:
    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("train.accumulate=3", "train.accumulate: batch_size 2 is not a multiple"),
            ("train.warmup_iter=6", r"train.warmup_iter: must be below total_iter \(6\)"),
            ("train.losses={}", "train.losses: name at least one loss"),
            ("train.grad_clip=0", "train.grad_clip: must be > 0"),
            ("train.total_iter=0", "train.total_iter: must be >= 1"),
            ("train.precision=fp8", "train.precision"),
            ("train.optim_g.learning_rate=1", "train.optim_g.learning_rate: unknown"),
            ("train.scheduler={type: Cosine}", "unknown scheduler 'Cosine'"),
            ("train.loss_crop_border=-1", "train.loss_crop_border: must be >= 0"),
        ],
    )
    def test_faults(self, options, override: str, words: str) -> None:
        with pytest.raises(UserError, match=words):
            options(override)


class TestFrozenGroups:
    def test_only_the_rest_is_trained_at_first(self, options, tmp_path) -> None:
        opt = options("train.param_groups=[{pattern: '^body', frozen_iter: 4}]")
        before = build_network(opt, CPU).state_dict()
        moved = {}
        for total in (4, 6):
            opt = options(
                f"train.total_iter={total}",
                "train.param_groups=[{pattern: '^body', frozen_iter: 4}]",
            )
            after = go(start(opt, tmp_path / str(total)), tmp_path / str(total)).result.state_dict()
            moved[total] = {key for key in before if not torch.equal(before[key], after[key])}
        assert moved[4] == {key for key in before if not key.startswith("body")}
        assert moved[6] == set(before)


class TestFailures:
    def test_out_of_memory_saves_and_says_what_to_lower(self, options, tmp_path) -> None:
        trainer = start(options(), tmp_path)

        def exhaust(net: nn.Module, _: tuple) -> None:
            if trainer.step == 3 and net.training:
                raise torch.OutOfMemoryError("out of memory. Tried to allocate 2 GiB")

        handle = trainer.model.networks["g"].register_forward_pre_hook(exhaust)
        with pytest.raises(RunError, match=r"step 4 with 2 samples of lq \(2, 3, 8, 8\)") as caught:
            go(trainer, tmp_path)
        for word in ("train.accumulate", "gt_size", "--resume"):
            assert word in str(caught.value)
        handle.remove()
        resumed = start(options(), tmp_path)
        assert resumed.step == 3
        other = go(start(options(), tmp_path / "other"), tmp_path / "other")
        assert weights_hash(go(resumed, tmp_path).result) == weights_hash(other.result)

    @pytest.mark.parametrize("place", ["second part", "optimizer", "buffers"])
    def test_out_of_memory_in_the_middle_of_a_step(self, options, tmp_path, place: str) -> None:
        """A checkpoint has no part of the step in which memory runs out."""
        more = ["train.accumulate=2"] if place == "second part" else []

        def begin(folder: Path) -> Trainer:
            net = build_network(options(), CPU)
            if place == "buffers":
                net.body.append(nn.BatchNorm2d(4))
            return start(options("logger.save_checkpoint_freq=2", *more), folder, net=net)

        whole = go(begin(tmp_path / "whole"), tmp_path / "whole")
        trainer = begin(tmp_path)
        passes = []

        def exhaust(*_: object) -> None:
            if trainer.step == 3 and trainer.model.networks["g"].training:
                passes.append(1)
                if len(passes) == len(more) + 1:
                    raise torch.OutOfMemoryError("out of memory. Tried to allocate 2 GiB")

        if place == "optimizer":
            trainer.optimizers["g"].register_step_post_hook(exhaust)
        elif place == "buffers":
            trainer.model.networks["g"].register_forward_hook(exhaust)
        else:
            trainer.model.networks["g"].register_forward_pre_hook(exhaust)
        with pytest.raises(RunError, match="out of memory in training step 4"):
            go(trainer, tmp_path)
        resumed = begin(tmp_path)
        assert resumed.step == (3 if place == "second part" else 2)
        assert weights_hash(go(resumed, tmp_path).result) == weights_hash(whole.result)
        folders = tmp_path / "whole", tmp_path
        logs = [outcome(read_lines(folder / "log.jsonl")) for folder in folders]
        assert logs[0] == logs[1]

    @pytest.mark.slow
    @pytest.mark.parametrize("compiled", [False, True])
    def test_a_killed_worker(self, options, tmp_path, compiled: bool) -> None:
        """The step at hand is finished, once, and saved; the next one cannot read its samples."""
        opt = options("train.num_worker=1", "logger.save_checkpoint_freq=100")

        def begin(folder: Path) -> Trainer:
            trainer = start(opt, folder)
            if compiled:  # no compiler is needed: only the trainer believes that this is its result
                net = trainer.model.networks["g"]
                set_compiled_call(net, net._call_impl)
            return trainer

        whole = go(begin(tmp_path / "whole"), tmp_path / "whole")
        trainer = begin(tmp_path)
        apply = trainer._apply

        def kill(optimizer: torch.optim.Optimizer) -> None:
            apply(optimizer)
            if trainer.step == 2:
                (worker,) = multiprocessing.active_children()
                worker.kill()
                wait_for_end(worker.pid)

        trainer._apply = kill
        with pytest.raises(RunError, match=r"samples of step \d cannot be read: a data worker was"):
            go(trainer, tmp_path)
        resumed = begin(tmp_path)
        assert resumed.step >= 3  # the worker had read some samples ahead
        assert weights_hash(go(resumed, tmp_path).result) == weights_hash(whole.result)
        folders = tmp_path / "whole", tmp_path
        logs = [outcome(read_lines(folder / "log.jsonl")) for folder in folders]
        assert logs[0] == logs[1]

    @pytest.mark.parametrize("workers", [0, 1])
    def test_samples_that_vanish(self, options, tmp_path, workers: int) -> None:
        from srtoolbox.data import SampleBursts

        opt = options(f"train.num_worker={workers}")
        dataset = Vanishing(SampleBursts(num_frame=2, gt_size=32), 4)
        with pytest.raises(RunError) as caught:
            go(start(opt, tmp_path, dataset=dataset), tmp_path)
        assert str(caught.value) == (
            "the samples of step 5 cannot be read: a/b.png: no such file; correct this and "
            "continue with --resume"
        )
        assert start(opt, tmp_path).step == 4

    def test_the_first_module_is_named(self, options, tmp_path) -> None:
        trainer = start(options(), tmp_path)
        block = trainer.model.networks["g"].body[0]

        def spoil(*inputs: object) -> torch.Tensor | None:
            return inputs[2] * float("nan") if trainer.step >= 2 else None

        block.conv2.register_forward_hook(spoil)
        with pytest.raises(
            RunError, match=r"step 3 .*first in the output of network_g\.body\.0\.conv2"
        ):
            go(trainer, tmp_path)

    @pytest.mark.slow
    def test_gradients_are_watched_too(self, options, tmp_path) -> None:
        trainer = start(options(), tmp_path)
        weight = trainer.model.networks["g"].conv_last.weight
        weight.register_hook(lambda grad: grad * float("inf") if trainer.step >= 3 else grad)
        good = []
        trainer.evaluate = lambda trainer, _: good.append(weights_hash(trainer.result))
        with pytest.raises(RunError, match=r"step 4 .*gradient of network_g\.conv_last\.weight"):
            go(trainer, tmp_path)
        assert weights_hash(trainer.result) == good[-1]  # the step was not taken


def test_fp16_scales_its_losses(options, tmp_path) -> None:
    trainer = start(options("train.precision=fp16", "train.optim_g.fused=false"), tmp_path)
    assert trainer.scaler.get_scale() == 2**16
    go(trainer, tmp_path)
    plain = go(start(options(), tmp_path / "fp32"), tmp_path / "fp32")
    for key, value in plain.result.state_dict().items():
        torch.testing.assert_close(trainer.result.state_dict()[key], value, atol=5e-3, rtol=0.1)
    assert trainer.state_dict()["scaler"]["scale"] > 0

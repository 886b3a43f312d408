"""The training loop: seeds, accumulation, averages, evaluation, non-finite losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from srtoolbox.engine.files import read_lines
from srtoolbox.engine.run import build_network
from srtoolbox.engine.weights import weights_hash
from srtoolbox.errors import RunError, UserError

CPU = torch.device("cpu")


class TestSeeds:
    def test_same_seed_same_weights_other_seed_others(self, options, tmp_path, start, go) -> None:
        found = []
        for number, seed in enumerate((0, 0, 1)):
            folder = tmp_path / str(number)
            trainer = go(start(options(f"manual_seed={seed}"), folder), folder)
            found.append(weights_hash(trainer.result))
        assert found[0] == found[1] != found[2]

    def test_two_methods_see_the_same_samples(self, options, tmp_path, start, go) -> None:
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
    def test_accumulation_is_a_large_batch(
        self, options, tmp_path, start, go, reduction: str
    ) -> None:
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

    def test_gradients_are_clipped(self, options, tmp_path, start, go) -> None:
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

    def test_average_of_weights(self, options, tmp_path, start, go) -> None:
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

    def test_bf16(self, options, tmp_path, start, go) -> None:
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

    def test_channels_last_changes_no_result(self, options, tmp_path, start, go) -> None:
        results = []
        for flag in ("false", "true"):
            opt = options(f"train.channels_last={flag}", "train.optim_g={type: SGD, lr: 1e-2}")
            trainer = go(start(opt, tmp_path / flag), tmp_path / flag)
            results.append(trainer.result.state_dict())
        for key, value in results[0].items():
            torch.testing.assert_close(results[1][key], value, atol=1e-6, rtol=1e-4)

    def test_several_losses_are_summed(self, options, tmp_path, start, go) -> None:
        losses = "train.losses={one: {type: L1Loss}, two: {type: MSELoss, loss_weight: 2}}"
        go(start(options(losses), tmp_path), tmp_path)
        assert {"one", "two", "lr", "it/s", "data wait", "memory", "step"} == set(
            next(read_lines(tmp_path / "log.jsonl"))
        )

    def test_logged_losses_are_means_since_the_last_log_point(
        self, options, tmp_path, start, go
    ) -> None:
        for freq in (1, 4):
            folder = tmp_path / str(freq)
            go(start(options(f"logger.print_freq={freq}"), folder), folder)
        each = [record["l_pix"] for record in read_lines(tmp_path / "1" / "log.jsonl")]
        some = list(read_lines(tmp_path / "4" / "log.jsonl"))
        assert [record["step"] for record in some] == [4, 6]
        expected = [sum(each[:4]) / 4, sum(each[4:]) / 2]
        assert [record["l_pix"] for record in some] == pytest.approx(expected)


class TestEvaluation:
    def test_when_and_with_what(self, options, tmp_path, start, go) -> None:
        seen = []
        trainer = start(options(), tmp_path, lambda step, net: seen.append((step, net)))
        trainer.eval_freq = 4
        go(trainer, tmp_path)
        assert [step for step, _ in seen] == [4, 6]
        assert all(net is trainer.result for _, net in seen)

    def test_it_changes_nothing(self, options, tmp_path, start, go, same) -> None:
        def rude(_: int, net: nn.Module) -> None:
            torch.rand(7)
            np.random.default_rng().random()

        one = go(start(options(), tmp_path / "a"), tmp_path / "a")
        two = go(start(options(), tmp_path / "b", rude), tmp_path / "b")
        for part in ("networks", "optimizers", "schedulers"):
            assert same(one.state_dict()[part], two.state_dict()[part])
        assert two.model.networks["g"].training


class Poisoned:
    """The training bursts, one of which holds a value that is no number."""

    def __init__(self, dataset, at: int) -> None:
        self.inner, self.at, self.drawn = dataset, at, 0
        self.scale, self.num_frame = dataset.scale, dataset.num_frame
        self.reference = dataset.reference

    def __len__(self) -> int:
        return len(self.inner)

    def draw(self, index: int, rng: np.random.Generator) -> dict:
        sample = self.inner.draw(index, rng)
        sample["lq"] = sample["lq"].astype(np.float32) / 255
        sample["gt"] = sample["gt"].astype(np.float32) / 255
        if self.drawn == self.at:
            sample["lq"][0, 0, 0, 0] = np.nan
        self.drawn += 1
        return sample


class TestNonFinite:
    def poisoned(self, options, start, folder: Path, **given):
        from srtoolbox.data import SampleBursts

        dataset = Poisoned(SampleBursts(num_frame=2, gt_size=32), 2 * 4)  # in step 5
        opt = options("logger.print_freq=3", "logger.save_checkpoint_freq=2", "train.ema_decay=0.9")
        return start(opt, folder, dataset=dataset, **given)

    def test_it_stops_with_step_and_samples(self, options, tmp_path, start, go) -> None:
        trainer = self.poisoned(options, start, tmp_path)
        with pytest.raises(RunError, match="non-finite at step 5") as caught:
            go(trainer, tmp_path)
        for key in trainer.stream.keys(4):
            assert key in str(caught.value)
        for word in ("lr", "train.grad_clip", "last checkpoint is untouched"):
            assert word in str(caught.value)
        state = trainer.checkpoints.load_latest(CPU)
        assert state["step"] == 4
        assert all(torch.isfinite(value).all() for value in state["networks"]["g"].values())

    def test_no_bad_network_is_evaluated(self, options, tmp_path, start, go) -> None:
        """Its score, no number, could pass for the best one."""
        finite = []

        def evaluate(_: int, net: nn.Module) -> None:
            finite.append(all(torch.isfinite(value).all() for value in net.state_dict().values()))

        with pytest.raises(RunError):
            go(self.poisoned(options, start, tmp_path, evaluate=evaluate), tmp_path)
        assert all(finite)

    def test_a_signal_saves_no_bad_state(self, options, tmp_path, start, go, stop_in) -> None:
        trainer = stop_in(5, self.poisoned(options, start, tmp_path))
        with pytest.raises(RunError, match="step 5"):
            go(trainer, tmp_path)
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
        ],
    )
    def test_faults(self, options, override: str, words: str) -> None:
        with pytest.raises(UserError, match=words):
            options(override)

"""``auto`` decides by measured steps of copies, once for a run, and changes nothing else."""

from __future__ import annotations

import json
import logging
import random
import shutil

import numpy as np
import pytest
import torch
from support.runs import CPU, run
from torch import nn

from srtoolbox.engine.build import build_dataset, build_network, fingerprint
from srtoolbox.engine.options import RunOptions, TrainOptions
from srtoolbox.engine.training import acceleration_probe
from srtoolbox.engine.training.acceleration import describe_failure
from srtoolbox.engine.training.acceleration_probe import apply_choices, measure_choices
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.errors import RunError
from srtoolbox.utils.files import read_lines

BOTH = ("train.channels_last=auto", "train.compile=auto")


@pytest.fixture(autouse=True)
def any_length(monkeypatch) -> None:
    """Measures also in trainings of a fraction of a second."""
    monkeypatch.setattr(acceleration_probe, "_MIN_TRAINING", 0.0)


@pytest.fixture(autouse=True)
def compiled(monkeypatch) -> list[nn.Module]:
    """Replaces the compiler by one that needs no time; returns the networks that it gets."""
    networks: list[nn.Module] = []

    def compile_(self: nn.Module, **_: object) -> None:
        networks.append(self)
        self._compiled_call_impl = self._call_impl

    monkeypatch.setattr(nn.Module, "compile", compile_)
    return networks


@pytest.fixture
def step_times(monkeypatch):
    """``step_times(before, after)``: the result of the measurement; the steps are made."""

    def set_times(before: float, after: float) -> None:
        def in_rounds(steps, _):
            for step in steps:
                step()
            return [before] * 3, [after] * 3

        monkeypatch.setattr(acceleration_probe, "_in_rounds", in_rounds)

    return set_times


def decide(opt: RunOptions, num_process: int = 1):
    net = build_network(opt, CPU)
    dataset = build_dataset("train", opt.datasets.train, opt, net)
    return measure_choices(opt, net, dataset, CPU, num_process)


def values(choices) -> dict:
    return {key: choice.value for key, choice in choices.items()}


def losses(opt: RunOptions) -> list:
    return [(r["step"], r["l_pix"], r["grad_g"]) for r in read_lines(opt.folder / "log.jsonl")]


class TestDecision:
    @pytest.mark.parametrize(
        ("ratio", "channels_last", "compile_"),
        [(1.04, False, None), (1.06, True, None), (1.14, True, None), (1.16, True, "default")],
    )
    def test_needs_a_ratio(
        self, options, step_times, ratio: float, channels_last: bool, compile_: str | None
    ) -> None:
        step_times(100 * ratio, 100.0)
        choices = decide(options(*BOTH))
        assert values(choices) == {"channels_last": channels_last, "compile": compile_}
        assert f"{ratio:.2f}×" in choices["compile"].reason

    def test_compilation_has_to_pay_off(self, options, step_times) -> None:
        step_times(2e-9, 1e-9)  # six steps save 6 ns
        assert values(decide(options("train.compile=auto"))) == {"compile": None}

    def test_real_times(self, options) -> None:
        choices = decide(options(*BOTH, "train.total_iter=1000000"))
        assert set(choices) == {"channels_last", "compile"}
        assert all(" ms with it and " in choice.reason for choice in choices.values())

    def test_short_trainings_are_not_measured(self, options, compiled, monkeypatch) -> None:
        monkeypatch.setattr(acceleration_probe, "_MIN_TRAINING", 60.0)
        choices = decide(options(*BOTH))
        assert values(choices) == {"channels_last": False, "compile": None}
        assert "too short to gain time" in choices["compile"].reason
        assert not compiled

    def test_compilation_uses_the_chosen_format(self, options, step_times, compiled) -> None:
        step_times(2e9, 1e9)
        decide(options(*BOTH))
        (network,) = compiled
        weight = network.conv_after_body.weight
        assert weight.is_contiguous(memory_format=torch.channels_last)

    def test_a_varying_number_of_frames_is_not_compiled(
        self, options, step_times, compiled
    ) -> None:
        step_times(2e9, 1e9)
        opt = options(
            "network_g=!delete",
            "network_g={type: DSTCSRNet, num_feat: 8}",
            "train.num_frame_range=[1, 2]",
            "train.compile=auto",
        )
        choices = decide(opt)
        assert "the number of frames varies" in choices["compile"].reason
        assert not compiled

    def test_a_part_of_the_batch_per_process(self, options, step_times, monkeypatch) -> None:
        step_times(1.0, 1.0)
        sizes = []
        step = Trainer.try_step

        def try_step(self, batch) -> None:
            sizes.append(len(batch["key"]))
            step(self, batch)

        monkeypatch.setattr(Trainer, "try_step", try_step)
        decide(options("train.channels_last=auto", "train.batch_size=4"), num_process=2)
        assert set(sizes) == {2}


class TestFailures:
    def test_without_a_compiler(self, options, monkeypatch, caplog) -> None:
        def broken(self: nn.Module, **_: object) -> None:
            def fail(*_: object) -> None:
                raise RuntimeError("no C++ compiler\nand much more")

            self._compiled_call_impl = fail

        monkeypatch.setattr(nn.Module, "compile", broken)
        opt = options("train.compile=auto")
        with caplog.at_level(logging.INFO, "srtoolbox"):
            result = run(opt)
        lines = [line for line in caplog.messages if "compile auto" in line]
        assert lines == ["train.compile auto: off (it fails here: RuntimeError: no C++ compiler)"]
        assert "continuing without it" not in caplog.text
        assert result.weights == run(options("name=plain")).weights

    def test_a_format_that_a_network_does_not_take(self, options, monkeypatch) -> None:
        def contiguous_only(self, lq):
            self.conv_first.weight.view(-1)  # fails in channels_last
            return forward(self, lq)

        from srtoolbox.archs.edsr import EDSR

        forward = EDSR.forward
        monkeypatch.setattr(EDSR, "forward", contiguous_only)
        choices = decide(options("train.channels_last=auto"))
        assert values(choices) == {"channels_last": False}
        assert choices["channels_last"].reason.startswith("it fails here: ")

    def test_memory_that_does_not_suffice(self, options, monkeypatch) -> None:
        def full(self, _) -> None:
            raise torch.OutOfMemoryError("out of memory")

        monkeypatch.setattr(Trainer, "try_step", full)
        choices = decide(options(*BOTH))
        assert values(choices) == {"channels_last": False, "compile": None}
        assert choices["compile"].reason == "memory does not suffice for the measurement"

    def test_a_loss_that_is_not_finite(self, options) -> None:
        rate = "train.optim_g={type: SGD, lr: 1e38}"
        choices = decide(options("train.channels_last=auto", rate))
        assert (
            "the measured step failed: the loss or its gradient" in choices["channels_last"].reason
        )

    def test_a_later_step_without_the_option_is_named(self, options, monkeypatch) -> None:
        step, trainers = Trainer.try_step, []

        def diverge(self, batch) -> None:
            trainers.append(self)
            if self is trainers[0] and trainers.count(self) > 2:
                raise RunError("the loss is not finite; lower the learning rate")
            step(self, batch)

        monkeypatch.setattr(Trainer, "try_step", diverge)
        choices = decide(options(*BOTH))
        assert values(choices) == {"channels_last": False, "compile": None}
        reason = "a step without it failed: RunError: the loss is not finite"
        assert [choice.reason for choice in choices.values()] == [reason] * 2

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("boom\nmore", "RuntimeError: boom"),
            (
                "backend='inductor' raised:\nInvalidCxxCompiler: none\n\nSet",
                "InvalidCxxCompiler: none",
            ),
            ("", "RuntimeError"),
        ],
    )
    def test_the_cause_in_one_line(self, text: str, expected: str) -> None:
        assert describe_failure(RuntimeError(text)) == expected


class TestNothingElseChanges:
    @pytest.mark.parametrize(
        "overrides",
        [
            (),
            (
                "train.ema_decay=0.9",
                "train.accumulate=2",
                "train.scheduler={type: StepLR, step_size: 2}",
            ),
            ("model_type=GANModel", "network_d={type: UNetDiscriminatorSN, num_feat: 4}"),
        ],
        ids=["plain", "average", "gan"],
    )
    def test_both_off_gives_the_same_bits(self, options, step_times, compiled, overrides) -> None:
        step_times(1.0, 1.0)
        auto, plain = options(*BOTH, *overrides), options("name=plain", *overrides)
        assert run(auto).weights == run(plain).weights
        assert len(compiled) == 1  # a copy was measured
        assert losses(auto) == losses(plain)

    def test_on_gives_the_bits_of_the_option(self, options, step_times) -> None:
        step_times(2e9, 1e9)
        explicit = options("name=plain", "train.channels_last=true", "train.compile=default")
        assert run(options(*BOTH)).weights == run(explicit).weights

    def test_random_numbers(self, options, monkeypatch) -> None:
        step = Trainer.try_step

        def try_step(self, batch) -> None:
            random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
            step(self, batch)

        monkeypatch.setattr(Trainer, "try_step", try_step)
        opt = options("train.channels_last=auto")
        net = build_network(opt, CPU)
        dataset = build_dataset("train", opt.datasets.train, opt, net)

        def draw() -> list[float]:
            return [random.random(), np.random.rand(), float(torch.rand(1))]  # noqa: NPY002

        def seed() -> None:
            random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002

        seed()
        expected = draw()
        seed()
        weights = {key: value.clone() for key, value in net.state_dict().items()}
        measure_choices(opt, net, dataset, CPU, 1)
        assert draw() == expected
        assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
        assert all(p.grad is None for p in net.parameters())


class TestOneDecisionPerRun:
    def test_is_recorded(self, options, step_times) -> None:
        step_times(2e9, 1e9)
        opt = options(*BOTH)
        run(opt)
        card = json.loads((opt.folder / "run.json").read_text())
        assert {key: entry["value"] for key, entry in card["measured"].items()} == {
            "channels_last": True,
            "compile": "default",
        }
        assert "2.00×" in card["measured"]["compile"]["reason"]
        assert "compile: auto" in (opt.folder / "options.yml").read_text()

    @pytest.mark.parametrize("started", [True, False])
    def test_a_resumed_run_goes_on_as_it_began(
        self, options, step_times, caplog, started: bool
    ) -> None:
        step_times(2e9, 1e9)
        whole = options("name=whole", *BOTH)
        weights = run(whole).weights
        broken = options(*BOTH)
        shutil.copytree(whole.folder, broken.folder)
        if started:
            _, last = sorted((broken.folder / "checkpoints").iterdir())
            last.unlink()  # the run goes on from step 4
        else:  # it was killed before its first checkpoint
            shutil.rmtree(broken.folder / "checkpoints")
            shutil.rmtree(broken.folder / "weights")
        (broken.folder / "finished.json").unlink()
        step_times(1.0, 1.0)
        with caplog.at_level(logging.INFO, "srtoolbox"):
            assert run(broken, resume=True).weights == weights
        assert "train.compile auto: on, as at the first start of this run (" in caplog.text

    def test_also_with_more_steps(self, options, step_times) -> None:
        step_times(2e9, 1e9)
        run(options("train.channels_last=auto"))
        step_times(1.0, 1.0)
        more = options("train.channels_last=auto", "train.total_iter=8")
        run(more, resume=True)
        card = json.loads((more.folder / "run.json").read_text())
        assert card["measured"]["channels_last"]["value"] is True
        assert card["fingerprint"] == fingerprint(more)

    @pytest.mark.parametrize(
        ("key", "entry"),
        [
            ("compile", []),
            ("compile", {"compile": {"value": "fast", "reason": ""}}),
            ("channels_last", {"channels_last": {"value": 1, "reason": ""}}),
            ("channels_last", {"channels_last": {"value": 0.0, "reason": ""}}),
        ],
    )
    def test_a_damaged_record(self, options, key: str, entry: object) -> None:
        opt = options(f"train.{key}=auto")
        card = {"name": "tiny", "fingerprint": fingerprint(opt), "measured": entry}
        opt.folder.mkdir(parents=True)
        (opt.folder / "run.json").write_text(json.dumps(card))
        with pytest.raises(RunError, match=r"run.json: its entry 'measured' .* is damaged"):
            run(opt)


def test_other_values_are_never_measured(options, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("srtoolbox.engine.training.train.measure_choices", fail)
    opt = options("train.channels_last=true", "train.compile=default")
    run(opt)
    assert "measured" not in json.loads((opt.folder / "run.json").read_text())
    assert apply_choices(TrainOptions(total_iter=1), {}) == TrainOptions(total_iter=1)


@pytest.mark.slow
def test_with_the_real_compiler(options, step_times, monkeypatch) -> None:
    """Compiled code of the copies is forgotten; a run that stays off has the same bits."""
    monkeypatch.undo()
    monkeypatch.setattr(acceleration_probe, "_MIN_TRAINING", 0.0)
    monkeypatch.setitem(acceleration_probe.FASTER, "compile", 1e9)
    opt = options("train.compile=auto")
    weights = run(opt).weights
    reason = json.loads((opt.folder / "run.json").read_text())["measured"]["compile"]["reason"]
    if "it fails here" in reason:
        pytest.skip(reason)
    assert "s of compilation" in reason
    assert weights == run(options("name=plain")).weights

"""Training with a varying number of frames, and the logged gain from other frames."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.engine.build import build_dataset
from srtoolbox.engine.doctor.diagnose import diagnose
from srtoolbox.engine.evaluation.frame_use import frame_use
from srtoolbox.engine.evaluation.records import gain_from_frames
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training import train as train_module
from srtoolbox.engine.training.train import train
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
STEPS = 16
ANY = (
    "network_g=!delete",
    "network_g={type: AnyNumber}",
    "datasets.train.num_frame=4",
    "datasets.val.sample.num_frame=3",
    f"train.total_iter={STEPS}",
    "val.val_freq=8",
)
DSTC = "network_g={type: DSTCSRNetPlus, num_feat: 8, num_block: 1, num_feat_fine: 8}"
VARYING = (*ANY, "train.num_frame_range=[2, 4]")


class Frames(nn.Module):
    """Enlarges the mean of all frames, or the first frame; records the number of frames."""

    scales, num_frame, reference = (4,), None, 0
    size_multiple = min_size = 1
    seen: list[int]

    def __init__(self, scale: int = 4, blind: bool = False, sharp: bool = False) -> None:
        super().__init__()
        self.scale, self.blind = scale, blind
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        if sharp:
            nn.init.dirac_(self.conv.weight)
            nn.init.zeros_(self.conv.bias)

    def forward(self, lq: Tensor) -> Tensor:
        if self.training:
            self.seen.append(lq.shape[1])
        base = lq[:, 0] if self.blind else lq.mean(1)
        return nn.functional.interpolate(self.conv(base), scale_factor=self.scale)


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Registers networks; returns the numbers of frames that they got in training."""
    entries = {"AnyNumber": Frames, "Two": type("Two", (Frames,), {"num_frame": 2})}
    monkeypatch.setattr(ARCH_REGISTRY, "_entries", {**ARCH_REGISTRY._entries, **entries})
    monkeypatch.setattr(Frames, "seen", [], raising=False)
    # The step that users' own networks take before a training is not one of the training.
    monkeypatch.setattr(train_module, "probe_training", lambda *arguments: None)
    return Frames.seen


def run(opt: RunOptions, resume: bool = False) -> str:
    return train(opt, CPU, resume=resume).weights


def scores(opt: RunOptions) -> list[dict]:
    return list(read_lines(opt.folder / "evaluation.jsonl"))


class TestNumberOfFrames:
    def test_each_number_occurs(self, options, seen) -> None:
        run(options(*VARYING))
        assert len(seen) == STEPS and set(seen) == {2, 3, 4}

    def test_by_default_there_are_always_all(self, options, seen) -> None:
        run(options(*ANY))
        assert seen == [4] * STEPS

    def test_a_run_that_is_stopped_goes_on_to_the_same_bits(
        self, options, seen, monkeypatch
    ) -> None:
        whole = run(options(*VARYING))
        numbers = [*seen]
        seen.clear()
        opt = options(*VARYING, "name=broken")
        save = Trainer.save

        def stop(self: Trainer) -> None:
            save(self)
            if self.step == STEPS // 2:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Trainer, "save", stop)
            run(opt)
        assert run(opt, resume=True) == whole
        assert seen == numbers

    def test_workers_and_parts_of_a_batch(self, options, seen) -> None:
        opt = options(*VARYING, "train.total_iter=6")
        whole, numbers = run(opt), [*seen]
        seen.clear()
        assert run(options(*VARYING, "train.total_iter=6", "train.num_worker=1", "name=b")) == whole
        assert seen == numbers
        seen.clear()
        run(options(*VARYING, "train.total_iter=6", "train.accumulate=2", "name=c"))
        assert seen == [number for number in numbers for _ in range(2)]

    @pytest.mark.slow
    def test_it_depends_on_the_seed(self, options, seen) -> None:
        run(options(*VARYING))
        first = [*seen]
        seen.clear()
        run(options(*VARYING, "manual_seed=1", "name=other"))
        assert seen != first

    def test_a_network_of_one_number_always_gets_it(self, options, seen, caplog) -> None:
        given = ("network_g={type: Two}", "train.num_frame_range=[1, 2]")
        plain = run(options("network_g=!delete", given[0]))
        with caplog.at_level(logging.INFO, "srtoolbox"):
            assert run(options("name=other", "network_g=!delete", *given)) == plain
        assert set(seen) == {2}
        assert "train.num_frame_range: Two always takes 2 frames" in caplog.text

    def test_a_single_image_network_too(self, options, caplog) -> None:
        plain = run(options())
        with caplog.at_level(logging.INFO, "srtoolbox"):
            assert run(options("name=other", "train.num_frame_range=[1, 2]")) == plain
        assert "num_frame_range" not in caplog.text

    def test_more_than_there_are(self, options) -> None:
        opt = options(*ANY, "train.num_frame_range=[1, 5]")
        words = "train.num_frame_range goes up to 5 frames but datasets.train gives 4"
        with pytest.raises(UserError, match=words):
            run(opt)
        assert not opt.folder.exists() or not (opt.folder / "run.json").exists()
        (fault,) = diagnose({"tiny": opt}, CPU).faults
        assert fault[0] == "training" and words in fault[1]

    @pytest.mark.parametrize("value", ["[3, 2]", "[0, 2]", "[1]", "3", "[1, 2.5]"])
    def test_faulty_values(self, options, value: str) -> None:
        with pytest.raises(UserError, match=r"train\.num_frame_range"):
            options(*ANY, f"train.num_frame_range={value}")

    def test_the_doctor_tries_it_with_the_most_memory(self, options, seen) -> None:
        memory = {}
        for name, given in (("all", ANY), ("varying", VARYING)):
            found = diagnose({"tiny": options(*given, "train.total_iter=2")}, CPU)
            assert found.faults == []
            memory[name] = found.estimates[0].step_memory
        assert memory["varying"] == pytest.approx(memory["all"], rel=0.01)
        assert set(seen) > {4}


class TestFrameUse:
    @pytest.mark.slow
    def test_it_is_logged_beside_the_scores(self, options, caplog) -> None:
        given = (*ANY, DSTC, "train.total_iter=2", "val.val_freq=1")
        opt = options(*given, "val.frame_use=true")
        with caplog.at_level(logging.INFO, "srtoolbox"):
            result = train(opt, CPU, resume=False)
        plain = options(*given, "name=plain")
        assert run(plain) == result.weights
        found = scores(opt)
        gains = [record.pop("gain_from_frames") for record in found]
        assert found == scores(plain)
        data = build_dataset("val.sample", opt.datasets.val["sample"], opt, result.net)
        assert gains[-1] == gain_from_frames(frame_use(result.net, data, opt.val, CPU))
        assert min(gains) > 0.3  # it has the others' samples before it learns anything
        assert f"gain from other frames {gains[0]:.2f} dB" in caplog.text
        assert not [r for r in caplog.records if r.levelno == logging.WARNING]

    def test_a_network_that_does_better_without_them(self, options, caplog) -> None:
        """With the reference only it returns a sharp image, else a mean of unaligned frames."""
        run(options(*ANY, "network_g.sharp=true", "train.optim_g.lr=1e-9", "val.frame_use=true"))
        assert "dB from the other frames: it does better without them" in caplog.text

    @pytest.mark.slow
    def test_the_best_weights_are_chosen_as_without_it(self, options) -> None:
        best = []
        for name, given in (("a", ()), ("b", ("val.frame_use=true",))):
            opt = options(*ANY, f"name={name}", "val.val_freq=1", "train.optim_g.lr=0.1", *given)
            run(opt)
            best.append((opt.folder / "weights" / "net_g_best.pth").read_bytes())
        assert best[0] == best[1]

    def test_a_network_that_settled_is_warned_of_once(self, options, caplog) -> None:
        opt = options(*ANY, "network_g.blind=true", "val.frame_use=true", "val.val_freq=4")
        run(opt)
        assert [record["gain_from_frames"] for record in scores(opt)] == [0.0] * 4
        (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert line == (
            "after 8 of 16 steps Frames gains only 0.00 dB from the other frames: it ignores them"
        )

    @pytest.mark.slow
    def test_psnr_need_not_be_among_the_metrics(self, options) -> None:
        opt = options(*ANY, "val.frame_use=true")
        metrics = "val={frame_use: true, metrics: !delete, best_metric: ssim}"
        other = options(*ANY, "name=other", metrics, "val.metrics={ssim: {type: SSIM}}")
        run(opt)
        run(other)
        assert "psnr" not in scores(other)[0]
        for one, two in zip(scores(opt), scores(other), strict=True):
            assert one["gain_from_frames"] == pytest.approx(two["gain_from_frames"])

    def test_single_image_networks_are_silent(self, options, caplog) -> None:
        opt = options("val.frame_use=true")
        with caplog.at_level(logging.INFO, "srtoolbox"):
            run(opt)
        assert all("gain_from_frames" not in record for record in scores(opt))
        assert "gain from" not in caplog.text

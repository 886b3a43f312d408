"""``val.enhance`` in `srtoolbox test` and in training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srtoolbox.cli import main
from srtoolbox.engine.build import build_network
from srtoolbox.engine.device.distributed import SINGLE_PROCESS
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.evaluation.test import run_test
from srtoolbox.engine.training import train as training
from srtoolbox.engine.weights.load import save_weights
from srtoolbox.errors import UserError
from srtoolbox.inference.prediction import PLAIN
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
BICUBIC = "network_g={type: Bicubic}"
NO_NOISE = "datasets.val.sample={type: SampleBursts, split: val, num_frame: 1, gt_size: 96, \
num_burst: 3, read_noise: [0, 0], shot_noise: [0, 0]}"


def score(opt, weights: Path | None = None) -> float:
    return run_test(opt, CPU, weights).scores["sample"]["psnr"]


def test_one_option_of_the_command_changes_the_score(options, tmp_path: Path, capsys) -> None:
    options()
    fixed = [NO_NOISE, BICUBIC, f"path.experiments_root={tmp_path / 'experiments'}"]
    base = ["test", str(tmp_path / "tiny.yml"), "--device", "cpu"]
    base += [part for override in fixed for part in ("--set", override)]
    for extra in ([], ["val.enhance.back_projection=10"], ["val.enhance.cascade=2"]):
        assert main([*base, *(part for override in extra for part in ("--set", override))]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "back-projection" in printed and "cascade of 2 networks" in printed
    folders = sorted((tmp_path / "experiments" / "tiny" / "test").iterdir())
    assert len(folders) == 3
    plain, projected, cascade = (
        [r["metrics"]["psnr"] for r in read_lines(folder / "results.jsonl")] for folder in folders
    )
    assert all(after > before for before, after in zip(plain, projected, strict=True))
    assert plain != cascade != projected


def test_self_ensemble_changes_a_networks_score(options, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.pth", {}, build_network(options(), CPU))
    plain, opt = options(), options("val.enhance.self_ensemble=true")
    assert score(plain, tmp_path / "w.pth") != score(opt, tmp_path / "w.pth")
    note = run_test(opt, CPU, tmp_path / "w.pth").protocol
    assert note.endswith("Predicted with geometric self-ensemble ×8.")


def test_a_cascade_of_two_weight_files(options, tmp_path: Path) -> None:
    cascade = "val.enhance.cascade=2"
    for seed in (0, 1):
        net = build_network(options(cascade, f"manual_seed={seed}"), CPU)
        assert net.scale == 2
        save_weights(tmp_path / f"{seed}.pth", {}, net)
    first = tmp_path / "0.pth"
    later = f"val.enhance.cascade_weights={tmp_path / '1.pth'}"
    assert score(options(cascade), first) != score(options(cascade, later), first)
    with pytest.raises(UserError, match=r"nowhere.pth: no such weight file"):
        score(options(cascade, "val.enhance.cascade_weights=nowhere.pth"), first)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["network_g={type: EDVR}", "val.enhance.cascade=2"],
            r"val: cascade: EDVR takes several frames",
        ),
        (
            ["network_g={type: DSTCSRNetPlus}", "val.enhance.cascade=2"],
            r"DSTCSRNetPlus takes several frames",
        ),
        (["val.enhance.cascade=3"], r"cascade: scale 4 is not an integer to the power of 3"),
        (["val.enhance.back_projection=-1"], r"val.enhance.back_projection: must be >= 0, got -1"),
    ],
)
def test_wrong_use(options, overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        options(*overrides)


def test_wrong_stage_scale(options) -> None:
    opt = options("network_g={type: Bicubic, scale: 4}", "val.enhance.cascade=2")
    with pytest.raises(UserError, match=r"is 4 but scale is 4 in a cascade of 2 stages, so 2 each"):
        run_test(opt, CPU)


def test_a_cascade_is_not_trained(options) -> None:
    with pytest.raises(
        UserError, match=r"val.enhance.cascade: stages of a cascade are trained sep"
    ):
        training.train(options("val.enhance.cascade=2"), CPU, resume=False)


@pytest.mark.parametrize("asked", [False, True])
def test_evaluations_in_training_are_plain_by_default(options, monkeypatch, asked: bool) -> None:
    seen, run = [], Evaluator.run

    def watch(self, net, dataset, on_image=None, enhance=PLAIN, ranks=SINGLE_PROCESS):
        seen.append(enhance.self_ensemble)
        return run(self, net, dataset, on_image, enhance, ranks)

    monkeypatch.setattr(Evaluator, "run", watch)
    on = ("val.enhance.self_ensemble=true", f"val.enhance.in_training={str(asked).lower()}")
    training.train(options("train.total_iter=3", *on), CPU, resume=False)
    assert seen == [asked]

"""Training and evaluation of networks that restore all frames of a clip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.runs import go, same, start, stop_in

from srtoolbox.config.load import load_options
from srtoolbox.engine.build import build_network
from srtoolbox.engine.evaluation.test import run_test
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.train import train
from srtoolbox.engine.weights.load import save_weights
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
LENGTHS = {"a": 7, "b": 5}
OPTIONS = """
name: recurrent
scale: 4
datasets:
  train:
    type: Clips
    dataroot: {root}
    num_frame: 3
    target: all
    gt_size: 32
    random_reverse: true
  val:
    whole: {{type: Clips, dataroot: {root}, num_frame: null, target: all}}
network_g:
  type: BasicVSRPlusPlus
  num_feat: 4
  num_block: 1
  num_extract_block: 1
  num_reconstruct_block: 1
  deformable_groups: 2
  num_hr_feat: 4
  num_flow_level: 2
  num_flow_feat: 2
train:
  total_iter: 6
  batch_size: 2
  optim_g: {{type: Adam, lr: 1e-3}}
  param_groups: [{{pattern: '^spynet', lr_mult: 0.25, frozen_iter: 4}}]
val:
  val_freq: 6
  metrics: {{psnr: {{type: PSNR}}}}
path: {{experiments_root: {out}}}
logger: {{print_freq: 2, save_checkpoint_freq: 2, use_tb_logger: false}}
"""
Options = Callable[..., RunOptions]


@pytest.fixture
def options(tmp_path: Path) -> Options:
    rng = np.random.default_rng(0)
    for name, length in LENGTHS.items():
        scene = rng.integers(0, 256, (48, 60, 3), dtype=np.uint8)
        folder = tmp_path / "clips" / "GT" / name
        folder.mkdir(parents=True)
        for t in range(length):
            Image.fromarray(scene[:40, t : t + 40]).save(folder / f"{t:03d}.png")
    file = tmp_path / "options.yml"

    def make(*overrides: str) -> RunOptions:
        text = OPTIONS.format(root=tmp_path / "clips", out=tmp_path / "experiments")
        file.write_text(text, encoding="utf-8")
        return load_options(file, overrides, RunOptions)[0]

    return make


def spynet_of(trainer) -> dict[str, torch.Tensor]:
    state = trainer.model.networks["g"].spynet.state_dict()
    return {name: tensor.clone() for name, tensor in state.items()}


@pytest.mark.slow
def test_spynet_is_frozen_first_and_has_a_rate_of_its_own(options: Options, tmp_path: Path) -> None:
    opt = options("train.total_iter=4")
    trainer = start(opt, tmp_path / "a")
    before, trunk = spynet_of(trainer), trainer.model.networks["g"].upconv1.weight.clone()
    rates = sorted(group["lr"] for group in trainer.optimizers["g"].param_groups)
    assert rates == pytest.approx([0.25e-3, 1e-3])
    go(trainer, tmp_path / "a")
    assert same(spynet_of(trainer), before)
    assert not torch.equal(trainer.model.networks["g"].upconv1.weight, trunk)
    longer = go(start(options(), tmp_path / "b"), tmp_path / "b")
    assert not same(spynet_of(longer), before)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 5])
def test_a_stop_while_spynet_is_frozen_and_after_it_changes_nothing(
    options: Options, tmp_path: Path, stop: int
) -> None:
    opt = options()
    whole = go(start(opt, tmp_path / "whole"), tmp_path / "whole")
    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        go(stop_in(stop, start(opt, broken)), broken)
    resumed = start(opt, broken)
    assert resumed.step == stop
    ours, expected = go(resumed, broken).state_dict(), whole.state_dict()
    for part in ("networks", "optimizers", "schedulers"):
        assert same(ours[part], expected[part])


@pytest.mark.slow
def test_every_frame_of_whole_clips_is_scored(options: Options) -> None:
    trained = train(options("train.total_iter=1", "val.val_freq=1"), CPU, resume=False)
    assert trained.weights
    opt = options()
    result = run_test(opt, CPU)
    keys = [record["key"] for record in read_lines(result.folder / "results.jsonl")]
    assert keys == [f"{clip}/{t:03d}" for clip, length in LENGTHS.items() for t in range(length)]


def scores(opt: RunOptions, weights: Path) -> tuple[list[float], str, str]:
    result = run_test(opt, CPU, weights)
    records = read_lines(result.folder / "results.jsonl")
    return [r["metrics"]["psnr"] for r in records], result.protocol, result.folder.name


@pytest.mark.slow
def test_segments_change_scores_and_are_stated(options: Options, tmp_path: Path) -> None:
    opt = options()
    net, path = build_network(opt, CPU), tmp_path / "w.pth"
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    save_weights(path, {}, net)
    whole, note, folder = scores(opt, path)
    assert "segments" not in note
    short, note, other = scores(options("val.segment=2", "val.segment_overlap=0"), path)
    assert short != whole and folder != other
    assert note.endswith(
        "Clips in segments of 2 frames, with 0 more on each side, for networks that restore all "
        "frames of a clip."
    )
    wide, _, _ = scores(options("val.segment=2", "val.segment_overlap=9"), path)
    assert wide == pytest.approx(whole, abs=1e-3)
    flipped, note, third = scores(options("val.enhance.flip_sequence=true"), path)
    assert flipped != whole and third not in (folder, other)
    assert note.endswith("Predicted with clips followed by their reversal.")


@pytest.mark.slow
def test_windows_with_one_ground_truth(options: Options) -> None:
    opt = options(
        "datasets.train.target=centre",
        "datasets.val=!delete",
        "datasets.val.middle={type: Clips, dataroot: "
        + str(options().datasets.train["dataroot"])
        + ", num_frame: 5}",
        "train.num_frame_range=[2, 3]",
        "train.total_iter=2",
        "val.val_freq=2",
    )
    assert train(opt, CPU, resume=False).weights
    records = list(read_lines(run_test(opt, CPU).folder / "results.jsonl"))
    assert len(records) == sum(LENGTHS.values())

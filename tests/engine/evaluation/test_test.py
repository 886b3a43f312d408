"""Scoring a network on test sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srtoolbox.config.schema import build
from srtoolbox.engine.build import build_network
from srtoolbox.engine.evaluation.test import run_test
from srtoolbox.engine.training.train import train
from srtoolbox.engine.weights.load import save_weights, weights_hash
from srtoolbox.errors import UserError
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
BICUBIC = "network_g={type: Bicubic}"


def test_scores_and_files(options) -> None:
    opt = options(BICUBIC)
    result = run_test(opt, CPU)
    scores, folder = result.scores, result.folder
    records = list(read_lines(folder / "results.jsonl"))
    assert [record["dataset"] for record in records] == ["sample"] * 2
    values = [record["metrics"]["psnr"] for record in records]
    assert scores == {"sample": {"psnr": pytest.approx(sum(values) / 2)}}
    assert records[0]["protocol"] in result.protocol
    assert folder.parent == opt.folder / "test"
    assert folder.name.startswith("rgb-")
    assert (folder / "options.yml").exists()
    assert json.loads((folder / "environment.json").read_text())["device"]
    assert not list(folder.rglob("*.png"))


def test_test_sets_come_before_validation_sets(options) -> None:
    spec = "{type: SampleBursts, split: val, num_frame: 2, gt_size: 32, num_burst: 3}"
    result = run_test(options(BICUBIC, f"datasets.test.held={spec}"), CPU)
    assert list(result.scores) == ["held"]
    assert len(list(read_lines(result.folder / "results.jsonl"))) == 3


def test_trained_weights_are_found(options) -> None:
    opt = options()
    result = train(opt, CPU, resume=False)
    found = run_test(opt, CPU)
    assert found.folder.name == f"rgb-{result.weights}"
    last = list(read_lines(opt.folder / "evaluation.jsonl"))[-1]
    assert found.scores["sample"]["psnr"] == pytest.approx(last["psnr"])


def test_given_weights_come_first(options, tmp_path: Path) -> None:
    opt = options()
    train(opt, CPU, resume=False)
    other = build_network(options("manual_seed=5"), CPU)
    save_weights(tmp_path / "other.pth", {}, other)
    named = options(f"path.pretrain_network_g={tmp_path / 'other.pth'}")
    for result in (run_test(opt, CPU, tmp_path / "other.pth"), run_test(named, CPU)):
        assert result.folder.name == f"rgb-{weights_hash(other)}"


def test_no_weights(options) -> None:
    words = r"tiny: no weights to test: give --weights FILE, set path.pretrain_network_g, or train"
    with pytest.raises(UserError, match=words):
        run_test(options(), CPU)


def test_no_dataset(options) -> None:
    with pytest.raises(UserError, match=r"tiny: the options name no dataset under datasets.test"):
        run_test(options(BICUBIC, "datasets.val=!delete"), CPU)


def test_images_are_saved_as_scored(options) -> None:
    opt = options(BICUBIC, "val.save_img=true")
    folder = run_test(opt, CPU).folder
    records = list(read_lines(folder / "results.jsonl"))
    for record, index in zip(records, range(2), strict=True):
        saved = np.asarray(Image.open(folder / "sample" / f"{record['key']}.png"))
        assert saved.shape == (32, 32, 3)
        gt = build("dataset", opt.datasets.val["sample"], scale=4)[index]["gt"]
        error = np.square(saved.astype(float) - gt.transpose(1, 2, 0)).mean()
        psnr = 10 * np.log10(255**2 / error)
        assert psnr == pytest.approx(record["metrics"]["psnr"], abs=1e-6)


def test_a_fine_tuned_network_is_scored_not_what_it_started_from(options, tmp_path: Path) -> None:
    save_weights(tmp_path / "start.pth", {}, build_network(options("manual_seed=5"), CPU))
    opt = options(f"path.pretrain_network_g={tmp_path / 'start.pth'}")
    result = train(opt, CPU, resume=False)
    assert run_test(opt, CPU).folder.name == f"rgb-{result.weights}"

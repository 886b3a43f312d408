"""Model cards of runs and studies."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.studies import compare

import srtoolbox
from srtoolbox.cli import main
from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.model_card import MARK, _data, _network, _public, write_card
from srtoolbox.config.load import load_options
from srtoolbox.data.layouts import LAYOUTS
from srtoolbox.engine.evaluation.test import run_test
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.train import train
from srtoolbox.engine.weights.load import WeightFile
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import PSNR, get_protocol

RUN = """
name: tiny
scale: 4
datasets:
  train: {type: SampleBursts, num_frame: 2, gt_size: 32}
  val:
    sample: {type: SampleBursts, split: val, num_frame: 2, gt_size: 32, num_burst: 2}
network_g: {type: EDSR, num_feat: 4, num_block: 1}
train: {total_iter: 4, batch_size: 2, optim_g: {type: Adam, lr: 1e-3}}
val: {val_freq: 2, protocol: basicsr-y}
logger: {print_freq: 2, save_checkpoint_freq: 2, use_tb_logger: false}
"""
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    folder = tmp_path_factory.mktemp("run")
    file = folder / "tiny.yml"
    file.write_text(RUN)
    opt = load_options(file, [f"path.experiments_root={folder}"], RunOptions)[0]
    train(opt, CPU, resume=False)
    return opt


def head_of(path: Path) -> dict[str, Any]:
    start, head, _ = path.read_text().split("---\n", 2)
    assert start == ""
    return yaml.safe_load(head)


def test_a_run_with_scores_of_its_training(trained: RunOptions, tmp_path: Path) -> None:
    path = write_card(trained.folder, tmp_path / "card.md", "apache-2.0")
    text, head = path.read_text(), head_of(path)
    assert head["license"] == "apache-2.0"
    assert head["tags"] == ["super-resolution", "EDSR"]
    assert head["metrics"] == ["psnr", "ssim"]
    assert "datasets" not in head
    last = (trained.folder / "evaluation.jsonl").read_text().splitlines()[-1]
    psnr, protocol = json.loads(last)["psnr"], get_protocol("basicsr-y")
    assert f"| sample | validation set of the training | basicsr-y ({protocol.hash}) |" in text
    assert f"| {psnr:.4f} |" in text
    assert protocol.describe().split(".")[0] in text.replace("\\", "")
    weights = trained.folder / "weights" / "net_g_latest.pth"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in text
    finished = json.loads((trained.folder / "finished.json").read_text())
    assert f"hash of the tensors `{finished['weights']}`" in text
    count = sum(p.numel() for p in srtoolbox.load(weights)[0].parameters())
    assert f"- parameters: {count:,}\n" in text
    assert '"num_feat": 4' in text
    assert "licence of the data: not stated" in text
    assert "licence of the weights: apache-2.0" in text
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert str(trained.folder) not in text


def test_the_use_in_a_card_works(trained: RunOptions, monkeypatch) -> None:
    path = write_card(trained.folder)
    assert path == trained.folder / "weights" / "README.md"
    (code,) = re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    monkeypatch.chdir(path.parent)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["arch"]["type"] == "EDSR"
    (command,) = re.findall(r"```bash\nsrtoolbox (.*?)\n```", path.read_text())
    assert command == "upscale INPUT -o OUTPUT --weights net_g_latest.pth"


def test_scores_of_a_test_come_first(
    trained: RunOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {"text": "weights of a file, SHA-256 0123", "content": "0123"}
    monkeypatch.setattr(PSNR, "source", lambda _: source)
    result = run_test(trained, CPU)
    assert result.sources == {"psnr": source}
    text = write_card(trained.folder, tmp_path / "card.md").read_text()
    assert "- PSNR uses weights of a file, SHA-256 0123.\n" in text
    assert f"| {result.scores['sample']['psnr']:.4f} |" in text
    assert "| sample | test set |" in text
    assert "validation set" not in text
    head = head_of(tmp_path / "card.md")["model-index"]
    assert head[0]["results"][0]["metrics"][0]["value"] == result.scores["sample"]["psnr"]


def test_a_file_of_somebody_else_is_left_alone(trained: RunOptions, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("my own words")
    with pytest.raises(UserError, match=r"README.md: exists, and `srtoolbox card` did not write"):
        write_card(trained.folder, path)
    assert path.read_text() == "my own words"
    path.write_text(f"old\n{MARK}\n")
    write_card(trained.folder, path)
    assert path.read_text().startswith("---\n")
    with pytest.raises(UserError, match="did not write"):
        write_card(trained.folder, tmp_path)


def test_folders_without_a_finished_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither a run \(run.json\) nor a study"):
        write_card(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="this training is not finished"):
        write_card(tmp_path)


def test_damaged_weights(trained: RunOptions, tmp_path: Path) -> None:
    folder = shutil.copytree(trained.folder, tmp_path / "copy")
    weights = folder / "weights" / "net_g_latest.pth"
    content = torch.load(weights, weights_only=True)
    next(iter(content["params"].values())).add_(1)
    torch.save(content, weights)
    with pytest.raises(RunError, match="is damaged"):
        write_card(folder)
    weights.unlink()
    with pytest.raises(RunError, match="is missing"):
        write_card(folder)


def test_the_licence_of_a_known_dataset() -> None:
    text = "\n".join(_data({"type": "Clips", "layout": "reds", "dataroot": "/data/REDS"}))
    assert f"licence of the data: {LAYOUTS['reds'].licence}" in text
    assert '"dataroot": "REDS"' in text
    assert _data({}) == ["- not stated"]


def test_a_network_of_a_plugin() -> None:
    file = WeightFile(Path("x.pth"), {"a": torch.zeros(3)}, None, None)
    text = "\n".join(_network(file, {"type": "Unheard", "scale": 2}))
    assert "input and paper: not stated (a plug-in registers this network" in text
    assert "values in the weight file: 3" in text


def test_paths_lose_their_folders() -> None:
    assert _public({"a": ["/home/me/x.pth", "b/c"], "d": 1}) == {"a": ["x.pth", "b/c"], "d": 1}


@pytest.mark.slow
def test_a_study_and_one_of_its_runs(study_file: Callable[..., Path], capsys) -> None:
    store = compare(study_file("val: {protocol: rgb}\n"))
    assert main(["card", str(store.folder)]) == 0
    path = store.folder / "README.md"
    assert capsys.readouterr().out == f"{path}: written\n"
    text, head = path.read_text(), head_of(path)
    assert {"EDSR", "EDVR"} <= set(head["tags"])
    assert {entry["name"] for entry in head["model-index"]} == {"EDSR", "EDVR"}
    assert "- input: 3 frames, 3 channels" in text  # an option, not the usual number
    card = store.load_card()
    assert f"rgb ({card.protocol['hash']})" in text
    runs = [entry.run for entry in card.entries if entry.run]
    assert len(runs) == 2
    for run in runs:
        finished = json.loads((store.folder / run / "finished.json").read_text())
        assert finished["weights"] in text
        assert f"--weights {run}/weights/net_g_latest.pth" in text

    scores, entry = Scores(store), next(entry for entry in card.entries if entry.method == "EDSR")
    text = write_card(store.folder / str(entry.run)).read_text()
    psnr = scores.means(entry, "sample")["psnr"]
    assert f"| {psnr:.4f} |" in text
    assert "time per frame" in text
    assert write_card(store.folder, None).read_text().count(MARK) == 1


def test_a_stored_study(rich_study: Path) -> None:
    text = write_card(rich_study).read_text()
    assert "This folder has no trained weights." in text
    assert "## Protocol duf-y" in text
    assert "## Protocol rgb" in text
    assert "## Training data\n\n- not stated" in text
    assert "# rich \\<study\\>" in text


def test_mistakes_on_the_command_line(tmp_path: Path, capsys) -> None:
    assert main(["card", str(tmp_path)]) == 2
    assert "neither a run" in capsys.readouterr().err
    assert main(["card", str(tmp_path / "none")]) == 2
    assert main(["card", str(tmp_path), "-o", str(tmp_path)]) == 2

"""Space-time super-resolution of a real clip from the command line: train, test, compare."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from srtoolbox.archs.two_stage import TwoStage
from srtoolbox.cli import main
from srtoolbox.config.schema import check
from srtoolbox.data.datasets.space_time_clips import SpaceTimeClips
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.evaluation.records import average
from srtoolbox.engine.options import ValOptions

MSTT = """{type: MSTTSTVSR, num_feat: 4, num_extract_block: 1, num_reconstruct_block: 1,
  deformable_groups: 1, patch_sizes: [10, 5]}"""
EDSR = "{type: TwoStage, network: {type: EDSR, num_feat: 4, num_block: 1}}"
SHARED = """
name: st
scale: 4
datasets:
  train: {type: SpaceTimeClips, layout: jilin189, split: test, dataroot: data, gt_size: 80}
  val:
    Jilin: {type: SpaceTimeClips, layout: jilin189, split: test, dataroot: data}
train:
  total_iter: 2
  batch_size: 2
  accumulate: 2
  checkpointing: true
  losses: {l_pix: {type: CharbonnierLoss, eps: 1e-6, reduction: sum}}
val: {protocol: jilin189, val_freq: 2, metrics: {psnr: {type: PSNR}}}
logger: {print_freq: 1, use_tb_logger: false}
"""


@pytest.fixture
def write(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes an option file for a part of the real clip, 160 × 160 pixels of it."""
    monkeypatch.setattr(logging.getLogger("srtoolbox"), "handlers", [])
    monkeypatch.chdir(tmp_path)
    for folder, side in (("GT", 160), ("LR", 40)):
        (tmp_path / "data" / "001" / folder).mkdir(parents=True)
        for path in sorted((reference / "data" / "Jilin" / "001" / folder).iterdir()):
            part = Image.open(path).crop((side, side, 2 * side, 2 * side))
            part.save(tmp_path / "data" / "001" / folder / path.name)

    def write_options(rest: str) -> Path:
        path = tmp_path / "st.yml"
        path.write_text(SHARED + rest)
        return path

    return write_options


def test_two_stages_with_bicubic(reference: Path) -> None:
    data = SpaceTimeClips("jilin189", str(reference / "data" / "Jilin"), "test")
    val = check({"protocol": "jilin189", "metrics": {"psnr": {"type": "PSNR"}}}, ValOptions)
    net = TwoStage(4, {"type": "Bicubic"})
    records = Evaluator(val, torch.device("cpu")).run(net, data)["jilin189"]
    scores = average(records, "clips")
    # All seven frames, enlarged from their own LR frames, have 30.37 dB; the scene hardly moves.
    assert scores["psnr_given"] == pytest.approx(30.37, abs=0.02)
    assert scores["psnr_interpolated"] == pytest.approx(30.27, abs=0.03)


@pytest.mark.slow
def test_train_and_test(write, tmp_path: Path, capsys) -> None:
    path = str(write(f"network_g: {MSTT}\n"))
    assert main(["train", path]) == 0
    (line,) = (tmp_path / "experiments" / "st" / "evaluation.jsonl").read_text().splitlines()
    scores = json.loads(line)
    assert {"psnr", "psnr_given", "psnr_interpolated"} <= set(scores)
    assert 7 * scores["psnr"] == pytest.approx(
        4 * scores["psnr_given"] + 3 * scores["psnr_interpolated"]
    )
    capsys.readouterr()
    assert main(["test", path]) == 0
    assert "PSNR_INTERPOLATED" in " ".join(capsys.readouterr().out.split())
    (file,) = (tmp_path / "experiments" / "st" / "test").rglob("results.jsonl")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [r["key"] for r in records] == [f"001/{t:08d}" for t in range(7)]
    assert [r["kind"] for r in records] == ["given", "interpolated"] * 3 + ["given"]


@pytest.mark.slow
def test_compare(write, tmp_path: Path) -> None:
    methods = f"""
report: {{num_image: 2}}
methods:
  EDSR: {{network_g: {EDSR}}}
  MSTT: {{network_g: {MSTT}}}
"""
    path = str(write(methods))
    folder = tmp_path / "experiments" / "compare" / "st"
    images = folder / "images" / "Jilin"
    assert main(["compare", path, "--set", "report.num_image=1"]) == 0
    assert len(list(images.iterdir())) == 2
    assert main(["compare", path]) == 0
    (table,) = folder.glob("table.csv")
    rows = {row["method"].rstrip(" †"): row for row in csv.DictReader(table.open())}
    assert set(rows) == {"EDSR", "MSTT"}
    scores = {key: float(value) for key, value in rows["EDSR"].items() if "PSNR" in key}
    assert len(scores) == 3
    assert all(5 < value < 30 for value in scores.values())
    assert len(list(images.iterdir())) == 4


def test_networks_for_other_data_are_refused(write, capsys) -> None:
    assert main(["train", str(write("network_g: {type: EDSR, num_feat: 4, num_block: 1}\n"))]) == 2
    assert "use network_g: {type: TwoStage" in capsys.readouterr().err
    overrides = ["--set", "datasets.train={type: SampleBursts, num_frame: 4}"]
    assert main(["train", str(write(f"network_g: {MSTT}\n")), *overrides]) == 2
    assert "use type: SpaceTimeClips" in capsys.readouterr().err

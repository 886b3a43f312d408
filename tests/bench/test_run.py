"""From an option file to the files of `srtoolbox bench`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from srtoolbox.bench.run import run_bench
from srtoolbox.cli import main
from srtoolbox.errors import UserError

CPU = torch.device("cpu")
TREE = {
    "name": "tiny",
    "archs": {"EDSR": {"type": "EDSR", "num_feat": 4, "num_block": 1}},
    "input": [1, 1, 3, 8, 8],
    "rounds": 1,
}


def write(folder: Path, **changes) -> Path:
    path = folder / "tiny.yml"
    path.write_text(json.dumps({**TREE, "experiments_root": str(folder), **changes}))
    return path


def test_markdown_and_json_are_written(tmp_path: Path) -> None:
    _, path = run_bench(write(tmp_path, modes=["fp32"]), ["rounds=2"], CPU, "srtoolbox bench x.yml")
    assert path == tmp_path / "bench" / "tiny.md"
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["command"] == "srtoolbox bench x.yml"
    assert record["environment"]["packages"]["torch"]
    assert [len(one["forward"]) for one in record["results"]] == [2, 2]
    text = path.read_text()
    assert "| arch | mode | test ms |" in text and "| --- | --- | ---: |" in text
    assert "| EDSR | fp32 |" in text and "`srtoolbox bench x.yml`" in text


def test_faulty_options_are_named_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tiny.yml:1: kind: unknown"):
        run_bench(write(tmp_path, kind="x"), (), CPU, "")
    with pytest.raises(UserError, match="name: 'a/b' cannot be the name of a folder"):
        run_bench(write(tmp_path, name="a/b"), (), CPU, "")


def test_command(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yml").write_text(json.dumps(TREE))
    arguments = ["bench", "tiny.yml", "--set", "archs={EDSR: {type: EDSR, num_feat: 4}}"]
    assert main([*arguments, "--set", "rounds=1", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "bf16+channels_last" in out and "experiments/bench/tiny.md" in out
    command = json.loads(Path("experiments/bench/tiny.json").read_text())["command"]
    assert command.startswith("srtoolbox bench tiny.yml --set 'archs=")
    assert command.endswith("--set rounds=1 --device cpu")
    assert main(["bench", "tiny.yml", "--set", "round=1"]) == 2
    assert "round: unknown; did you mean 'rounds'?" in capsys.readouterr().err

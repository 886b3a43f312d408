"""From an option file to the files of `srtoolbox bench`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from srtoolbox.bench.archs import ArchsOptions, Unmeasured, report_archs
from srtoolbox.bench.run import Benchmark, run_bench
from srtoolbox.bench.variant import Variant
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
    options = write(tmp_path, modes=["fp32"])
    _, path, failures = run_bench(options, ["rounds=2"], CPU, "srtoolbox bench x.yml")
    assert not failures
    assert path == tmp_path / "bench" / "tiny.md"
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["command"] == "srtoolbox bench x.yml"
    assert record["environment"]["packages"]["torch"]
    assert [len(one["forward"]) for one in record["results"]] == [2, 2]
    text = path.read_text()
    assert "| arch | mode | test ms |" in text and "| --- | --- | ---: |" in text
    assert "| EDSR | fp32 |" in text and "`srtoolbox bench x.yml`" in text


def test_what_was_measured_before_a_kill_is_kept(tmp_path: Path) -> None:
    def killed(opt: ArchsOptions, device: torch.device) -> Iterator[list[Unmeasured]]:
        yield [Unmeasured("EDSR", "fp32+graphs", "needs CUDA", failed=False)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_bench(write(tmp_path), (), CPU, "", Benchmark(ArchsOptions, killed, report_archs))
    assert "| EDSR | fp32+graphs | needs CUDA |" in (tmp_path / "bench" / "tiny.md").read_text()


def test_a_mode_that_fails_is_reported_and_the_others_are_measured(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    prepare = Variant.prepare

    def failing(variant: Variant) -> None:
        if variant.mode.precision == "bf16":
            raise RuntimeError("\nno kernel\nfor this type")
        prepare(variant)

    monkeypatch.setattr(Variant, "prepare", failing)
    modes = json.dumps(["bf16", "fp32+graphs", "fp32", "tf32"])
    options = write(tmp_path)
    assert main(["bench", str(options), "--set", f"modes={modes}", "--device", "cpu"]) == 1
    assert "EDSR in bf16: RuntimeError: no kernel" in capsys.readouterr().err
    path = tmp_path / "bench" / "tiny.md"
    rows = [line.split(" | ")[1:3] for line in path.read_text().splitlines() if "| EDSR |" in line]
    assert rows[1:3] == [["bf16", "failed"], ["fp32+graphs", "needs CUDA"]]
    assert rows[4] == ["tf32", "needs CUDA"]
    assert [rows[0][0], rows[3][0]] == ["reference", "fp32"]
    assert all(float(rows[number][1]) > 0 for number in (0, 3))
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["failures"] == ["EDSR in bf16: RuntimeError: no kernel"]


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

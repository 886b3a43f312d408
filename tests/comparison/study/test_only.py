"""A command for some methods or seeds: what becomes of the results of the others."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from support.studies import compare, stored

from srtoolbox.archs.edsr import EDSR
from srtoolbox.comparison.store import ResultStore, StudyCard
from srtoolbox.comparison.study import evaluate, parallel, run
from srtoolbox.engine.weights.load import save_weights
from srtoolbox.errors import UserError

PLUGIN = """
from pathlib import Path

import torch
from torch import nn

from srtoolbox import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class BuiltFromAFile(nn.Module):
    scales = (4,)
    weight_option = "file"

    def __init__(self, file: str, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        Path(file).read_bytes()

    def forward(self, lq):
        return nn.functional.interpolate(lq, scale_factor=4)
"""


@pytest.fixture
def study(study_file, tmp_path: Path) -> Path:
    """Bicubic, and EDSR with weights from a file; nothing is trained."""
    net = EDSR(scale=4, num_feat=4, num_block=1)
    save_weights(tmp_path / "edsr.pth", {"type": "EDSR"}, net)
    return study_file(f"""
seeds: [0, 1]
train: !delete
datasets: {{train: !delete}}
methods:
  EDSR: {{train: null, path: {{pretrain_network_g: '{tmp_path / "edsr.pth"}'}}}}
  EDVR: !delete
""")


def rows(store: ResultStore) -> list[str]:
    return [
        f"{entry.method} {entry.seed}"
        for entry in store.load_card().entries
        if store.records(entry.evaluations["sample"])
    ]


@pytest.fixture(autouse=True)
def _warnings_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "srtoolbox")


ALL = ["Bicubic 0", "EDSR 0", "Bicubic 1", "EDSR 1"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_another_method_may_lack_its_file_of_weights(
    study: Path, tmp_path: Path, monkeypatch, caplog, jobs: int
) -> None:
    monkeypatch.setattr(parallel, "cpu_count", lambda: 2)
    monkeypatch.setattr(run, "Processes", lambda *_: pytest.fail("nothing is left to do"))
    assert rows(compare(study)) == ALL
    (tmp_path / "edsr.pth").unlink()
    (part := tmp_path / "experiments/compare/tiny/parts/EDSR-s0-01234567").mkdir(parents=True)
    assert rows(compare(study, f"jobs={jobs}", only=("Bicubic",))) == ALL
    (line,) = caplog.messages
    assert line.startswith(
        "EDSR: its earlier results stay in the table, but cannot be compared with the options at "
        "hand: "
    )
    assert "edsr.pth: no such weight file" in line
    assert part.exists()
    with pytest.raises(UserError, match=r"method EDSR: .*edsr\.pth"):
        compare(study, only=("EDSR",))


def test_another_method_may_lack_the_file_that_it_is_built_from(
    study: Path, tmp_path: Path, caplog
) -> None:
    (tmp_path / "built.py").write_text(PLUGIN)
    file = tmp_path / "built.pth"
    file.write_bytes(b"weights")
    own = (
        f"plugins=[{tmp_path / 'built.py'}]",
        f"methods.EDSR.network_g={{type: BuiltFromAFile, file: '{file}'}}",
        "methods.EDSR.path.pretrain_network_g=null",
    )
    assert rows(compare(study, *own)) == ALL
    file.unlink()
    assert rows(compare(study, *own, only=("Bicubic",))) == ALL
    (line,) = caplog.messages
    assert line.startswith("EDSR: its earlier results stay in the table, but cannot be compared")
    with pytest.raises(UserError, match=r"method EDSR: .*built\.pth"):
        compare(study, *own)
    assert rows(compare(study, *own, "name=new", only=("Bicubic",))) == ["Bicubic 0", "Bicubic 1"]


def test_the_identity_of_a_network_is_computed_once(study: Path, monkeypatch) -> None:
    seen: list[str] = []
    identity = evaluate.network_identity
    monkeypatch.setattr(
        evaluate, "network_identity", lambda spec: seen.append(spec["type"]) or identity(spec)
    )
    again = "{type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: 2}"
    compare(study, f"datasets.val.again={again}")
    assert sorted(seen) == ["Bicubic", "EDSR"]


def test_dropped_seeds_and_methods_are_named(study: Path, caplog) -> None:
    store = compare(study)
    assert rows(compare(study, "seeds=[0]")) == ALL[:2]
    (line,) = caplog.messages
    assert line == (
        "left out of the tables, as the options do not name them: Bicubic, seed 1, EDSR, seed 1; "
        f"their scores stay in {store.folder}, and a command that names them shows them again"
    )
    caplog.clear()
    lines = (store.folder / "results.jsonl").read_text()
    assert rows(compare(study)) == ALL
    assert (store.folder / "results.jsonl").read_text() == lines
    assert not caplog.messages


def test_a_repeated_command_that_is_killed_keeps_earlier_results(study: Path, monkeypatch) -> None:
    save = ResultStore.save_card

    def save_and_die(store: ResultStore, card: StudyCard) -> None:
        save(store, card)
        raise KeyboardInterrupt

    def kill(*overrides: str) -> None:
        """Runs the study until it has the first result."""
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(ResultStore, "save_card", save_and_die)
            compare(study, *overrides)

    store = compare(study)
    before = stored(store)
    kill("methods.New={network_g: {type: Bicubic}}")
    assert rows(store) == ALL
    assert rows(compare(study, only=("Bicubic",))) == ALL
    assert stored(compare(study)) == before

    # Results that the command does not give again are not kept.
    card = json.loads((store.folder / "study.json").read_text())
    card["entries"][1]["failure"] = "loss is not finite"
    card["entries"][3]["identity"] = "0123"
    (store.folder / "study.json").write_text(json.dumps(card))
    kill()
    assert rows(store) == ["Bicubic 0", "Bicubic 1"]
    assert stored(compare(study)) == before
    again = "{type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: 2}"
    kill(f"datasets.val.sample={again}")
    assert rows(ResultStore(store.folder)) == ["Bicubic 0"]


@pytest.mark.parametrize("version", ["0.0.1", None])
def test_results_of_another_version_are_left_out_with_that_reason(
    study: Path, caplog, version: str | None
) -> None:
    file = compare(study).folder / "study.json"
    card = json.loads(file.read_text())
    now = card["environment"]["srtoolbox"]
    card["environment"]["srtoolbox"] = version or now
    for entry in card["entries"]:
        entry["identity"] = "0123"
    file.write_text(json.dumps(card))
    assert rows(compare(study, only=("Bicubic",))) == ALL[::2]
    reason = f"of srtoolbox 0.0.1, not {now}" if version else "of other options or code"
    assert caplog.messages == [
        f"EDSR: its earlier results are {reason}, and are left out; run it without --only to have "
        "it in the table"
    ]


def test_another_protocol_leaves_the_others_in_the_tables_that_they_have(
    study: Path, caplog
) -> None:
    compare(study, "seeds=[0]")
    store = compare(study, "seeds=[0]", "protocols=[rgb, basicsr-y]", only=("Bicubic",))
    found = {entry.method: entry for entry in store.load_card().entries}
    assert {*found["Bicubic"].other_protocols} == {"basicsr-y"}
    assert found["EDSR"].evaluations and not found["EDSR"].other_protocols
    assert caplog.messages == [
        "EDSR, seed 0: its scores on sample are of other files, metrics or protocols and are left "
        "out; run it without --only to evaluate again"
    ]

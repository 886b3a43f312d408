"""Finished studies get more metrics and protocols from their stored weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support.studies import compare

from srtoolbox.cli import main
from srtoolbox.comparison.report.write import write_report
from srtoolbox.comparison.store import Entry, ResultStore
from srtoolbox.comparison.study import score as module
from srtoolbox.comparison.study.score import score_study
from srtoolbox.config.files import plain
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import NIQE


@pytest.fixture(autouse=True)
def _no_model_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SRTOOLBOX_NIQE_MODEL", raising=False)


@pytest.fixture
def untrained(tmp_path: Path) -> ResultStore:
    """A finished study of Bicubic and a cascade of it, on two images."""
    for index, folder in enumerate(("hr", "lr")):
        (tmp_path / folder).mkdir()
        for name in "ab":
            size = (108 // 4**index, 208 // 4**index, 3)
            pixels = np.random.default_rng(ord(name)).integers(0, 256, size, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    path = tmp_path / "study.yml"
    path.write_text(
        f"""
name: plain
scale: 4
path: {{experiments_root: '{tmp_path / "experiments"}'}}
datasets:
  test:
    pairs:
      type: PairedImages
      dataroot_lq: '{tmp_path / "lr"}'
      dataroot_gt: '{tmp_path / "hr"}'
methods:
  Bicubic: {{network_g: {{type: Bicubic}}}}
  Sharper: {{network_g: {{type: Bicubic}}, val: {{enhance: {{back_projection: 2}}}}}}
"""
    )
    return compare(path)


def by_method(store: ResultStore, protocol: str | None = None) -> dict[str, list[dict]]:
    """Returns the scores of each image by method."""

    def evaluations(entry: Entry) -> dict[str, str]:
        return entry.evaluations if protocol is None else entry.other_protocols[protocol]

    return {
        entry.method: [
            record["metrics"]
            for evaluation in evaluations(entry).values()
            for record in store.records(evaluation)
        ]
        for entry in store.load_card().entries
    }


@pytest.mark.slow
def test_command(untrained: ResultStore, capsys: pytest.CaptureFixture[str]) -> None:
    folder = untrained.folder
    arguments = ["--metrics", "niqe,sam", "--protocol", "basicsr-y", "--device", "cpu"]
    assert main(["score", str(folder), *arguments]) == 0
    assert "NIQE" in capsys.readouterr().out
    for name in ("table.md", "report.html", "table.csv", "table.tex"):
        text = (folder / name).read_text()
        assert "NIQE (srtoolbox model)" in text and "SAM" in text
        assert "basicsr-y" in text or name.endswith(".csv")


@pytest.mark.slow
def test_niqe_is_added(untrained: ResultStore) -> None:
    before, folder = by_method(untrained), untrained.folder
    costs = (folder / "costs.jsonl").read_text()
    store = score_study(folder, ["niqe"], device="cpu")
    after = by_method(store)
    for method, scores in after.items():
        assert [{"psnr": s["psnr"], "ssim": s["ssim"]} for s in scores] == before[method]
        assert all(s["niqe"] > 0 for s in scores)
    assert after["Bicubic"] != after["Sharper"]
    assert (folder / "costs.jsonl").read_text() == costs
    card = store.load_card()
    assert card.metrics["niqe"]["source"]["content"] == NIQE().model.content
    write_report(folder, ["md", "csv"])
    for name in ("table.md", "table.csv"):
        assert "NIQE (srtoolbox model)" in (folder / name).read_text()
    assert "NIQE uses srtoolbox's own model (SHA-256 " in (folder / "table.md").read_text()

    # A study whose option file has the metric gets the same columns, and evaluates nothing again.
    lines = (folder / "results.jsonl").read_text()
    options = folder.parents[2] / "study.yml"
    same = compare(
        options,
        "val.metrics.psnr={type: PSNR}",
        "val.metrics.ssim={type: SSIM}",
        "val.metrics.niqe={type: NIQE}",
    )
    assert by_method(same) == after
    assert (folder / "results.jsonl").read_text() == lines
    assert by_method(score_study(folder, ["NIQE"])) == after
    assert (folder / "results.jsonl").read_text() == lines


def test_a_protocol_is_added(untrained: ResultStore) -> None:
    before = by_method(untrained)
    store = score_study(untrained.folder, protocols=["basicsr-y"])
    assert by_method(store) == before
    luma = by_method(store, "basicsr-y")
    assert luma["Bicubic"] != before["Bicubic"] and len(luma["Bicubic"]) == 2
    assert [protocol["name"] for protocol in store.load_card().protocols] == ["rgb", "basicsr-y"]
    assert by_method(score_study(store.folder, ["sam"]), "basicsr-y")["Bicubic"][0]["sam"] > 0


def test_the_frame_use_is_copied_unless_the_files_have_changed(
    untrained: ResultStore, tmp_path: Path
) -> None:
    use: dict[str, float | None] = {"1 frame": 30.0, "reference only": 29.0}

    def entry(store: ResultStore) -> str:
        return store.load_card().entries[0].evaluations["pairs"]

    before = entry(untrained)
    untrained.add_frame_use({"evaluation": before, "psnr": use})
    store = score_study(untrained.folder, ["uiqi"])
    assert entry(store) != before and store.frame_use(entry(store)) == use
    image = tmp_path / "hr" / "a.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    store = score_study(untrained.folder, ["sam"])
    assert store.frame_use(entry(store)) is None


@pytest.mark.slow
def test_names_of_columns(untrained: ResultStore) -> None:
    store = score_study(untrained.folder, ["psnr:bands=[1]", "ssim"])
    assert list(store.load_card().metrics) == ["psnr", "ssim", "psnr_bands_1"]


@pytest.mark.parametrize("earlier", [{"type": "PSNR", "bands": [1]}, {"type": "CPSNR"}])
def test_a_metric_whose_name_another_one_has(untrained: ResultStore, earlier: dict) -> None:
    """The earlier column stays, and the new one has the options that were asked for."""
    file = untrained.folder / "study.yml"
    options = yaml.safe_load(file.read_text())
    options["val"] = {**(options.get("val") or {}), "metrics": {"psnr": earlier}}
    file.write_text(yaml.safe_dump(options))
    for _ in range(2):  # the second command finds both
        opt, _, added = module._options(untrained.folder, ["psnr"], [])
        assert plain(opt.val.metrics) == {"psnr": earlier, "psnr_2": {"type": "PSNR"}}
        assert added == ["psnr_2"]
        options["val"]["metrics"] = plain(opt.val.metrics)
        file.write_text(yaml.safe_dump(options))


def test_a_failed_method_with_some_scores_stays_as_it_is(untrained: ResultStore) -> None:
    card = untrained.load_card()
    other, failed = card.entries
    failed.failure = "non-finite output on the second test set"
    untrained.save_card(card)
    now = score_study(untrained.folder, ["uiqi"]).load_card()
    assert now.entries[1] == failed
    assert now.entries[0].evaluations.keys() == other.evaluations.keys()
    assert now.entries[0].evaluations != other.evaluations
    write_report(untrained.folder, ["md"])


@pytest.mark.slow
def test_metrics_of_pyiqa(untrained: ResultStore) -> None:
    pytest.importorskip("pyiqa")
    store = score_study(untrained.folder, ["pyiqa:piqe", "pyiqa:psnry,options.color_space=ycbcr"])
    facts = store.load_card().metrics
    assert list(facts) == ["psnr", "ssim", "piqe", "psnry"]
    assert not facts["piqe"]["higher_is_better"] and facts["psnry"]["higher_is_better"]
    assert facts["piqe"]["source"]["text"].startswith("piqe of pyiqa ")
    (first, *_) = by_method(store)["Bicubic"]
    assert first["piqe"] > 0 and first["psnry"] > first["psnr"]  # luma has a smaller range
    write_report(store.folder, ["md"])
    assert "PIQE uses piqe of pyiqa " in (store.folder / "table.md").read_text()


@pytest.mark.slow
def test_a_moved_study(untrained: ResultStore, tmp_path: Path) -> None:
    moved = shutil.move(untrained.folder, tmp_path / "elsewhere")
    assert by_method(score_study(Path(moved), ["uiqi"]))["Bicubic"][0]["uiqi"] is not None


def test_mistakes(
    untrained: ResultStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = untrained.folder
    lines = (folder / "results.jsonl").read_text()
    for arguments, words in (
        ([str(tmp_path / "none"), "--metrics", "niqe"], "none: no study here"),
        ([str(folder)], "nothing to add: give --metrics, or --protocol"),
        ([str(folder), "--metrics", "niqee"], "niqee"),
        ([str(folder), "--protocol", "rgbb"], "unknown protocol 'rgbb'; did you mean 'rgb'"),
        ([str(folder), "--metrics", "tof"], "tof' compares neighbouring frames"),
    ):
        assert main(["score", *arguments]) == 2, words
        assert words in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert (folder / "results.jsonl").read_text() == lines
    (folder / "study.yml").write_text(
        (folder / "study.yml").read_text().replace("Sharper", "Softer")
    )
    with pytest.raises(UserError, match="no method Sharper with seed 0"):
        score_study(folder, ["sam"])


@pytest.mark.slow
def test_unavailable_metrics(untrained: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NIQE, "available", lambda _: "it lacks a file")
    with pytest.raises(RunError, match="niqe: it lacks a file"):
        score_study(untrained.folder, ["niqe"])
    assert "niqe" not in untrained.load_card().metrics


@pytest.mark.slow
def test_earlier_columns_stay_as_they_are(
    untrained: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = score_study(untrained.folder, ["niqe"]).folder
    own = by_method(ResultStore(folder))
    np.savez(tmp_path / "other.npz", mu=np.zeros(36), cov=np.eye(36))
    monkeypatch.setenv("SRTOOLBOX_NIQE_MODEL", str(tmp_path / "other.npz"))
    with pytest.raises(RunError, match=r"niqe was computed with srtoolbox's own .* add it to"):
        score_study(folder, ["sam"])
    other = by_method(score_study(folder, ["niqe"]))
    assert own["Bicubic"][0]["niqe"] != other["Bicubic"][0]["niqe"]
    with monkeypatch.context() as context:
        context.setattr(NIQE, "available", lambda _: "it lacks a file")
        with pytest.raises(RunError, match="niqe: it lacks a file"):
            score_study(folder, ["sam"])
    assert by_method(ResultStore(folder)) == other


@pytest.mark.slow
def test_other_weights(untrained: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "weights_hash", lambda _: "0" * 12)
    with pytest.raises(RunError, match=r"Bicubic, seed 0: .* are not the weights that the study"):
        score_study(untrained.folder, ["niqe"])


@pytest.mark.slow
def test_nothing_is_trained(
    study_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame_use = "report: {frame_use: true}\nmethods: {Bicubic: !delete}\n"
    store = compare(study_file(frame_use))
    monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("trained again"))
    before, card = by_method(store), store.load_card()
    file = store.folder / "frame_use.jsonl"
    (use,) = map(json.loads, file.read_text().splitlines())
    # Other values than those that a measurement has, to see that they are copied.
    use["psnr"] = {frames: number for number, frames in enumerate(use["psnr"])}
    file.write_text(json.dumps(use) + "\n")
    # Another version of the toolbox has other hashes of trainings, but the weights are the same.
    monkeypatch.setattr("srtoolbox.engine.build._TRAINING_REVISION", 99)
    store = score_study(store.folder, ["uiqi"])
    new = store.load_card()
    for method, scores in by_method(store).items():
        assert [{k: v for k, v in s.items() if k != "uiqi"} for s in scores] == before[method]
        assert all(s["uiqi"] is not None for s in scores)
    for old, entry in zip(card.entries, new.entries, strict=True):
        expected = use["psnr"] if entry.method == "EDVR" else None
        assert store.frame_use(entry.evaluations["sample"]) == expected
        assert (entry.run, entry.cost, entry.steps, entry.train_seconds) == (
            *(old.run, old.cost, old.steps, old.train_seconds),
        )

    weights = store.folder / str(new.entries[0].run) / "weights" / "net_g_latest.pth"
    other = store.folder / str(new.entries[1].run)
    (other / "finished.json").rename(other / "kept.json")
    with pytest.raises(RunError, match=r"EDVR, seed 0: .* has no finished training"):
        score_study(store.folder, ["sam"])
    (other / "kept.json").rename(other / "finished.json")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises((RunError, UserError), match=r"net_g_latest\.pth"):
        score_study(store.folder, ["sam"])

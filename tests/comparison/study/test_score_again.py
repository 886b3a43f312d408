"""A study that was scored without LPIPS gets it by scoring again, without a new training."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.backbones import write_backbone
from support.studies import compare

from srtoolbox.comparison.report.write import write_report
from srtoolbox.comparison.store import ResultStore
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.errors import UserError

LPIPS = """
val: {metrics: {psnr: {type: PSNR}, ssim: {type: SSIM}, lpips: {type: LPIPS}}}
methods: {EDVR: !delete}
"""


@pytest.fixture(autouse=True)
def _torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lpips")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))


def metrics(store: ResultStore) -> list[dict[str, float | None]]:
    entries = store.load_card().entries
    return [r["metrics"] for e in entries for r in store.records(e.evaluations["sample"])]


def trainings(store: ResultStore) -> dict[Path, tuple[int, bytes]]:
    files = [path for path in store.folder.glob("runs/**/*") if path.is_file()]
    kept = [path for path in files if path.name != ".lock"]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept}


@pytest.mark.slow
def test_lpips_is_added_to_finished_trainings(study_file, tmp_path, monkeypatch) -> None:
    path = study_file(LPIPS)
    store = compare(path)
    first, files = metrics(store), trainings(store)
    assert len(first) == 6 and files
    assert all(scores["lpips"] is None for scores in first)
    write_report(store.folder, ["md"])
    text = (store.folder / "table.md").read_text()
    assert "LPIPS ↓" not in text
    (note,) = [line for line in text.splitlines() if "LPIPS is left out" in line]
    for words in ("srtoolbox fetch lpips", "option backbone", "LPIPS\\_BACKBONE", "compare"):
        assert words in note

    monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("trained again"))
    file = write_backbone(tmp_path / "alex.pth")
    monkeypatch.setenv("SRTOOLBOX_LPIPS_BACKBONE", str(file))
    second = metrics(store := compare(path))
    assert trainings(store) == files
    assert all(scores["lpips"] > 0 for scores in second)
    assert [{**scores, "lpips": None} for scores in second] == first
    write_report(store.folder, ["md", "csv", "html", "latex"])
    for name in ("table.md", "report.html"):
        text = (store.folder / name).read_text()
        assert "LPIPS" in text and "alex.pth, which differs from torchvision" in text
    assert "LPIPS" in (store.folder / "table.csv").read_text().splitlines()[0]
    assert "LPIPS~$\\downarrow$" in (store.folder / "table.tex").read_text()

    # Neither the path nor the form of the file matters, only its content.
    lines = (store.folder / "results.jsonl").read_text()
    whole = write_backbone(tmp_path / "whole.pth", whole=True)
    option = f"val.metrics.lpips.backbone={whole}"
    assert metrics(compare(path, option)) == second
    assert (store.folder / "results.jsonl").read_text() == lines
    write_backbone(whole, seed=1)
    with pytest.raises(UserError, match=r"lpips was computed with .* run all methods"):
        compare(path, option, only=("EDSR",))
    third = metrics(compare(path, option))
    assert all(new["lpips"] != old["lpips"] for new, old in zip(third, second, strict=True))
    assert trainings(store) == files

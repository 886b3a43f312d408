"""The gain of multi-frame methods from other frames, in a study and its report."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import studies

from srtoolbox.comparison.report.write import write_report
from srtoolbox.comparison.store import ResultStore
from srtoolbox.engine.evaluation.evaluator import Evaluator


def compare(path: Path, *overrides: str) -> ResultStore:
    return studies.compare(path, "train.total_iter=2", "val.val_freq=2", *overrides)


@pytest.mark.slow
def test_it_is_measured_once_and_reported(study_file, monkeypatch) -> None:
    path = study_file("report: {frame_use: true}")
    counts: list[int] = []  # of the samples of each measurement of frame use
    run = Evaluator.run

    def count(self: Evaluator, net, dataset, *args, **options):
        if type(dataset).__name__ == "_ReorderedFrames":
            counts.append(len(dataset))
        return run(self, net, dataset, *args, **options)

    monkeypatch.setattr(Evaluator, "run", count)
    (gain,) = compare(path).frame_uses()
    assert list(gain["psnr"]) == ["3 frames", "reference only"]
    assert counts == [3]  # one pass, as many as the scores need

    store = compare(path, "report.frame_curve=true")
    assert counts == [3, 3, 3]  # only what is missing
    (use,) = store.frame_uses()  # of EDVR alone: the others see one frame
    assert gain["psnr"].items() <= use["psnr"].items()
    entries = {entry.method: entry for entry in store.load_card().entries}
    evaluation = entries["EDVR"].evaluations["sample"]
    assert use["evaluation"] == evaluation
    assert list(use["psnr"]) == ["1 frame", "3 frames", "reference only", "shuffled"]
    records = store.records(evaluation)
    mean = sum(record["metrics"]["psnr"] for record in records) / len(records)
    assert use["psnr"]["3 frames"] == mean

    write_report(store.folder, ["md"])
    report = (store.folder / "table.md").read_text()
    table = report.partition("sample: PSNR (dB) by input frames")[2]
    head = next(line for line in table.splitlines() if line.startswith("| method"))
    titles = [title.strip() for title in head.split("|")[2:-1]]
    frames = ["1 frame", "3 frames", "reference repeated", "shuffled"]
    assert titles == [*frames, "gain from other frames"]
    row = next(line for line in table.splitlines() if line.startswith("| EDVR"))
    cells = [float(cell.strip(" *+").replace("−", "-")) for cell in row.split("|")[2:-1]]
    psnr = list(use["psnr"].values())
    assert cells == pytest.approx([*psnr, psnr[1] - psnr[2]], abs=0.0051)

    monkeypatch.setattr(Evaluator, "run", None)  # a second run must not measure again
    assert compare(path, "report.frame_curve=true").frame_uses() == [use]


@pytest.mark.slow
def test_it_is_off_by_default(study_file) -> None:
    assert compare(study_file()).frame_uses() == []


@pytest.mark.slow
def test_it_may_be_measured_on_some_test_sets(study_file) -> None:
    data = "{{type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: {}}}"
    path = study_file(
        f"datasets: {{val: !delete, test: {{a: {data.format(1)}, b: {data.format(2)}}}}}\n"
        "report: {frame_use: [b], sweeps: {x: {a: 0, b: 1}}}\n"
        "methods: {Bicubic: !delete, EDSR: !delete}\n"
    )
    store = compare(path)
    (use,) = store.frame_uses()
    (entry,) = store.load_card().entries
    assert use["evaluation"] == entry.evaluations["b"] != entry.evaluations["a"]
    write_report(store.folder, ["md", "html"])
    assert "## b: PSNR (dB) by input frames" in (store.folder / "table.md").read_text()
    page = (store.folder / "report.html").read_text()
    assert 'id="statistics:-b"' in page and 'id="statistics:-a"' not in page

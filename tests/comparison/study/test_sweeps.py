"""Test sets that differ in one quantity are shown as curves."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.report.charts import draw_sweeps
from srtoolbox.comparison.report.tables import all_tables
from srtoolbox.comparison.report.write import write_report
from srtoolbox.comparison.store import Published, ResultStore
from srtoolbox.comparison.study.merge import merge_studies
from srtoolbox.comparison.study.run import run_study
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import OptionErrors

SHIFT, NOISE = "largest shift (HR pixels)", "noise σ <levels>"


@pytest.fixture
def swept(rich_study: Path) -> Path:
    """The rich study with two more test sets and two sweeps, one with a missing test set."""
    store = ResultStore(rich_study)
    card = store.load_card()
    for entry in card.entries:
        for named in (entry.evaluations, *entry.other_protocols.values()):
            if named:
                named |= {"far": named["images"], "near": named["clips"]}
    card.sweeps = {SHIFT: {"far": 12.5, "near": 0}, NOISE: {"near": 0, "nowhere": 1, "far": 20}}
    card.published.append(Published("TDAN", "far", "duf-y", {"psnr": 29.0}, "Tian et al."))
    store.save_card(card)
    return rich_study


def load(folder: Path) -> list[Scores]:
    store = ResultStore(folder)
    return [Scores(store, card) for card in store.load_card().views()]


def test_a_table_of_each_quantity(swept: Path) -> None:
    views = load(swept)
    tables = {table.title: table for table in all_tables(views)}
    table = tables[f"PSNR (dB) ↑ by {SHIFT}, protocol duf-y"]
    assert [column.title for column in table.columns] == ["0", "12.5"]
    names = ["Bicubic", "A_B & <i>C</i>", "Net|D$", "Late", "TDAN (published)"]
    assert table.names == names
    means = [means["psnr"] for means in views[0].seed_means("Late", "near")]
    assert table.values[3][0] == pytest.approx(np.mean(means))
    assert table.spreads[3, 0] == pytest.approx(np.std(means, ddof=1))
    assert (table.cell(3, 0).rank, table.cell(3, 1).rank, table.values[4]) == (1, 1, [None, 29.0])
    assert table.notes[0].startswith("Protocol duf-y")
    assert table.notes[1] == (
        "Test sets from left to right: near, far. Mean ± standard deviation over seeds."
    )
    other = tables[f"PSNR (dB) ↑ by {NOISE}, protocol rgb"]
    assert [row[1] for row in other.values] == [None] * 4  # no method has scores there yet


def test_swept_test_sets_are_in_no_other_table(swept: Path) -> None:
    views = load(swept)
    assert views[0].main_datasets == ["clips", "images"]
    others = [table for table in all_tables(views) if table.quantity is None]
    assert {table.dataset for table in others} == {None, "clips", "images"}
    assert {column.dataset for column in others[0].columns} == {None, "clips", "images"}
    assert "DUF (published)" in others[0].names and "TDAN (published)" not in others[0].names


def test_one_set_under_two_names_has_one_table_of_its_frames(swept: Path) -> None:
    store = ResultStore(swept)
    for entry in store.load_card().entries:
        if "images" in entry.evaluations:
            use = {"1 frame": 30.0, "3 frames": 31.0, "reference only": 30.0}
            store.add_frame_use({"evaluation": entry.evaluations["images"], "psnr": use})
    views = load(swept)
    assert [name for name in views[0].datasets if views[0].repeats(name)] == ["far", "near"]
    found = [table.dataset for table in all_tables(views) if "by input frames" in table.title]
    assert found == ["images"]


def test_a_panel_of_each_quantity(swept: Path) -> None:
    (scores, _) = load(swept)
    figure = draw_sweeps(scores)
    left, right = figure.axes
    assert (left.get_xlabel(), right.get_xlabel()) == (SHIFT, NOISE)
    assert left.get_ylabel() == "PSNR (dB)"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["Bicubic", "A_B & <i>C</i>", "Net|D$", "Late"]
    for line, method in zip(left.lines, labels, strict=True):
        means = [
            np.mean([means["psnr"] for means in scores.seed_means(method, name)])
            for name in ("near", "far")
        ]
        assert line.get_xdata().tolist() == [0, 12.5]
        assert line.get_ydata() == pytest.approx(means)
    assert len(left.collections) == 4  # a band around each
    assert right.lines[0].get_xdata().tolist() == [0, 20]


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (4, (2, 2)), (5, (2, 3))])
def test_several_quantities_are_a_grid(swept: Path, count: int, shape: tuple[int, int]) -> None:
    (scores, _) = load(swept)
    scores.card.sweeps = {str(i): scores.card.sweeps[SHIFT] for i in range(count)}
    axes = draw_sweeps(scores).axes
    assert len([axis for axis in axes if axis.get_visible()]) == count
    assert axes[0].get_gridspec().get_geometry() == shape


@pytest.mark.slow
def test_sweeps_are_in_every_report(swept: Path) -> None:
    report = write_report(swept)
    names = {str(path.relative_to(swept)) for path in report.files}
    assert {"figures/sweeps.svg", "figures/sweeps.png"} <= names
    assert not any("far" in name or "near" in name for name in names)
    assert not any("far" in column.title for column in report.overview.columns)
    with Image.open(swept / "figures" / "sweeps.png") as image:
        assert image.width > 1000 and np.ptp(np.asarray(image)) > 100
    page = (swept / "report.html").read_text()
    section = page.partition('<section id="sweeps">')[2].partition("</section>")[0]
    assert section.count("<table>") == 4 and "data:image/svg+xml" in section
    assert "by noise σ &lt;levels&gt;" in section and "statistics:-far" not in page
    assert f"## PSNR (dB) ↑ by {SHIFT}" in (swept / "table.md").read_text()
    assert "by largest shift (HR pixels)" in (swept / "table.tex").read_text()
    rows = list(csv.DictReader((swept / "images.csv").open()))
    assert {row["dataset"] for row in rows} == {"clips", "images", "far", "near"}


@pytest.mark.slow
def test_a_study_of_sweeps_only_has_a_report(swept: Path) -> None:
    store = ResultStore(swept)
    card = store.load_card()
    card.sweeps = {"all": {"clips": 0, "images": 1, "far": 2, "near": 3}}
    store.save_card(card)
    report = write_report(swept)
    assert report.overview.columns[0].title == "params (K)"
    assert "figures/sweeps.png" in {str(path.relative_to(swept)) for path in report.files}


def test_an_older_study_has_no_sweeps(rich_study: Path) -> None:
    path = rich_study / "study.json"
    content = json.loads(path.read_text())
    assert content.pop("sweeps") == {}
    path.write_text(json.dumps(content))
    scores = Scores(ResultStore(rich_study))
    assert draw_sweeps(scores) is None and scores.main_datasets == scores.datasets


POINT = "{type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: 1}"
SETS = f"datasets: {{val: !delete, test: {{sample: {POINT}, low: {POINT}, high: {POINT}}}}}\n"


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (
            "sweeps: {x: {low: 0, hihg: 1}}",
            "report.sweeps.x.hihg: no test set 'hihg'; there are: s",
        ),
        ("sweeps: {x: {low: 0}}", "report.sweeps.x: a curve needs at least two test sets, got 1"),
        ("sweeps: {x: {}}", "report.sweeps.x: a curve needs at least two test sets, got 0"),
        ("sweeps: {x: {low: 0, high: far}}", "report.sweeps.x.high: expected a number, got"),
        ("sweeps: {x: {low: 0, high: .inf}}", "report.sweeps.x.high: must be finite, got inf"),
        ("sweeps: {x: {low: 1, high: 1.0}}", "report.sweeps.x.high: 'low' is at 1 already"),
        ("sweeps: {x: [low, high]}", "report.sweeps.x: expected a mapping"),
        ("frame_use: [sample, hihg]", "report.frame_use.1: no test set 'hihg'; there are: sample"),
        ("frame_use: sample", "report.frame_use: expected true or false, got 'sample'"),
    ],
)
def test_faulty_sweeps_are_refused(study_file, report: str, message: str) -> None:
    with pytest.raises(OptionErrors) as caught:
        load_options(study_file(f"{SETS}report: {{{report}}}"), (), StudyOptions)
    (line,) = caught.value.errors
    assert message in line and line.partition(": ")[0].endswith("study.yml:3")


def test_sweeps_of_a_study_and_of_merged_parts(study_file, tmp_path: Path) -> None:
    only = ["methods.EDSR=!delete", "methods.EDVR=!delete"]
    path = study_file(f"{SETS}report: {{sweeps: {{noise: {{low: 0, high: 5}}}}}}")
    opt, tree = load_options(path, only, StudyOptions)
    store = run_study(opt, tree, torch.device("cpu"))
    assert store.load_card().sweeps == {"noise": {"low": 0.0, "high": 5.0}}
    part = write_part(store.folder, tmp_path / "part", {"noise": {"low": 9.0}, "blur": {"low": 1}})
    merged = merge_studies([store.folder, part], tmp_path / "merged").load_card()
    assert merged.sweeps == {"noise": {"low": 0.0, "high": 5.0}, "blur": {"low": 1}}
    # One set under several names is evaluated once, and each name has images to show.
    lines = (store.folder / "results.jsonl").read_text().splitlines()
    assert len(lines) == 1
    shown = {path.parent.name for path in (store.folder / "images").glob("*/*_gt.png")}
    assert shown == {"sample", "low", "high"}


def write_part(folder: Path, target: Path, sweeps: dict) -> Path:
    """Writes another part of the same study with other sweeps."""
    store, part = ResultStore(folder), ResultStore(target)
    card = store.load_card()
    card.entries, card.sweeps = [], sweeps
    part.save_card(card)
    (target / "study.yml").write_text((folder / "study.yml").read_text())
    return target

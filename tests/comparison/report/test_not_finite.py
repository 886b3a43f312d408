"""Infinite and NaN scores in the tables, the page and the files of a report."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from srtoolbox.comparison.analysis.scores import Scores, nan_results
from srtoolbox.comparison.report import style
from srtoolbox.comparison.report.charts import draw_differences, draw_tradeoff
from srtoolbox.comparison.report.tables import all_tables, statistics
from srtoolbox.comparison.report.write import write_report
from srtoolbox.comparison.store import Entry, ResultStore, StudyCard

_PROTOCOL = {"name": "rgb", "hash": "0123", "text": "Protocol.", "average": "images"}
_PSNR = {"higher_is_better": True, "unit": "dB", "digits": 2, "unavailable": None}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Scores]:
    """Stores a study with these values (n,) by method; ``keys`` names the images."""

    def write(methods: dict[str, list[float]], keys: list[str] | None = None) -> Scores:
        store = ResultStore(tmp_path / "study")
        environment = {
            "packages": {"torch": "2"}, "device": "a CPU", "threads": 1, "srtoolbox": "1",
            "commit": "c", "python": "3", "platform": "Linux",
        }  # fmt: skip
        card = StudyCard("odd", 4, _PROTOCOL, {"psnr": _PSNR}, "none", environment)
        for method, values in methods.items():
            names = keys or [f"im{i}" for i in range(len(values))]
            card.entries.append(Entry(method, 0, evaluations={"Set": method}))
            store.add_records([
                {"evaluation": method, "method": method, "seed": 0, "dataset": "Set", "key": key,
                 "index": i, "of": len(values), "metrics": {"psnr": value}}
                for i, (key, value) in enumerate(zip(names, values, strict=True))
            ])  # fmt: skip
        store.save_card(card)
        return Scores(ResultStore(store.folder))

    return write


_GOOD, _BAD = [27.4, 27.6] * 5, [19.2, 19.1] * 5


@pytest.mark.parametrize("black", [(math.inf, math.inf), (math.inf, 70.0), (60.0, math.inf)])
def test_a_black_image_spoils_no_mean_and_no_test(make, black) -> None:
    scores = make({"Net": [*_GOOD, black[0]], "Bicubic": [*_BAD, black[1]]})
    overview, table = all_tables([scores])[0], statistics(scores, "Set", "psnr")
    assert [row[0] for row in overview.values] == pytest.approx([27.5, 19.15])
    assert [row[0] for row in table.values] == pytest.approx([27.5, 19.15])
    assert table.values[1][1] == pytest.approx(-8.35)
    assert table.values[1][2] < 1e-3
    assert not table.tied_with_best
    assert not overview.tied_with_best
    for found in (overview, table):
        (note,) = [note for note in found.notes if "infinite" in note]
        assert "1 of 11 images (im10)" in note
        assert "leave these images out for all methods" in note
    assert draw_differences(scores, "Set") is not None
    draw_tradeoff(scores, "Set")


def test_a_perfect_method_takes_no_image_from_the_others(make) -> None:
    scores = make({"Perfect": [math.inf] * 10, "Net": _GOOD, "Bicubic": _BAD})
    table = statistics(scores, "Set", "psnr")
    assert [row[0] for row in table.values] == pytest.approx([math.inf, 27.5, 19.15])
    assert [row[2] for row in table.values] == [None] * 3  # no test against the perfect one
    assert not table.tied_with_best
    against = statistics(scores, "Set", "psnr", baseline="Bicubic")
    assert against.values[1][2] < 1e-3
    assert any("Perfect: 10 of 10 images (im0, im1, im2 and 7 more)" in n for n in table.notes)


def test_methods_without_common_finite_images_have_their_own_means(make) -> None:
    scores = make({"A": [math.inf, 30.0, 31.0], "B": [29.0, math.inf, math.inf]})
    table = statistics(scores, "Set", "psnr")
    assert [row[0] for row in table.values] == [30.5, 29.0]
    assert [row[1:] for row in table.values] == [[None, None]] * 2
    assert not table.tied_with_best


def test_clips_leave_out_their_infinite_frames(make) -> None:
    keys = [f"{clip}/{frame}" for clip in "abc" for frame in range(3)]
    net = [30, math.inf, 32, 33, 34, 35, *[math.inf] * 3]
    scores = make({"Net": net, "Bicubic": [20.0] * 9}, keys)
    samples = scores.samples("Set", "psnr")
    assert samples["Net"].tolist() == [31, 34]
    assert samples["Bicubic"].tolist() == [20, 20]


def test_nan_is_named_and_is_neither_best_nor_tied(make) -> None:
    broken = [math.nan if i in (2, 5, 7) else 40.0 for i in range(12)]
    scores = make({"Broken": broken, "Net": [*_GOOD, 27, 28], "Bicubic": [*_BAD, 19, 19]})
    overview, table = all_tables([scores])[0], statistics(scores, "Set", "psnr")
    assert overview.cell(0, 0).text == "nan"
    assert overview.cell(1, 0).rank == 1
    note = "Set: PSNR of Broken: 3 of 12 images are not finite (im2, im5, im7)."
    assert note in overview.notes
    assert note in table.notes
    assert table.values[2][2] < 1e-3
    assert not table.tied_with_best


def test_nan_everywhere_has_no_baseline(make) -> None:
    scores = make({"A": [math.nan] * 12, "B": [math.nan] * 12})
    table = statistics(scores, "Set", "psnr")
    assert [row[1:] for row in table.values] == [[None, None]] * 2
    assert all(table.cell(row, 0).text == "nan" for row in range(2))


def test_all_files_are_written_and_valid(make) -> None:
    scores = make({"Net": [*_GOOD, math.inf], "Broken": [*_BAD, math.nan]})
    folder = scores.store.folder
    report = write_report(folder)
    page = (folder / "report.html").read_text()
    assert 'data-value="nan"' not in page  # sorts last, as empty cells do
    assert 'data-value="inf"' not in page
    assert 'data-value="Infinity"' in page or "inf" not in (folder / "table.md").read_text()
    rows = list(csv.DictReader((folder / "images.csv").open()))
    assert {row["value"] for row in rows} >= {"inf", "nan"}
    assert "nan" in (folder / "table.tex").read_text()
    assert report.files
    for line in (folder / "results.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    again = [r["metrics"]["psnr"] for e in ("Net", "Broken") for r in scores.store.records(e)]
    assert np.isinf(again).sum() == 1
    assert np.isnan(again).sum() == 1


def test_names_without_glyphs_give_one_note(make, caplog, recwarn) -> None:
    style._note_missing_characters.cache_clear()
    scores = make({"超分辨率网络": _GOOD, "Bicubic\U000f1234": _BAD})
    write_report(scores.store.folder, ["figures", "html"])
    assert caplog.text.count("figures show boxes") == 1  # no font has U+F1234
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_compare_fails_on_nan(make) -> None:
    scores = make({"Broken": [1.0, math.nan, 3.0], "Net": [1.0, 2.0, math.inf]})
    (text,) = nan_results(scores.store, scores.store.load_card())
    assert "Broken (seed 0) on Set" in text
    assert "psnr: 1 of 3 images are not finite (im1)" in text


def _drop(scores: Scores, evaluation: str, key: str) -> Scores:
    """Deletes the line of an image from the results."""
    path = scores.store.folder / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    kept = [
        line
        for line in lines
        if (json.loads(line)["evaluation"], json.loads(line)["key"]) != (evaluation, key)
    ]
    assert len(kept) == len(lines) - 1
    path.write_text("".join(kept))
    return Scores(ResultStore(scores.store.folder))


def test_a_missing_line_is_named(make) -> None:
    scores = _drop(make({"Bicubic": [20.0, 21.0, 22.0], "Net": [1.0, 2.0, 3.0]}), "Bicubic", "im1")
    note = "Bicubic, Set: 2 of 3 images have scores (missing: im1)."
    for table in all_tables([scores]):
        assert table.notes.count(note) == 1
    assert note in (write_report(scores.store.folder, ["md"]).overview.notes)
    alone = _drop(make({"Only": [20.0, 21.0, 22.0]}), "Only", "im2")
    assert "Only, Set: 2 of 3 images have scores (missing: number 3)." in overview_notes(alone)


def test_an_evaluation_without_any_line_is_named_once(make) -> None:
    scores = make({"Bicubic": [20.0, 21.0], "Net": [1.0, 2.0]})
    for key in ("im0", "im1"):
        scores = _drop(scores, "Bicubic", key)
    note = "Bicubic, Set: all points are missing in results.jsonl."
    assert overview_notes(scores).count(note) == 1
    assert note in write_report(scores.store.folder).overview.notes
    assert not any("Net, Set" in text for text in overview_notes(scores))


@pytest.mark.parametrize("other", [5.0, math.inf, -math.inf])
def test_minus_infinity_is_in_the_mean_of_a_higher_is_better_metric(make, other) -> None:
    scores = make({"Net": [*_GOOD, -math.inf], "Bicubic": [*_BAD, other]})
    overview, table = all_tables([scores])[0], statistics(scores, "Set", "psnr")
    expected = [-math.inf, 19.15 if other == math.inf else (191.5 + other) / 11]
    for found in (overview, table):
        assert [row[0] for row in found.values] == pytest.approx(expected)
        (note,) = [note for note in found.notes if "infinite" in note]
        assert "scores of -inf, the worst ones, are not left out: their means are infinite" in note
    assert [row[2] for row in table.values] == [None, None]
    assert not overview.tied_with_best
    assert scores.left_out("Set", "psnr") == frozenset()
    write_report(scores.store.folder)


@pytest.mark.parametrize("higher", [True, False])
def test_the_tradeoff_has_the_means_of_the_table(make, monkeypatch, higher: bool) -> None:
    monkeypatch.setitem(_PSNR, "higher_is_better", higher)
    worst = -math.inf if higher else math.inf
    scores = make({"Net": [1.0, worst], "Bicubic": [3.0, 4.0]})
    # Two seeds of Net: only one of them has an infinite mean.
    scores.entries["Net"] = [
        Entry("Net", 0, evaluations={"Set": "Bicubic"}),
        *scores.entries["Net"],
    ]
    monkeypatch.setattr(scores, "cost", lambda _: {"params": 1e6})
    figure = draw_tradeoff(scores, "Set")
    assert figure is not None
    assert figure.get_suptitle() == "not shown, as the mean is not finite: Net"
    assert figure.axes[0].get_legend_handles_labels()[1] == ["Bicubic"]


def overview_notes(scores: Scores) -> list[str]:
    return all_tables([scores])[0].notes


def test_a_null_beside_numbers_is_a_missing_score(make) -> None:
    scores = make({"Bicubic": [20.0, None, 22.0], "Net": [1.0, 2.0, 3.0]})
    note = "Bicubic, Set: PSNR: 2 of 3 images have scores (missing: im1)."
    assert note in overview_notes(scores)
    scores = make({"A": [None, None], "B": [None, None]})
    assert not any("have scores" in text for text in overview_notes(scores))


def test_an_infinite_error_is_in_the_mean_and_in_no_test(make, monkeypatch) -> None:
    monkeypatch.setitem(_PSNR, "higher_is_better", False)
    scores = make({"Net": [0.0, math.inf, math.inf, 0.0], "Bicubic": [3.0, 4.0, 5.0, 6.5]})
    overview, table = all_tables([scores])[0], statistics(scores, "Set", "psnr")
    assert [row[0] for row in overview.values] == [math.inf, 4.625]
    assert [row[0] for row in table.values] == [math.inf, 4.625]
    assert [row[2] for row in table.values] == [None, None]
    assert any("the means are infinite" in note for note in overview.notes)

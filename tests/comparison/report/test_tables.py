"""The tables of a study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.tables import (
    Differences,
    all_tables,
    by_seed,
    frames_used,
    statistics,
)
from srtoolbox.comparison.store import ResultStore


def test_the_overview_has_every_method_and_says_what_is_otherwise(tables) -> None:
    table = tables["Overview, protocol duf-y"]
    assert table.names[3:] == ["Late †", "Broken ✗", "DUF (published)"]
    assert table.published == {5} and table.values[5][0] == 31.5
    assert not any("LPIPS" in column.title for column in table.columns)
    assert not any("train MiB" in column.title for column in table.columns)
    notes = "\n".join(table.notes)
    for said in (
        "duf-y0123",
        "† Late differs from the shared settings: total_iter 12 instead of 6.",
        "LPIPS is left out",
        "✗ Broken with seed 1 failed: loss is not finite",
        "DUF. Source: Jo et al., CVPR 2018.",
    ):
        assert said in notes


def test_no_table_has_scores_of_two_protocols(tables) -> None:
    for table in tables.values():
        assert f"Protocol {table.protocol} ({table.protocol}0123)." in table.notes
        other = {"duf-y": "rgb0123", "rgb": "duf-y0123"}[table.protocol]
        assert not any(other in note for note in table.notes)
    assert not tables["Overview, protocol rgb"].published


def test_clips_are_averaged_over_frames_and_seeds(rich_study: Path, tables) -> None:
    table = tables["clips: PSNR (dB) ↑ by clip, protocol duf-y"]
    assert table.names == ["000", "001", "002", "average"]
    store = ResultStore(rich_study)
    entries = [entry for entry in store.load_card().entries if entry.method == "Bicubic"]
    of_clip = [
        record["metrics"]["psnr"]
        for entry in entries
        for record in store.records(entry.evaluations["clips"])
        if record["key"].startswith("001/")
    ]
    assert table.values[1][0] == pytest.approx(sum(of_clip) / len(of_clip))
    by_clip = [table.values[row][0] for row in range(3)]
    assert table.values[3][0] == pytest.approx(sum(by_clip) / 3)
    assert table.values[3][0] == pytest.approx(tables["Overview, protocol duf-y"].values[0][0])


def test_differences_are_paired_and_have_intervals(tables) -> None:
    table = tables["images: PSNR (dB) ↑ with intervals, protocol rgb"]
    titles = [column.title for column in table.columns]
    assert titles == ["mean over images", "mean over seeds", "difference to Late", "p"]
    means = [row[0] for row in table.values]
    for row, value in enumerate(table.values):
        low, high = table.spreads[row, 0]
        assert low < value[0] < high
        if table.names[row] == "Late":
            assert value[2] is None and value[3] is None
        else:
            assert value[2] == pytest.approx(value[0] - means[3])
            low, high = table.spreads[row, 2]
            assert low < value[2] < high < 0 and value[3] < 0.001


def test_of_one_clip_nothing_is_tested(rich_study: Path) -> None:
    path = rich_study / "results.jsonl"
    lines = path.read_text().splitlines()
    records = [{**r, "of": 5} for r in map(json.loads, lines) if r["key"].startswith("000/")]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    store = ResultStore(rich_study)
    scores = Scores(store, store.load_card().views()[0])
    table = statistics(scores, "clips", "psnr")
    assert all(row[-1] is None for row in table.values)
    assert sum(row[-2] is not None for row in table.values) == 3  # differences there are
    assert (
        "With a single clip there is no interval and no significance test" in table.notes[1]
        and "seeds" in table.notes[1]
    )


def test_what_cannot_be_told_apart_is_marked(rich_study: Path) -> None:
    store = ResultStore(rich_study)
    card = store.load_card()
    card.entries = [e for e in card.entries if e.method in ("A_B & <i>C</i>", "Net|D$")]
    table = all_tables([Scores(store, card.views()[0])])[0]
    assert table.tied_with_best and all(
        table.cell(*place).rank != 1 for place in table.tied_with_best
    )
    assert any(note.startswith("≈") for note in table.notes)


def test_a_baseline_without_scores_is_replaced_by_the_best(scores: Scores) -> None:
    against = Differences(scores, "images", "psnr", "Broken")
    assert against.baseline == "Late"
    assert list(against.values) == ["Bicubic", "A_B & <i>C</i>", "Net|D$"]
    for method, values in against.values.items():
        assert against.differences[method].mean == pytest.approx(values.mean())
    nothing = Differences(scores, "nowhere", "psnr")
    assert nothing.baseline is None and nothing.values == nothing.differences == {}


def test_frame_use_is_the_mean_over_all_seeds(scores: Scores) -> None:
    late, other = scores.entries["Late"], scores.entries["Net|D$"]
    for number, entry in enumerate([*late, other[0]]):  # the second seed of one is missing
        psnr = {"1 frame": 30.0, "3 frames": 31.0 + number, "reference only": 29.5}
        use = {"evaluation": entry.evaluations["clips"], "psnr": psnr}
        scores.store.add_frame_use(use)
    (table,) = frames_used(scores, "clips")
    assert [column.title for column in table.columns] == [
        "1 frame", "3 frames", "reference repeated", "gain from other frames"
    ]  # fmt: skip
    assert table.names == ["Late"] and table.values == [[30.0, 31.5, 29.5, 2.0]]
    assert frames_used(scores, "images") == []


def test_scores_by_seed(scores: Scores) -> None:
    (table,) = by_seed(scores, "images")
    assert table.title == "images: PSNR (dB) ↑ by seed"
    assert [column.title for column in table.columns] == ["seed 0", "seed 1"]
    assert table.names == ["Bicubic", "A_B & <i>C</i>", "Net|D$", "Late"]  # Broken has no score
    for name, row in zip(table.names, table.values, strict=True):
        assert row == [means["psnr"] for means in scores.seed_means(name, "images")]
    scores.card.entries = [entry for entry in scores.card.entries if entry.seed == 1]
    assert by_seed(Scores(scores.store, scores.card), "images") == []

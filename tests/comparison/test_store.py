"""The store of a study, and studies that older versions wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.write import write_report
from srtoolbox.comparison.store import Entry, ResultStore, StudyCard, image_stem
from srtoolbox.errors import UserError

OLD_STUDY = Path(__file__).parent / "old_study"
RESULTS = Path(__file__).parents[2] / "experiments" / "results"


def records(evaluation: str, keys: list[str]) -> list[dict[str, Any]]:
    return [
        {"evaluation": evaluation, "key": key, "index": i, "of": len(keys), "metrics": {}}
        for i, key in enumerate(keys)
    ]


def test_records_are_in_dataset_order_and_only_complete_evaluations_count(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    b, c, a = records("x", ["b", "c", "a"])
    store.add_records([a, b])
    assert store.records("x") == [] == store.evaluations()
    store.add_records([c])
    assert store.records("x") == [b, c, a]
    assert store.evaluations() == ["x"]
    replaced = {**c, "seconds": 1.0}  # the later of two records of one image counts
    store.add_records([replaced])
    assert store.records("x") == [b, replaced, a] == ResultStore(tmp_path).records("x")
    assert store.records("nothing") == []


def test_costs_and_frame_use_are_found_by_their_ids(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    cost, use = (
        {"cost": "c", "params": 1},
        {"evaluation": "x", "psnr": {"1 frame": 30.0, "reference only": 30.0}},
    )
    store.add_cost(cost)
    store.add_frame_use(use)
    for read in (store, ResultStore(tmp_path)):
        assert read.cost("c") == cost and read.cost("x") is None and read.costs() == [cost]
        assert read.frame_use("x") == use["psnr"] and read.frame_use("c") is None
        assert read.frame_uses() == [use]


def test_names_of_images(tmp_path: Path) -> None:
    assert ResultStore(tmp_path).image_folder("x") == tmp_path / "images" / "x"
    assert image_stem("001/00000003") == "001__00000003"


def test_a_card_is_read_as_it_was_written(rich_study: Path) -> None:
    store = ResultStore(rich_study)
    before = (rich_study / "study.json").read_text()
    store.save_card(store.load_card())
    assert (rich_study / "study.json").read_text() == before
    assert {"other_protocols", "published", "sweeps"} <= set(json.loads(before))


def test_views_have_the_evaluations_of_one_protocol(rich_study: Path) -> None:
    card = ResultStore(rich_study).load_card()
    first, second = card.views()
    assert [view.protocol for view in (first, second)] == card.protocols
    assert first.entries[0].evaluations == card.entries[0].evaluations
    assert second.entries[0].evaluations == card.entries[0].other_protocols["rgb"]
    assert [row.method for row in first.published] == ["DUF"] and second.published == []


def test_remarks() -> None:
    card = StudyCard("s", 4, {}, {}, "", {}, budget="equal training time, 9 seconds", jobs=2)
    card.entries = [
        Entry("Bicubic", 0, device="a CPU"),
        Entry("EDSR", 0, steps=6000, device="a CPU"),
        Entry("EDVR", 0, steps=6, device="a GPU", skipped_datasets={"single": "takes 3 frames"}),
        Entry("EDVR", 1, steps=6, device="a GPU", skipped_datasets={"single": "takes 3 frames"}),
    ]
    assert card.remarks() == [
        "Budget: equal training time, 9 seconds; iterations: EDSR 6,000, EDVR 6.",
        "Trainings at a time on one machine: at most 2, and no more than it has cores or GPUs.",
        "Times are from several devices and cannot be compared: "
        "Bicubic, EDSR on a CPU; EDVR on a GPU.",
        "– EDVR on single: takes 3 frames.",
    ]


def test_a_folder_without_a_study_and_a_damaged_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no study here \(study.json is missing\)"):
        ResultStore(tmp_path).load_card()
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study.json:1 is damaged: .*run the comparison again"):
        ResultStore(tmp_path).load_card()


def test_a_study_of_an_older_version_is_read_and_reported(tmp_path: Path) -> None:
    folder = shutil.copytree(OLD_STUDY, tmp_path / "old")
    store = ResultStore(folder)
    card = store.load_card()
    assert [protocol["name"] for protocol in card.protocols] == ["jilin189", "jilin189-table"]
    bicubic, edvr = card.entries
    assert bicubic.other_protocols == {"jilin189-table": {"Jilin-189": "b1"}}
    assert bicubic.deviations == [] and edvr.deviations == ["total_iter 12 instead of 6"]
    assert edvr.skipped_datasets == {"Set5": "EDVR takes 5 frames but the dataset gives 1"}
    first, second = (Scores(store, view) for view in card.views())
    assert first.images("EDVR", "Jilin-189", "psnr") == {"001/0": 31.0, "001/1": 32.0}
    assert second.images("EDVR", "Jilin-189", "psnr") == {"001/0": 33.0, "001/1": 34.0}
    write_report(folder, ["md"])
    table = (folder / "table.md").read_text().replace("\\", "")  # without escapes
    assert "31.50" in table and "33.50" in table  # the means under both protocols
    assert "total_iter 12 instead of 6" in table
    assert "EDVR on Set5: EDVR takes 5 frames but the dataset gives 1." in table
    # What is written has the new keys only.
    store.save_card(card)
    content = json.loads((folder / "study.json").read_text())
    old = {"further", "unfit", "differs"}
    assert not old & set(content) and not any(old & set(entry) for entry in content["entries"])
    assert store.load_card() == card


@pytest.mark.parametrize(
    "folder",
    [pytest.param(p.parent, id=p.parent.name) for p in sorted(RESULTS.glob("*/*/study.json"))],
)
def test_committed_results_are_read(folder: Path) -> None:
    store = ResultStore(folder)
    for view in store.load_card().views():
        scores = Scores(store, view)
        assert scores.datasets
        for method, entries in scores.entries.items():
            for entry in entries:
                assert entry.failure or entry.evaluations, method
                assert all(scores.records(entry, name) for name in entry.evaluations), method
                assert entry.failure or scores.cost(entry), method

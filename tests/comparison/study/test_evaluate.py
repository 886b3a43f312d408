"""The images that a study keeps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import studies

from srtoolbox.comparison.store import ResultStore
from srtoolbox.comparison.study.evaluate import StudyEvaluator
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.utils.files import read_lines


class Pair:
    """One pair whose LR image and ground truth may have different bands."""

    scale, num_frame, reference = 2, 1, 0

    def __init__(self, lq: int, gt: int) -> None:
        self.sample: Any = {"key": "a"}
        for name, bands, side in (("lq", lq, 8), ("gt", gt, 16)):
            values = np.arange(1, bands + 1, dtype=np.uint8) * 10
            self.sample[name] = np.broadcast_to(values[:, None, None], (bands, side, side)).copy()
        self.sample["lq"] = self.sample["lq"][None]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return self.sample


@pytest.mark.parametrize(
    ("lq", "gt", "expected_lq", "expected_gt"),
    [
        (4, 4, [40, 30, 20], [40, 30, 20]),
        (3, 4, [10, 20, 30], [40, 30, 20]),  # LR has no fourth band: its first three are shown
        (1, 4, [10, 10, 10], [40, 30, 20]),
    ],
)
def test_pictures_show_the_chosen_bands(
    tmp_path: Path, lq: int, gt: int, expected_lq: list[int], expected_gt: list[int]
) -> None:
    evaluator: Any = object.__new__(StudyEvaluator)
    evaluator._opt = SimpleNamespace(val=SimpleNamespace(rgb_bands=[4, 3, 2]))
    evaluator._store = SimpleNamespace(image_folder=lambda name: tmp_path / name)
    (tmp_path / "evaluation").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "evaluation" / "a.png")
    test_set: Any = SimpleNamespace(name="set", data=Pair(lq, gt))
    evaluator._keep_originals(test_set, ["evaluation"])
    for kind, expected in (("lq", expected_lq), ("gt", expected_gt)):
        pixels = np.asarray(Image.open(tmp_path / "set" / f"a_{kind}.png"))
        assert pixels[0, 0].tolist() == expected


class TestMoreImages:
    """``report.num_image`` is raised after the evaluations."""

    METHODS = (
        "train=!delete",
        "datasets.train=!delete",
        "methods.EDSR.train=null",
        "methods.EDVR.train=null",
        "protocols=[rgb, basicsr-y]",
    )

    def images(self, store: ResultStore) -> dict[Path, bytes]:
        return studies.stored(store)["images"]

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_the_missing_ones_are_made(self, study_file, monkeypatch, jobs: int) -> None:
        more = (*self.METHODS, f"jobs={jobs}")
        whole = self.images(studies.compare(study_file(), "name=whole", *more))
        assert len(whole) == 2 * (3 * 2 + 2)  # of two bursts: three methods under two protocols
        before = studies.compare(study_file(), "report.num_image=1", *more)
        assert 0 < len(self.images(before)) < len(whole)
        records = (before.folder / "results.jsonl").read_text()
        after = studies.compare(study_file(), *more)
        assert self.images(after) == whole
        assert (after.folder / "results.jsonl").read_text() == records
        monkeypatch.setattr(Evaluator, "run", lambda *_: pytest.fail("evaluated again"))
        assert self.images(studies.compare(study_file(), *more)) == whole

    def test_with_a_further_protocol(self, study_file) -> None:
        whole = self.images(studies.compare(study_file(), "name=whole", *self.METHODS))
        fewer = ("report.num_image=1", "protocols=[rgb]")
        studies.compare(study_file(), *self.METHODS, *fewer)
        assert self.images(studies.compare(study_file(), *self.METHODS)) == whole

    def test_a_removed_one_is_made_again(self, study_file) -> None:
        store = studies.compare(study_file(), *self.METHODS)
        whole = self.images(store)
        (entry, *_) = store.load_card().entries
        image = next(iter(store.image_folder(entry.evaluations["sample"]).glob("*.png")))
        image.unlink()
        assert self.images(studies.compare(study_file(), *self.METHODS)) == whole

    def test_more_than_there_are(self, study_file, monkeypatch) -> None:
        more = (*self.METHODS, "report.num_image=99")
        first = self.images(studies.compare(study_file(), *more))
        assert len(first) == 3 * (3 * 2 + 2)
        monkeypatch.setattr(Evaluator, "run", lambda *_: pytest.fail("evaluated again"))
        assert self.images(studies.compare(study_file(), *more)) == first


def test_killed_after_its_records_an_evaluation_has_its_environment(
    study_file, monkeypatch
) -> None:
    more = (*TestMoreImages.METHODS, "protocols=[rgb]")
    add = ResultStore.add_records

    def add_and_die(self: ResultStore, records: list) -> None:
        add(self, records)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ResultStore, "add_records", add_and_die)
        studies.compare(study_file(), *more)
    folder = studies.compare(study_file(), *more).folder
    named = {record["environment"] for record in read_lines(folder / "results.jsonl")}
    assert named == {path.stem for path in (folder / "environments").iterdir()}

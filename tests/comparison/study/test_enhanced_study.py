"""``val.enhance`` in a study: for all methods, and as what tells two methods apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.report.write import write_report
from srtoolbox.comparison.store import ResultStore
from srtoolbox.comparison.study.plan import plan
from srtoolbox.comparison.study.run import run_study
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import OptionErrors
from srtoolbox.errors import UserError

CPU = torch.device("cpu")


def compare(path: Path, *overrides: str) -> ResultStore:
    opt, tree = load_options(path, overrides, StudyOptions)
    return run_study(opt, tree, CPU)


PLUS = """
train: {total_iter: 2}
methods:
  EDVR: !delete
  EDSR+:
    network_g: {type: EDSR, num_feat: 4, num_block: 1}
    val: {enhance: {self_ensemble: true}}
  Bicubic twice:
    network_g: {type: Bicubic}
    val: {enhance: {cascade: 2}}
"""


def test_a_method_beside_its_enhanced_self(study_file) -> None:
    store = compare(study_file(PLUS))
    entries = {entry.method: entry for entry in store.load_card().entries}
    assert entries["EDSR"].run == entries["EDSR+"].run  # one training for both
    values = {
        method: [r["metrics"]["psnr"] for r in store.records(entry.evaluations["sample"])]
        for method, entry in entries.items()
    }
    assert len({tuple(value) for value in values.values()}) == 4
    costs = {method: store.cost(entry.cost) for method, entry in entries.items()}
    assert costs["EDSR+"]["flops"] == 8 * costs["EDSR"]["flops"]
    assert costs["EDSR+"]["params"] == costs["EDSR"]["params"]
    assert entries["EDSR"].deviations == []
    assert entries["EDSR+"].deviations == ["self_ensemble True instead of False"]
    assert entries["Bicubic twice"].deviations == ["cascade 2 instead of 1"]


def test_one_option_for_all_methods_makes_a_new_evaluation(study_file) -> None:
    only_bicubic = "methods: {EDSR: !delete, EDVR: !delete}"
    path = study_file(only_bicubic)
    before = compare(path).load_card().entries[0].evaluations
    store = compare(path, "val.enhance.back_projection=5")
    after = store.load_card().entries[0].evaluations
    assert before != after
    scores = [[r["metrics"]["psnr"] for r in store.records(e["sample"])] for e in (before, after)]
    assert scores[0] != scores[1]
    note = write_report(store.folder)[1].notes[0]
    assert note.endswith("Predicted with 5 iterations of back-projection (replicate edge).")
    assert compare(path).load_card().entries[0].evaluations == before


def test_protocol_and_metrics_are_everybodys(study_file) -> None:
    path = study_file("methods: {EDSR: {val: {protocol: duf-y}}}")
    with pytest.raises(OptionErrors, match=r"methods.EDSR.val.protocol: unknown; known: enhance"):
        load_options(path, (), StudyOptions)


def test_a_cascade_of_a_multi_frame_network_is_refused(study_file) -> None:
    path = study_file("methods: {EDVR: {val: {enhance: {cascade: 2}}}}")
    opt, tree = load_options(path, (), StudyOptions)
    with pytest.raises(UserError, match="cascade: EDVR takes several frames"):
        plan(opt, tree)


def test_a_cascade_that_would_have_to_be_trained_is_refused(study_file) -> None:
    with pytest.raises(UserError, match=r"method EDSR: val.enhance.cascade: its stages"):
        compare(study_file("methods: {EDSR: {val: {enhance: {cascade: 2}}}}"))

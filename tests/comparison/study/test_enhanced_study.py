"""``val.enhance`` in a study: for all methods, and as the only difference of two methods."""

from __future__ import annotations

import pytest
import torch
from support.studies import compare

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.report.write import write_report
from srtoolbox.comparison.study.plan import list_jobs
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import OptionErrors
from srtoolbox.errors import UserError

CPU = torch.device("cpu")


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


@pytest.mark.slow
def test_a_method_with_and_without_self_ensemble(study_file) -> None:
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


@pytest.mark.slow
def test_an_inference_option_of_all_methods_gives_new_evaluations(study_file) -> None:
    only_bicubic = "methods: {EDSR: !delete, EDVR: !delete}"
    path = study_file(only_bicubic)
    before = compare(path).load_card().entries[0].evaluations
    store = compare(path, "val.enhance.back_projection=5")
    after = store.load_card().entries[0].evaluations
    assert before != after
    scores = [[r["metrics"]["psnr"] for r in store.records(e["sample"])] for e in (before, after)]
    assert scores[0] != scores[1]
    note = write_report(store.folder).overview.notes[0]
    assert note.endswith("Predicted with 5 iterations of back-projection (replicate edge).")
    assert compare(path).load_card().entries[0].evaluations == before


def test_a_method_cannot_set_protocol_or_metrics(study_file) -> None:
    path = study_file("methods: {EDSR: {val: {protocol: duf-y}}}")
    with pytest.raises(OptionErrors, match=r"methods.EDSR.val.protocol: unknown; known: enhance"):
        load_options(path, (), StudyOptions)


def test_a_cascade_of_a_multi_frame_network_is_refused(study_file) -> None:
    path = study_file("methods: {EDVR: {val: {enhance: {cascade: 2}}}}")
    opt, tree = load_options(path, (), StudyOptions)
    with pytest.raises(UserError, match="cascade: EDVR takes several frames"):
        list_jobs(opt, tree)


def test_training_a_cascade_is_refused(study_file) -> None:
    message = r"method EDSR: val.enhance.cascade: stages of a cascade are trained separately"
    with pytest.raises(UserError, match=message):
        compare(study_file("methods: {EDSR: {val: {enhance: {cascade: 2}}}}"))

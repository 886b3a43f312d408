"""Faults of study files are found before anything is built."""

from __future__ import annotations

import dataclasses

import pytest

from srtoolbox.comparison.options import ReportOptions, StudyOptions
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import OptionErrors
from srtoolbox.engine.options import RunOptions, SharedOptions


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("protocols: [rgb, basicsr]", r"protocols.1: unknown protocol 'basicsr'; did you mean"),
        ("protocols: [rgb, rgb]", r"study.yml:2: protocols: name each once"),
        ("budget: {kind: flops}", r"budget.of: name the method that sets the budget"),
        ("budget: {kind: time, of: EDSF}", r"budget.of: no method 'EDSF'; there are: Bicubic"),
        ("budget: {of: 0}", r"budget.of: must be > 0"),
        (
            "budget: {kind: flops, of: EDSR}\nmethods: {EDVR: {train: {total_iter: 4}}}",
            r"methods.EDVR.train.total_iter: the budget sets the iterations",
        ),
        ("seeds: [0, 0]", r"seeds: name at least one seed, and each once"),
        ("datasets: {val: !delete}", r"datasets: needs a 'test' or 'val' dataset"),
        ("name: ../../outside", r"study.yml:2: name: '../../outside' cannot be the name"),
        ("name: /tmp/outside", r"name: '/tmp/outside' cannot be the name of a folder"),
        ("name: ''", r"name: '' cannot be the name of a folder"),
        ("datasets: {val: {../../x: {type: SampleBursts}}}", r"datasets.val.*cannot be the name"),
        ("datasets: {test: {.: {type: SampleBursts}}}", r"datasets.test.*cannot be the name"),
        ("seeds: [99999999999999999999]", r"seeds.*at most 64 bits"),
        ("model_type: SRModal", r"study.yml:2: model_type: .*SRModal"),
        ("train: {compile: auto}", r"study.yml:2: train.compile: auto depends on the speed"),
        (
            "methods: {EDVR: {train: {channels_last: auto}}}",
            r"study.yml:2: methods.EDVR.train.channels_last: auto depends on the speed",
        ),
    ],
)
def test_faulty_options_are_refused(study_file, extra: str, message: str) -> None:
    with pytest.raises(OptionErrors, match=message):
        load_options(study_file(extra), (), StudyOptions)


def test_a_study_and_a_run_share_options() -> None:
    shared = {field.name for field in dataclasses.fields(SharedOptions)}
    for options in (RunOptions, StudyOptions):
        assert shared < {field.name for field in dataclasses.fields(options)}


def test_frame_use_is_measured_on_the_named_test_sets() -> None:
    assert ReportOptions(frame_use=True).measures_frame_use("a")
    assert not ReportOptions().measures_frame_use("a")
    named = ReportOptions(frame_use=["a"])
    assert named.measures_frame_use("a") and not named.measures_frame_use("b")

from __future__ import annotations

import pytest
import torch
from support.networks import SMALL

from srtoolbox.config.schema import build
from srtoolbox.engine.weights.guess import guess_arch


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "EDSR", "scale": 3, "num_feat": 48, "num_block": 9},
        {"type": "DSRNet", "scale": 2, "num_feat": 16},
        {"type": "RRDBNet", "scale": 4, "num_feat": 8, "num_block": 2},
        {"type": "TDAN", "scale": 4, "num_feat": 16},
        {"type": "Burstormer", "scale": 4, "num_feat": 16, "fusion": "real"},
        {"type": "FBANet", "scale": 4, "num_feat": 16},
    ],
    ids=lambda spec: spec["type"],
)
def test_options_that_shapes_show_are_found(spec):
    state = build("arch", spec).state_dict()
    assert guess_arch({f"module.{key}": value for key, value in state.items()}) == spec


def test_another_number_of_tensors_is_no_match():
    state = build("arch", {"type": "EDSR", "scale": 2, "num_feat": 8, "num_block": 2}).state_dict()
    assert guess_arch({**state, "extra.weight": torch.zeros(2)}) is None
    del state["conv_last.bias"]
    assert guess_arch(state) is None


def test_options_that_shapes_do_not_show_are_not_invented():
    spec = {"type": "DSTCSRNetPlus", **SMALL["DSTCSRNetPlus"], "scale": 4}
    assert guess_arch(build("arch", spec).state_dict()) is None


def test_names_of_nothing():
    assert guess_arch({"a": torch.zeros(3)}) is None

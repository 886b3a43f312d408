"""Upscaling in tiles beside whole pictures, on a tiny network: what is compared, not how fast."""

from __future__ import annotations

import multiprocessing

import pytest
import torch

from benchmarks.upscale import (
    Measured,
    UpscaleBenchOptions,
    measure_upscale,
    report_upscale,
    run_once,
)
from srtoolbox.bench.report import to_markdown
from srtoolbox.config.schema import check
from srtoolbox.errors import UserError

CPU = torch.device("cpu")
TREE = {
    "name": "tiny",
    "arch": {"type": "EDSR", "num_feat": 4, "num_block": 1},
    "width": 50,
    "height": 40,
    "tile": 16,
    "rounds": 2,
    "threads": 1,
}


def options(**changes) -> UpscaleBenchOptions:
    return check({**TREE, **changes}, UpscaleBenchOptions)


def test_both_ways_compute_the_same():
    whole, tiles = (run_once(way, options(), CPU) for way in ("whole", "tiles"))
    assert whole.mean == pytest.approx(tiles.mean, abs=1e-3)
    assert min(whole.seconds, tiles.seconds) > 0


@pytest.mark.slow
def test_every_run_is_a_process_of_its_own():
    results = measure_upscale(options(rounds=1), CPU)
    assert {way: len(runs) for way, runs in results.items()} == {"whole": 1, "tiles": 1}
    assert multiprocessing.active_children() == []


def test_the_table():
    results = {
        "whole": [Measured(3.0, 800.0, 120.0), Measured(2.0, 800.0, 120.0)],
        "tiles": [Measured(1.0, 100.0, 120.0), Measured(1.0, 100.0, 120.0)],
    }
    text = to_markdown(report_upscale(results, options(), CPU), options(), "command")
    assert "| ratio | 2.50× | 8.0× |" in text
    assert "EDSR ×4, 50×40 to 200×160" in text


def test_faults():
    with pytest.raises(UserError, match="num_feat"):
        measure_upscale(options(arch={"type": "EDSR", "num_feat": -1}), CPU)

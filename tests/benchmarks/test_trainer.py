"""The trainer beside a bare loop, on tiny networks: what is compared, never how fast."""

from __future__ import annotations

import copy
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

from benchmarks import trainer as train
from benchmarks.session import train_in_blocks
from benchmarks.trainer import (
    BareLoop,
    Overhead,
    TrainerOptions,
    measure_trainer,
    report_trainer,
)
from srtoolbox.bench.network import build_net
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import check
from srtoolbox.data import SampleBursts
from srtoolbox.engine.options import TrainOptions
from srtoolbox.errors import UserError
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
EDSR = {"type": "EDSR", "num_feat": 4, "num_block": 1}
EDVR = {
    "type": "EDVR",
    "num_frame": 3,
    "num_feat": 8,
    "deformable_groups": 2,
    "num_extract_block": 1,
    "num_reconstruct_block": 1,
}
TREE = {
    "name": "tiny",
    "cases": {
        "one": {"arch": EDSR},
        "many": {"arch": EDVR, "data": "clips", "num_frame": 3},
    },
    "lq_size": 8,
    "steps": 2,
    "rounds": 2,
}


def options(**changes) -> TrainerOptions:
    return check({**TREE, **changes}, TrainerOptions)


@pytest.mark.slow
def test_blocks_of_the_trainer_and_of_the_bare_loop_alternate(monkeypatch) -> None:
    order: list[str] = []
    update, bare = train.train_in_blocks, BareLoop.run
    monkeypatch.setattr(
        BareLoop, "run", lambda self, steps: order.append(f"bare {steps}") or bare(self, steps)
    )

    def traced(*arguments):
        *rest, between = arguments
        return update(*rest, lambda block: order.append(f"block {block}") or between(block))

    monkeypatch.setattr(train, "train_in_blocks", traced)
    opt = options()
    results = [result for of_case in measure_trainer(opt, CPU) for result in of_case]
    # The first block of each is a warm-up.
    assert order == ["block 0", "bare 2", "block 1", "bare 2", "block 2", "bare 2"] * 2
    assert [one.case for one in results] == ["one", "many"]
    for one in results:
        assert len(one.trainer) == len(one.bare) == len(one.wait) == 2
        assert min(one.trainer + one.bare) > 0 and max(one.wait) <= 1
        assert one.busy is None and one.waits is None
    report = report_trainer(results, opt, CPU)
    assert [row[0] for row in report.tables[0].rows] == ["one", "many"]
    assert [row[-2:] for row in report.tables[0].rows] == [["not measured"] * 2] * 2
    assert [one["ratio"] for one in report.results] == [median(one.ratios) for one in results]


def test_the_ratio_is_the_median_of_ratios_within_rounds() -> None:
    waits = {"a.py:1": 2, "b.py:7": 0}
    one = Overhead("a", [2.0, 30.0, 8.0], [1.0, 10.0, 2.0], [0.0] * 3, 0.97, waits)
    report = report_trainer([one], options(), CPU)
    row = report.tables[0].rows[0]
    assert row == ["a", "2000.0", "8000.0", "3.000", "2.50–3.50", "0.2", "0.00", "97", "2"]
    assert report.notes[-1] == "a waits in every step: a.py:1 (2×)"


@pytest.mark.cuda
def test_gpu_time_and_waits_are_measured() -> None:
    cuda = torch.device("cuda")
    opt = options(steps=20, rounds=1)  # a log point waits a few times, but not 20 times
    results = [result for of_case in measure_trainer(opt, cuda) for result in of_case]
    for one in results:
        assert one.busy is not None and 0 < one.busy <= 1
        assert one.waits is not None and sum(one.waits.values()) == 0


def test_the_bare_loop_trains_as_the_trainer_does(tmp_path: Path) -> None:
    class OneBatch(SampleBursts):
        def draw(self, index: int, rng: np.random.Generator) -> dict:
            return super().draw(0, np.random.default_rng(0))

    net = build_net("net", EDSR, (1, 3, 8, 8), scale=4)
    before = copy.deepcopy(net)
    dataset = OneBatch(num_frame=1, gt_size=32)
    section = TrainOptions(total_iter=4, batch_size=2)
    batch = next(train.SampleStream(dataset, 0, 2).batches(0, 1))
    loop = BareLoop(net, batch, 0, section)
    loop.run(4)
    blocks = train_in_blocks(net, dataset, section, CPU, tmp_path / "run", 2)
    assert len(blocks) == 2
    assert [record["step"] for record in read_lines(tmp_path / "run" / "log.jsonl")] == [2, 4]
    for ours, theirs, start in zip(
        loop._net.parameters(), net.parameters(), before.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
        assert not torch.equal(ours, start)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": {}}, "cases: name at least one network"),
        (
            {"cases": {"a": {"arch": EDVR, "data": "clips", "num_frame": 2}}},
            "cases.a: EDVR takes 3 frames",
        ),
        (
            {"lq_size": 10, "cases": {"a": {"arch": EDVR, "data": "clips", "num_frame": 3}}},
            "cases.a: takes sizes from 4 on in multiples of 4, but is given 10×10",
        ),
        ({"cases": {"a": {"arch": {"type": "Bicubic"}}}}, "cases.a: has nothing to learn"),
    ],
)
def test_faulty_options(changes: dict, message: str, monkeypatch) -> None:
    monkeypatch.setattr(train, "write_pictures", None)
    with pytest.raises(UserError, match=message):
        measure_trainer(options(**changes), CPU)


def test_the_shipped_options_fit() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "trainer.yml"
    opt, _ = load_options(path, (), TrainerOptions)
    for name, case in opt.cases.items():
        train._build(name, case, opt, CPU)

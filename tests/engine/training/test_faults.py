"""Runs that are killed repeatedly, at any place, end with the same bits as uninterrupted runs."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
import torch
from support.faults import KINDS, Disk, damage, in_process
from support.runs import same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import srtoolbox.utils.files
from srtoolbox.engine.build import fingerprint
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.train import train
from srtoolbox.engine.weights.load import read_weights
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
SHORT = (
    "datasets.train={num_frame: 1, gt_size: 8}",
    "datasets.val.sample={num_frame: 1, gt_size: 16, num_burst: 1}",
    "network_g={num_feat: 2}",
    "train.total_iter=30",
    "train.ema_decay=0.9",
    "train.optim_g.lr=1e-2",
    "train.scheduler={type: CosineAnnealingLR}",
    "val.val_freq=5",
    "logger={print_freq: 2, save_checkpoint_freq: 3, use_tb_logger: true}",
)

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="needs processes that can be forked"
)


def attempt(opt: RunOptions, disk: Disk) -> None:
    """Trains in this process, whose disk may fail."""
    srtoolbox.utils.files.sleep = lambda _: None
    disk.install()
    train(opt, CPU, resume=True)
    (opt.folder / "calls").write_text(str(disk.calls))


def traces(opt: RunOptions) -> dict:
    """Returns all outputs of a run that must not depend on faults."""
    folder = opt.folder
    state = CheckpointFolder(folder / "checkpoints", run=fingerprint(opt)).load_latest(CPU)
    # A run stopped in its last step is evaluated after that step was saved.
    state = {k: v for k, v in state.items() if k not in ("seconds", "best", "evaluated")}
    speed = ("it/s", "data wait", "memory")
    logs = [list(read_lines(folder / name)) for name in ("log.jsonl", "evaluation.jsonl")]
    board = EventAccumulator(str(folder / "tb"), {"scalars": 0}).Reload()
    tags = [tag for tag in board.Tags()["scalars"] if not tag.startswith("speed/")]
    return {
        "state": state,
        "logs": [[{k: r[k] for k in r if k not in speed} for r in records] for records in logs],
        "board": {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in tags},
        "speed": [e.step for e in board.Scalars("speed/it/s")],
        "best": read_weights(folder / "weights" / "net_g_best.pth").state,
        "latest": read_weights(folder / "weights" / "net_g_latest.pth").state,
        "average": read_weights(folder / "weights" / "net_g_latest.pth", "params_ema").state,
        "finished": json.loads((folder / "finished.json").read_text())["weights"],
        "torn": list(folder.rglob("*.tmp")),
    }


def torture(opt: RunOptions, calls: int, seconds: float, rng: random.Random) -> Counter:
    """Trains to the end through many faults; returns their number by kind."""
    met: Counter = Counter()
    damaged: set[Path] = set()
    while not (opt.folder / "finished.json").exists():
        kind = rng.choice([*KINDS, "timed"])
        if kind == "timed":
            number = rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
            disk, delay = Disk("none", 0, rng), rng.uniform(0, seconds)
            code = in_process(lambda disk=disk: attempt(opt, disk), delay, number)
        else:
            disk = Disk(kind, rng.randint(1, calls), rng)
            code = in_process(lambda disk=disk: attempt(opt, disk))
        # A disk that is full when a run is entered ends it; later the run waits.
        ends = (0, 1) if kind == "full" else (0, 130, -signal.SIGKILL, -signal.SIGTERM)
        assert code in ends, (opt.name, kind, disk.at, code, dict(met))
        met[kind] += code != 0
        sound = sorted(set((opt.folder / "checkpoints").glob("*.ckpt")) - damaged)
        finished = (opt.folder / "finished.json").exists()
        if not finished and len(sound) > 1 and rng.random() < 0.2:
            damage(sound[-1], rng)
            damaged.add(sound[-1])
            met["damaged"] += 1
    return met


def check(options, faults: int, seed: int) -> Counter:
    rng = random.Random(seed)
    whole = options("name=whole", *SHORT)
    train(whole, CPU, resume=False)
    expected = traces(whole)
    assert [r["step"] for r in expected["logs"][0]] == expected["speed"] == list(range(2, 31, 2))
    assert [r["step"] for r in expected["logs"][1]] == list(range(5, 31, 5))
    assert [step for step, _ in expected["board"]["train/l_pix"]] == expected["speed"]
    seconds = json.loads((whole.folder / "finished.json").read_text())["seconds"]
    counted = options("name=counted", *SHORT)
    assert in_process(lambda: attempt(counted, Disk("none", 0, rng))) == 0
    calls = int((counted.folder / "calls").read_text())
    met: Counter = Counter()
    for number in count():
        if met.total() - met["damaged"] >= faults:
            break
        opt = options(f"name=tortured_{number}", *SHORT)
        met += torture(opt, calls, 2 * seconds, rng)
        got = traces(opt)
        for name, value in expected.items():
            assert same(got[name], value), (opt.name, name, dict(met))
    return met


@pytest.mark.slow
def test_any_fault_at_any_place_changes_nothing(options) -> None:
    """``SRTOOLBOX_FAULTS=200`` has more of them."""
    faults = int(os.environ.get("SRTOOLBOX_FAULTS", "20"))
    met = check(options, faults, seed=faults)
    print(dict(met))
    assert met.total() >= faults

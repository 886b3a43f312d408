"""What a study would run: what is done, what is left, and about how long and how large it is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Group
from rich.text import Text
from torch import nn

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.study.plan import Job
from srtoolbox.comparison.study.run import Study
from srtoolbox.config.files import Tree
from srtoolbox.config.load import check_options
from srtoolbox.data.stream import to_float
from srtoolbox.engine.build import assemble, build_network
from srtoolbox.engine.device.precision import autocast, cpu_threads, synchronize
from srtoolbox.engine.weights.load import weights_hash
from srtoolbox.inference.prediction import predict
from srtoolbox.utils.console import size_text, terminal_table

_CHECKPOINT = re.compile(r"step_(\d+)-.*\.ckpt")
_STATES = 3  # of the size of the weights in a checkpoint: they, and the two moments of Adam


@dataclass(frozen=True)
class Task:
    """One method with one seed.

    Attributes:
        method: Its name.
        seed: Its seed.
        step: Steps trained so far.
        total: Steps of the whole training; 0 if nothing is trained.
        scored: Evaluations (one per dataset and protocol) that are done.
        to_score: All evaluations.
        seconds: Time of what is left.
        disk: Bytes that what is left will keep.
    """

    method: str
    seed: int
    step: int
    total: int
    scored: int
    to_score: int
    seconds: float
    disk: int

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self.step == self.total and self.scored == self.to_score


def estimate(tree: Tree, device: torch.device, only: Sequence[str] = ()) -> list[Task]:
    """What is done and left of a study. Writes nothing, not even a cache of decoded images.

    Times are those of a training step of each method on its first batch, and of one image of each
    test set, measured here with fresh weights.

    Args:
        tree: What the study was read from; its caches are removed.
        device: Where it would run.
        only: Methods that would be run; none: all.

    Raises:
        UserError: if any part of the study does not fit.
    """
    for kind, spec in tree["datasets"].items():
        for one in [spec] if kind == "train" else spec.values():
            for key in {"cache", "cache_limit"} & set(one or ()):
                one.remove(key)
    study = Study(check_options(tree, StudyOptions), tree, device, only)
    study.open()
    tasks, trainings, costs = [], set(), {}
    with cpu_threads(study.opt.threads):
        for job in study.jobs:
            folder = study.folders.get((job.method, job.seed))
            tasks.append(_task(study, job, folder, folder in trainings, costs))
            trainings.add(folder)
    return tasks


def to_terminal(tasks: Sequence[Task], title: str) -> Group:
    """The tasks as a table, and their sum."""
    rows = [
        [
            task.method,
            str(task.seed),
            f"{task.step:,} of {task.total:,}" if task.total else "–",
            f"{task.scored} of {task.to_score}",
            "done" if task.is_done else _clock(task.seconds),
            size_text(task.disk) if task.disk else "–",
        ]
        for task in tasks
    ]
    head = ["method", "seed", "steps trained", "sets scored", "time left", "disk"]
    seconds, disk = sum(t.seconds for t in tasks), sum(t.disk for t in tasks)
    total = f"left in all: about {_clock(seconds)} one after another, and {size_text(disk)} of disk"
    return Group(terminal_table(title, head, rows), Text(total))


def _task(study: Study, job: Job, folder: Path | None, shared: bool, costs: dict) -> Task:
    step, total, weights, seconds, disk = 0, 0, None, 0.0, 0
    method = study.methods[job.method]
    if folder is None:
        weights = weights_hash(study.build(job))
    else:
        total = job.opt.train.total_iter
        step, weights = _trained(study.elsewhere.get(folder, folder))
    per_step, per_image, size = _measure(study, job, costs)
    if folder is not None and weights is None and not shared:
        seconds += (total - step) * per_step
        keep = job.opt.logger.keep_checkpoint + 1  # the newest is written before the oldest goes
        states = _STATES + (job.opt.train.ema_decay > 0)
        disk += size * (keep * states + 2)
    scored = to_score = 0
    for test_set in method.test_sets:
        done = [
            weights is not None
            and bool(study.store.records(study.scores.identity(job, test_set, p, weights)))
            for p in test_set.protocols
        ]
        scored, to_score = scored + sum(done), to_score + len(done)
        if not all(done):
            seconds += len(test_set.data) * per_image[test_set.name]
    return Task(job.method, job.seed, step, total, scored, to_score, seconds, disk)


def _trained(folder: Path) -> tuple[int, str | None]:
    """How far a training is, and the hash of its weights once it is finished."""
    finished = folder / "finished.json"
    if finished.exists():
        summary = json.loads(finished.read_text())
        return summary["step"], summary["weights"]
    found = (_CHECKPOINT.fullmatch(path.name) for path in folder.glob("checkpoints/*"))
    return max((int(match[1]) for match in found if match), default=0), None


def _measure(
    study: Study, job: Job, costs: dict[str, tuple[float, dict[str, float], int]]
) -> tuple[float, dict[str, float], int]:
    """Seconds of a training step and of an image of each test set, and bytes of the weights."""
    if job.method not in costs:
        net = assemble(job.opt, build_network(job.opt, study.device)).eval()
        sets = study.methods[job.method].test_sets
        per_image = {one.name: _image_seconds(study, job, net, one.data) for one in sets}
        size = sum(one.numel() * one.element_size() for one in net.state_dict().values())
        trained = job.method in study.trained
        per_step = study.step_seconds(job.opt) if trained else 0.0
        costs[job.method] = per_step, per_image, size
    return costs[job.method]


def _image_seconds(study: Study, job: Job, net: nn.Module, data) -> float:
    lq = to_float(torch.from_numpy(data[0]["lq"]).to(study.device))[None]
    start = time.perf_counter()
    with autocast(study.device, study.opt.train.precision):
        predict(net, lq, data.reference, job.opt.val.enhance)
    synchronize(study.device)
    return time.perf_counter() - start


def _clock(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"

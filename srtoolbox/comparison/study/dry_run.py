"""Shows the finished and the remaining work of a study, with estimates of time and disk space."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Group
from rich.text import Text
from torch import nn

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.store import Entry, ResultStore
from srtoolbox.comparison.study.budget import step_seconds, training_options
from srtoolbox.comparison.study.evaluate import StudyEvaluator
from srtoolbox.comparison.study.launcher import Launch
from srtoolbox.comparison.study.plan import Job, StudyPlan, load_network
from srtoolbox.comparison.study.reuse import is_finished
from srtoolbox.comparison.study.tasks import StudyTasks
from srtoolbox.config.files import Tree, plain
from srtoolbox.config.load import check_options
from srtoolbox.data.base import EvalDataset
from srtoolbox.data.stream import to_float
from srtoolbox.engine.build import assemble, build_network
from srtoolbox.engine.device.precision import autocast, cpu_threads
from srtoolbox.engine.profiling import seconds as seconds_of
from srtoolbox.engine.weights.load import weights_hash
from srtoolbox.errors import UserError
from srtoolbox.inference.prediction import predict
from srtoolbox.utils.console import duration_text, size_text, terminal_table

_CHECKPOINT = re.compile(r"step_(\d+)-.*\.ckpt")
_TENSORS_PER_WEIGHT = 3  # in a checkpoint: the weight itself and two moments of Adam


@dataclass(frozen=True)
class Task:
    """The finished and the remaining work of one method with one seed.

    Attributes:
        method: Name of the method.
        seed: Seed of the training.
        step: Steps trained so far.
        total: Steps of the whole training; 0 if nothing is trained.
        evaluated: Number of finished evaluations, each of one dataset under one protocol.
        to_evaluate: Number of all evaluations.
        seconds: Estimated time of the remaining work.
        disk: Bytes that the remaining work will keep.
    """

    method: str
    seed: int
    step: int
    total: int
    evaluated: int
    to_evaluate: int
    seconds: float
    disk: int

    @property
    def is_done(self) -> bool:
        """Returns whether nothing remains."""
        return self.step == self.total and self.evaluated == self.to_evaluate


def estimate(tree: Tree, device: torch.device, only: Sequence[str] = ()) -> list[Task]:
    """Returns the tasks of a study. Writes nothing, not even a cache of decoded images.

    Times are measured here with new weights: a training step of each method on its first batch,
    and one image of each test set.

    Args:
        tree: The tree of the study's options; its caches are removed.
        device: Device of the study.
        only: Methods to run; empty: all.

    Raises:
        UserError: if any part of the study is faulty.
    """
    plan = _plan(tree, device, only)
    with cpu_threads(plan.opt.threads):
        return list(map(_DryRun(plan).task, plan.jobs))


def list_tasks(tree: Tree, launch: Launch, only: Sequence[str] = ()) -> Group:
    """Returns the jobs that a launcher would submit now, as a table, and what each asks for.

    Writes and measures nothing.

    Args:
        tree: The tree of the study's options; its caches are removed.
        launch: Where the jobs would run.
        only: Methods to run; empty: all.

    Raises:
        UserError: if any part of the study is faulty.
    """
    plan = _plan(tree, launch.device_here(), only)
    store = ResultStore(plan.folder)
    tasks = StudyTasks(plan, store, StudyEvaluator(plan, store), elsewhere=True)
    before: dict[tuple[str, int], Entry] = {}
    with suppress(UserError):  # no study yet
        before = {(entry.method, entry.seed): entry for entry in store.load_card().entries}
    done = tasks.finished(before)
    found = tasks.pending(done)
    rows = [
        [
            "training" if task.is_training else "evaluation",
            task.job.method,
            str(task.job.seed),
            "its training" if task.training else "–",
        ]
        for task in found
    ]
    state = f"{len(found)} jobs to submit, {len(done)} of {len(plan.jobs)} results finished"
    head = ["job", "method", "seed", "starts after"]
    table = terminal_table(f"{plan.opt.name}: {state}", head, rows)
    asked = {key: value for key, value in plain(plan.opt.launcher).items() if value}
    facts = ", ".join(f"{key} {value}" for key, value in asked.items())
    return Group(table, Text(f"launcher: {facts}"))


def to_terminal(tasks: Sequence[Task], title: str) -> Group:
    """Returns the tasks as a table, and their sum."""
    rows = [
        [
            task.method,
            str(task.seed),
            f"{task.step:,} of {task.total:,}" if task.total else "–",
            f"{task.evaluated} of {task.to_evaluate}",
            "done" if task.is_done else duration_text(task.seconds),
            size_text(task.disk) if task.disk else "–",
        ]
        for task in tasks
    ]
    head = ["method", "seed", "steps trained", "evaluations", "time left", "disk"]
    seconds, disk = sum(task.seconds for task in tasks), sum(task.disk for task in tasks)
    total = f"about {duration_text(seconds)} one after another, and {size_text(disk)} of disk"
    return Group(terminal_table(title, head, rows), Text(f"left in total: {total}"))


def _plan(tree: Tree, device: torch.device, only: Sequence[str]) -> StudyPlan:
    """Returns the plan of a study whose datasets write no cache."""
    for kind, specs in tree["datasets"].items():
        for spec in [specs] if kind == "train" else specs.values():
            for key in {"cache", "cache_limit"} & set(spec or ()):
                spec.remove(key)
    return StudyPlan(check_options(tree, StudyOptions), tree, device, only)


class _DryRun:
    def __init__(self, plan: StudyPlan) -> None:
        self._plan = plan
        self._store = ResultStore(plan.folder)
        self._evaluator = StudyEvaluator(plan, self._store)
        self._costs: dict[str, tuple[float, dict[str, float], int]] = {}  # by method
        self._counted: set[Path] = set()  # trainings that several methods may share

    def task(self, job: Job) -> Task:
        step_time, image_times, size = self._measure(job)
        step, total, seconds, disk = 0, 0, 0.0, 0
        if job.folder is None:
            weights = weights_hash(load_network(job.opt, self._plan.device))
        else:
            train, _ = training_options(job.opt)
            total = train.total_iter
            step, weights = _progress(job.finished_run or job.folder)
            if weights is None and job.folder not in self._counted:
                seconds += (total - step) * step_time
                files = job.opt.logger.keep_checkpoint + 1  # a new one precedes a removal
                tensors = _TENSORS_PER_WEIGHT + (train.ema_decay > 0)
                disk += size * (files * tensors + 2)
            self._counted.add(job.folder)
        evaluated = to_evaluate = 0
        for test_set in self._plan.methods[job.method].test_sets:
            identities = self._evaluator.identities(job, test_set, weights) if weights else {}
            finished = len(list(filter(self._store.records, identities.values())))
            if finished < len(test_set.protocols):
                seconds += len(test_set.data) * image_times[test_set.name]
            to_evaluate += len(test_set.protocols)
            evaluated += finished
        return Task(job.method, job.seed, step, total, evaluated, to_evaluate, seconds, disk)

    def _measure(self, job: Job) -> tuple[float, dict[str, float], int]:
        """Returns seconds of a step, seconds of an image by test set, and bytes of the weights."""
        if job.method not in self._costs:
            device = self._plan.device
            net = assemble(job.opt, build_network(job.opt, device)).eval()
            self._costs[job.method] = (
                step_seconds(job.opt, device) if job.folder else 0.0,
                {
                    test_set.name: self._image_seconds(job, net, test_set.data)
                    for test_set in self._plan.methods[job.method].test_sets
                },
                sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values()),
            )
        return self._costs[job.method]

    def _image_seconds(self, job: Job, net: nn.Module, data: EvalDataset) -> float:
        device = self._plan.device
        lq = to_float(torch.from_numpy(data[0]["lq"]).to(device))[None]
        with autocast(device, self._plan.opt.train.precision):
            return seconds_of(lambda: predict(net, lq, data.reference, job.opt.val.enhance), device)


def _progress(run: Path) -> tuple[int, str | None]:
    """Returns the steps of a training so far, and the hash of its weights if it is finished."""
    if is_finished(run):
        summary = json.loads((run / "finished.json").read_text())
        return summary["step"], summary["weights"]
    matches = (_CHECKPOINT.fullmatch(path.name) for path in run.glob("checkpoints/*"))
    return max((int(match[1]) for match in matches if match), default=0), None

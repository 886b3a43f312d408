"""Lists the trainings and evaluations of a study that other processes do."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from srtoolbox.comparison.store import Entry, ResultStore
from srtoolbox.comparison.study.budget import step_seconds, training_options
from srtoolbox.comparison.study.evaluate import StudyEvaluator
from srtoolbox.comparison.study.facts import metric_states
from srtoolbox.comparison.study.parallel import Task
from srtoolbox.comparison.study.parts import Part, is_complete, read_part
from srtoolbox.comparison.study.plan import Job, StudyPlan, load_network
from srtoolbox.comparison.study.reuse import is_finished
from srtoolbox.comparison.study.work import Evaluation, Training
from srtoolbox.engine.device.precision import cpu_threads
from srtoolbox.engine.weights.load import weights_hash
from srtoolbox.engine.weights.whole import read_finished

_PARTS = "parts"
_EVALUATE = "evaluate-"  # begins the names of evaluations; that of the part follows
_KEY_DIGITS = 8  # of a hash in the name of a part


class StudyTasks:
    """The trainings and evaluations of a study that are not finished.

    Args:
        plan: The study.
        store: Its results.
        evaluator: Knows which results belong to a job.
        elsewhere: Whether the processes may be on another machine. They then measure costs too,
            and describe their own environment.

    Attributes:
        train_threads: CPU threads of a training; None: those of the process.
        evaluate_threads: CPU threads of an evaluation; None: those of the process.
    """

    def __init__(
        self, plan: StudyPlan, store: ResultStore, evaluator: StudyEvaluator, elsewhere: bool
    ) -> None:
        self._plan, self._store, self._evaluator = plan, store, evaluator
        self._elsewhere = elsewhere
        self._metrics = metric_states(plan.metrics) if elsewhere else None
        self._weights: dict[tuple[str, int], str] = {}  # of methods that are not trained
        # Names of tasks of the jobs to run; and the parts that those of the other jobs share.
        self._current: tuple[set[str], set[str]] | None = None
        self.train_threads = self.evaluate_threads = plan.opt.threads

    def pending(self, entries: Mapping[tuple[str, int], Entry]) -> list[Task]:
        """Returns the tasks: trainings, then evaluations in the order of the table.

        Args:
            entries: Entries that need nothing more, by method and seed.
        """
        runs: dict[Path, Task] = {}
        for job in self._plan.jobs:
            folder = job.folder
            if folder is not None and folder not in runs and not is_finished(folder):
                work = partial(self._training, job, folder)
                runs[folder] = Task(_training_name(folder), job, work, is_training=True)
        tasks = list(runs.values())
        last: dict[object, str] = {}  # evaluation by what it has in common with later ones
        for job in self._plan.jobs:
            training = job.folder and runs.get(job.folder)
            if (job.method, job.seed) in entries or not (training or self._is_left(job)):
                continue
            # One after another, as each loads the weights from a folder that it locks, or as the
            # later one has nothing left to do.
            common = job.folder or self._untrained_key(job)
            name = self._evaluation_name(job)
            needed, before = training and training.name, last.get(common)
            tasks.append(Task(name, job, partial(self._evaluation, job), needed, before))
            last[common] = name
        return tasks

    def finished(self, before: Mapping[tuple[str, int], Entry]) -> dict[tuple[str, int], Entry]:
        """Returns those entries of an earlier run that have all results of their jobs.

        Args:
            before: The entries of the earlier run, by method and seed.
        """
        found: dict[tuple[str, int], Entry] = {}
        for job in self._plan.jobs:
            entry, weights = before.get((job.method, job.seed)), self.weights(job)
            if (
                entry is not None
                and weights is not None
                and entry.failure is None
                and entry.identity == job.identity
                and self._store.cost(entry.cost or "") is not None
                and self._evaluator.has_all(entry, job, weights)
                and self._evaluator.is_complete(job, weights)
            ):
                found[job.method, job.seed] = entry
        return found

    def longest_first(self, tasks: list[Task]) -> list[Task]:
        """Sorts trainings by their measured time, so that none runs alone at the end."""

        def seconds(task: Task) -> float:
            opt = task.job.opt
            return step_seconds(opt, self._plan.device) * training_options(opt)[0].total_iter

        with cpu_threads(self.train_threads):
            times = {task.name: seconds(task) for task in tasks if task.is_training}
        return sorted(tasks, key=lambda task: -times.get(task.name, 0.0))

    def part(self, job: Job) -> Part | None:
        """Returns the results of a job from another process; None if there are none.

        Raises:
            UserError: if they are damaged.
        """
        folder = self._part_folder(job)
        if not is_complete(folder):
            return None
        part = read_part(folder)
        weights, entry = self.weights(job), part.entry
        if entry.failure or (weights and self._evaluator.has_all(entry, job, weights)):
            return part
        part.remove()  # the training has been repeated since, with other weights
        return None

    def weights(self, job: Job) -> str | None:
        """Returns the hash of the final weights of a job; None before the end of its training."""
        if job.folder is not None:
            with suppress(OSError, ValueError):  # not finished; or damaged, which `train` repairs
                return read_finished(job.folder / "finished.json")["weights"]
            return None
        key = job.method, job.seed
        if key not in self._weights:
            self._weights[key] = weights_hash(load_network(job.opt, torch.device("cpu")))
        return self._weights[key]

    def evaluations(self, job: Job) -> list[str]:
        """Returns the ids of a job's evaluations, in the order in which one process makes them.

        It is empty before the end of the job's training.
        """
        weights = self.weights(job)
        return self._ids(job, weights) if weights else []

    def names(self) -> set[str]:
        """Returns the names of all tasks of the jobs to run, also of the finished ones."""
        trainings = {_training_name(job.folder) for job in self._plan.jobs if job.folder}
        return trainings | {self._evaluation_name(job) for job in self._plan.jobs}

    def is_current(self, name: str) -> bool:
        """Returns whether a task with this name is of these options.

        It is true of all tasks of methods that the command leaves out: their files, which options
        are compared by, may be missing.
        """
        if self._current is None:
            chosen = {job.method for job in self._plan.jobs}
            others = (job for job in self._plan.all_jobs if job.method not in chosen)
            self._current = self.names(), {f"{job.opt.name}-s{job.seed}" for job in others}
        names, left_out = self._current
        return name in names or name.partition("-")[2].rpartition("-")[0] in left_out

    def remove_old_parts(self, running: Collection[str] = ()) -> None:
        """Removes parts of earlier options of the study.

        Jobs of a cluster go on when the command that submitted them has ended. Only a command with
        a launcher removes their parts, as it knows which of them have ended.

        Args:
            running: Names of tasks whose jobs may still be running; their parts stay.
        """
        parts = self._plan.folder / _PARTS
        for folder in parts.glob("*"):
            of_launcher = len(folder.name.rpartition("-")[2]) > _KEY_DIGITS
            name = f"{_EVALUATE}{folder.name}"
            kept = name in running or self.is_current(name)
            if not kept and (self._elsewhere or not of_launcher):
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # it is missing, or another job's part is in it
            parts.rmdir()

    def _evaluation_name(self, job: Job) -> str:
        return f"{_EVALUATE}{self._part_folder(job).name}"

    def _part_folder(self, job: Job) -> Path:
        key = self._evaluator.task_key(job)
        place = "e" if self._elsewhere else ""
        name = f"{job.opt.name}-s{job.seed}-{key[:_KEY_DIGITS]}{place}"
        return self._plan.folder / _PARTS / name

    def _is_left(self, job: Job) -> bool:
        """Returns whether a job whose training is finished has results left to compute."""
        weights = self.weights(job)
        return self._elsewhere or not weights or not self._evaluator.is_complete(job, weights)

    def _untrained_key(self, job: Job) -> object:
        return tuple(self.evaluations(job))

    def _ids(self, job: Job, weights: str) -> list[str]:
        sets = self._plan.methods[job.method].test_sets
        found = (self._evaluator.identities(job, test_set, weights) for test_set in sets)
        return [identity for identities in found for identity in identities.values()]

    def _training(self, job: Job, folder: Path) -> Training:
        return Training(job.opt, folder, self._plan.folder, self.train_threads, self._metrics)

    def _evaluation(self, job: Job) -> Evaluation | None:
        """Returns the work left of a job, once its training is finished."""
        if not self._is_left(job):
            return None
        known = self.evaluations(job)
        uses = ((id, self._store.frame_use(id)) for id in known)
        return Evaluation(
            self._plan.opt,
            job,
            self._part_folder(job),
            cost_set=self._plan.most_frames(job.method).name,
            measure_cost=self._elsewhere,
            threads=self.evaluate_threads,
            environment=None if self._elsewhere else self._plan.environment,
            records=[record for id in known for record in self._store.records(id)],
            metrics=self._metrics,
            frame_uses=[{"evaluation": id, "psnr": use} for id, use in uses if use is not None],
        )


def _training_name(folder: Path) -> str:
    return f"train-{folder.name}"

"""Runs a study: trains, evaluates and measures everything that is not finished."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from srtoolbox.comparison.options import NO_TRAINING, StudyOptions
from srtoolbox.comparison.store import (
    Entry,
    Published,
    ResultStore,
    StudyCard,
    changed_sources,
)
from srtoolbox.comparison.study.facts import metric_facts, protocol_facts
from srtoolbox.comparison.study.job import JobRunner
from srtoolbox.comparison.study.launcher import (
    MAX_DELAY,
    Launch,
    forget_old_jobs,
    submitted_jobs,
)
from srtoolbox.comparison.study.parallel import (
    Processes,
    Task,
    Workers,
    count_workers,
    run_in_parallel,
)
from srtoolbox.comparison.study.parts import Part
from srtoolbox.comparison.study.plan import EvaluationSet, Job, StudyPlan, file_hashes, study_folder
from srtoolbox.comparison.study.reuse import copy_training, is_finished
from srtoolbox.comparison.study.tasks import StudyTasks
from srtoolbox.config.files import Tree, dump, plain
from srtoolbox.config.load import load_options
from srtoolbox.engine.device.precision import pick_device, resolve
from srtoolbox.errors import UserError
from srtoolbox.utils.console import names_text
from srtoolbox.utils.files import locked, write_atomic

_log = logging.getLogger("srtoolbox")

_EARLIER = (
    "of an earlier version, which compared sizes of files, not their content, and no code of your "
    "own components"
)
_POLL = 0.5  # seconds between two looks for the results of a job
_NO_PART = (
    "its job ended, but left no results that fit this study; check that all machines see the same "
    "folder and have the same packages and weights of metrics, and that no file of your own "
    "components was edited meanwhile, then run the same command again"
)


def compare(
    options: str | Path,
    overrides: Sequence[str] = (),
    device: str = "auto",
    only: Sequence[str] = (),
    launcher: str | None = None,
) -> ResultStore:
    """Runs a study, as ``srtoolbox compare`` does, and returns its results.

    Args:
        options: Option file, or the name of a shipped one (``"quickstart"``).
        overrides: ``"KEY=VALUE"`` each, for example ``"train.total_iter=1000"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        only: Methods to run; empty: all.
        launcher: ``"slurm"`` runs every training and evaluation as a job of a cluster, ``"local"``
            as a job of this machine; None: in ``jobs`` processes of this command.

    Returns:
        The store with every score. ``srtoolbox.comparison.report.write.write_report`` writes
        tables, figures and page from its ``folder``.

    Raises:
        UserError: if options, data or device are invalid.
    """
    opt, tree = load_options(options, overrides, StudyOptions)
    if launcher is None:
        return run_study(opt, tree, pick_device(device), only)
    launch = Launch(launcher, device)
    return run_study(opt, tree, launch.device_here(), only, launch)


def run_study(
    opt: StudyOptions,
    tree: Tree,
    device: torch.device,
    only: Sequence[str] = (),
    launch: Launch | None = None,
) -> ResultStore:
    """Runs everything of a study that is not finished, and returns its store.

    Finished trainings, evaluations and measurements are recognised by the hash of their options
    and data. An interrupted training resumes from its last checkpoint. If a method fails
    (non-finite loss), the others are still run, and the table names it.

    Args:
        opt: The checked options.
        tree: The tree that they were read from.
        device: Device to run on.
        only: Methods to run; the tables also show finished results of the others. Empty: all.
        launch: Where trainings and evaluations run; None: on this machine, ``jobs`` at a time.

    Raises:
        UserError: before anything is trained, if any part of the study is faulty.
    """
    if launch is not None:
        launch.check(opt)
    with file_hashes(study_folder(opt)) as hashes:
        plan = StudyPlan(opt, tree, device, only, hashes)
    with locked(plan.folder):
        return _StudyRun(plan, launch).run()


class _StudyRun:
    """Executes a plan."""

    def __init__(self, plan: StudyPlan, launch: Launch | None) -> None:
        self._plan, self._opt, self._device = plan, plan.opt, plan.device
        self._launch = launch
        self._store = ResultStore(plan.folder)
        self._card = _new_card(plan)
        self._runner = JobRunner(plan, self._store)
        self._failures: dict[Path, str] = {}  # of trainings in other processes, by folder
        self._entries: dict[tuple[str, int], Entry] = {}  # of this run, by method and seed
        self._before: dict[tuple[str, int], Entry] = {}  # of an earlier run, by method and seed
        with suppress(UserError):  # none, or damaged; then all is found out again
            before = self._store.load_card()
            self._before = {(entry.method, entry.seed): entry for entry in before.entries}
            if launch is not None and before.entries:  # this machine may be another one
                self._card.environment, self._card.training = before.environment, before.training

    def run(self) -> ResultStore:
        jobs = self._plan.jobs
        self._write_options()
        self._name_old_scores()
        self._name_dropped_entries()
        self._name_submitted_jobs()
        self._copy_finished_runs()
        self._enter_other_methods()
        self._keep_earlier_results()
        if self._launch is not None or self._opt.jobs > 1:
            self._run_in_parallel()
        for number, job in enumerate(jobs, start=1):
            entry = self._entries.get((job.method, job.seed))
            if entry is not None and (entry.failure or self._launch is not None):
                continue
            _log.info("[%d/%d] %s, seed %d", number, len(jobs), job.method, job.seed)
            self._run_job(job)
        return self._store

    def _write_options(self) -> None:
        folder = self._plan.folder
        try:
            write_atomic(folder / "study.yml", dump(self._plan.tree))
            self._plan.budget.save()
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror})") from error

    def _name_old_scores(self) -> None:
        """Names the test sets whose scores are of an earlier version, which are not used again."""
        names: dict[str, None] = {}
        for job in self._plan.jobs:
            entry = self._before.get((job.method, job.seed))
            if entry is None:
                continue
            for test_set in self._plan.methods[job.method].test_sets:
                stored = entry.evaluations.get(test_set.name, "")
                if self._is_of_old_identity(stored, job, test_set):
                    names[test_set.name] = None
        if names:
            _log.warning(
                "%s: the stored scores are %s; these test sets are evaluated again",
                *(", ".join(names), _EARLIER),
            )

    def _name_dropped_entries(self) -> None:
        """Names the methods and seeds of an earlier run that the options have no more."""
        jobs = {(job.method, job.seed) for job in self._plan.all_jobs}
        dropped = [f"{method}, seed {seed}" for method, seed in self._before.keys() - jobs]
        if dropped:
            _log.warning(
                "left out of the tables, as the options do not name them: %s; their scores stay in "
                "%s, and a command that names them shows them again",
                *(names_text(sorted(dropped)), self._plan.folder),
            )

    def _name_submitted_jobs(self) -> None:
        """Names jobs of an earlier command whose work this one does again, without a launcher."""
        if self._launch is not None or not (found := submitted_jobs(self._plan.folder)):
            return
        tasks = StudyTasks(self._plan, self._store, self._runner.evaluator, elsewhere=True)
        names = tasks.names()
        if ids := [id for name, id in found.items() if name in names]:
            _log.warning(
                "jobs that an earlier command submitted are not collected: %s; this command does "
                "their work again. Run it with --launcher to collect them, or end those that run",
                ", ".join(ids),
            )

    def _is_of_old_identity(self, stored: str, job: Job, test_set: EvaluationSet) -> bool:
        """Returns whether an evaluation is of an earlier version, and not repeated since."""
        if stored not in self._identities(job, [stored], [test_set], old=True):
            return False
        now = self._identities(job, [stored], [test_set])
        return stored not in now and not all(map(self._store.records, now))

    def _identities(
        self, job: Job, stored: Iterable[str], test_sets: Sequence[EvaluationSet], old: bool = False
    ) -> set[str]:
        """Returns the ids that evaluations of a job have with the weights of stored ones."""
        return {
            identity
            for weights in self._weights(stored)
            for test_set in test_sets
            for identity in self._runner.evaluator.identities(job, test_set, weights, old).values()
        }

    def _weights(self, stored: Iterable[str]) -> set[str]:
        """Returns the hashes of the weights of stored evaluations."""
        records = (record for id in stored for record in self._store.records(id))
        return {str(record.get("weights")) for record in records}

    def _copy_finished_runs(self) -> None:
        """Copies trainings that are finished in another study and not in this one."""
        for job in self._plan.jobs:
            if job.folder is None or job.finished_run is None or is_finished(job.folder):
                continue
            try:
                copy_training(job.finished_run, job.folder)
            except OSError as error:
                raise UserError(
                    f"trainings_from: {job.finished_run} cannot be copied to {job.folder} "
                    f"({error.strerror})"
                ) from error
            _log.info("%s, seed %d: copied from %s", job.method, job.seed, job.finished_run)

    def _enter_other_methods(self) -> None:
        """Enters the earlier results of the methods that this command leaves out."""
        left_out = [job for job in self._plan.all_jobs if job not in self._plan.jobs]
        if not left_out or not (self._plan.folder / "study.json").exists():
            return
        before = self._store.load_card()
        if changed := changed_sources(before, self._card):
            raise UserError(
                f"{self._plan.folder}: {changed}; run all methods, without --only, to score them "
                "with the same weights"
            )
        version, now = before.environment.get("srtoolbox"), self._plan.environment["srtoolbox"]
        other = (
            "of other options or code" if version == now else f"of srtoolbox {version}, not {now}"
        )
        done = {(entry.method, entry.seed): entry for entry in before.entries}
        notes: dict[str, None] = {}  # one for all seeds of a method
        for job in left_out:
            if (entry := done.get((job.method, job.seed))) is None:
                continue
            is_same, reason = self._compare_with_earlier(job, entry)
            of_method = f"{job.method}: its earlier results"
            if not is_same:
                note = (
                    f"are {other}, and are left out; run it without --only to have it in the table"
                )
                notes[f"{of_method} {note}"] = None
                continue
            if reason is not None:
                note = "stay in the table, but cannot be compared with the options at hand"
                notes[f"{of_method} {note}: {reason}"] = None
            if job.method in self._plan.unbuilt:
                self._keep(job, entry)
            else:
                self._keep_current(job, entry)
        for note in notes:
            _log.warning("%s", note)

    def _keep_earlier_results(self) -> None:
        """Keeps earlier results of the jobs to run until they are entered again.

        Otherwise a command that is killed would leave the methods behind it out of the tables.
        """
        if not self._before or changed_sources(self._store.load_card(), self._card):
            return
        for job in self._plan.jobs:
            entry = self._before.get((job.method, job.seed))
            if entry is None or entry.failure or entry.identity != job.identity:
                continue
            entry, _ = self._with_current_scores(job, entry)  # those that are lost are made again
            if entry.evaluations:
                self._keep(job, entry)

    def _compare_with_earlier(self, job: Job, entry: Entry) -> tuple[bool, str | None]:
        """Returns whether an entry is of this job, or True and why this cannot be told."""
        if (reason := self._plan.unbuilt.get(job.method)) is not None:
            return True, reason
        try:
            return entry.identity == job.identity, None
        except UserError as error:  # its file of weights is missing
            return True, str(error)

    def _keep_current(self, job: Job, entry: Entry) -> None:
        """Enters an earlier entry with the evaluations of these files, metrics and protocols."""
        entry, lost = self._with_current_scores(job, entry)
        for reason, names in lost.items():
            _log.warning(
                "%s, seed %d: its scores on %s are %s and are left out; run it without --only to "
                "evaluate again",
                *(job.method, job.seed, ", ".join(names), reason),
            )
        if entry.failure or entry.evaluations:
            self._keep(job, entry)

    def _with_current_scores(
        self, job: Job, entry: Entry
    ) -> tuple[Entry, dict[str, dict[str, None]]]:
        """Leaves out evaluations of other files, metrics or protocols.

        Returns:
            The entry, and the names of the test sets that lack evaluations, by the reason.
        """
        groups = [entry.evaluations, *entry.other_protocols.values()]
        before = {dataset for group in groups for dataset in group}
        weights = self._weights(id for group in groups for id in group.values())
        current: dict[str, dict[str, str]] = {name: {} for name in self._opt.protocol_names}
        lost: dict[str, dict[str, None]] = {}  # test sets by reason
        for test_set in self._plan.methods[job.method].test_sets:
            if test_set.name not in before:
                continue
            found: dict[str, str] = {}
            for known in weights:
                identities = self._runner.evaluator.identities(job, test_set, known)
                found |= {name: id for name, id in identities.items() if self._store.records(id)}
            for protocol, identity in found.items():
                current[protocol][test_set.name] = identity
            if len(found) < len(test_set.protocols):
                stored = entry.evaluations.get(test_set.name, "")
                is_old = self._is_of_old_identity(stored, job, test_set)
                reason = _EARLIER if is_old else "of other files, metrics or protocols"
                lost.setdefault(reason, {})[test_set.name] = None
        evaluations = current.pop(self._opt.protocol_names[0])
        others = {protocol: group for protocol, group in current.items() if group}
        return replace(entry, evaluations=evaluations, other_protocols=others), lost

    def _run_in_parallel(self) -> None:
        """Trains and evaluates in other processes.

        Those on this machine leave the costs to ``run``, as nothing else may run meanwhile.
        """
        elsewhere = self._launch is not None
        tasks = StudyTasks(self._plan, self._store, self._runner.evaluator, elsewhere)
        running = forget_old_jobs(self._plan.folder, tasks.is_current) if elsewhere else {}
        if running:
            _log.warning(
                "jobs of other options may still be running: %s; this command does not wait for "
                "them; end them if you do not need their results",
                ", ".join(running.values()),
            )
        done = tasks.finished(self._before) if elsewhere else {}
        for job in self._plan.jobs:
            if (part := tasks.part(job)) is not None:  # of an interrupted run
                self._merge(job, part) if part.entry.failure is None else part.remove()
            elif entry := done.get((job.method, job.seed)):
                self._enter(job, entry)
        waiting = tasks.pending(self._entries)
        if (workers := self._workers(tasks, len(waiting))) is not None:
            trainings = sum(task.is_training for task in waiting)
            counts = trainings, len(waiting) - trainings, workers.count
            _log.info("%d trainings and %d evaluations, %d at a time", *counts)
            if not elsewhere:
                waiting = tasks.longest_first(waiting)
            for task, failure in run_in_parallel(waiting, workers):
                self._end(task, failure, tasks)
        self._store.arrange([id for job in self._plan.jobs for id in tasks.evaluations(job)])
        tasks.remove_old_parts(running)

    def _workers(self, tasks: StudyTasks, count: int) -> Workers | None:
        """Returns the processes for a number of tasks; None if this process does them."""
        opt = self._opt
        if self._launch is not None:
            return self._launch.workers(opt, self._plan.folder, count) if count else None
        workers = count_workers(opt.jobs, count, self._device, opt.threads)
        if workers == 1:
            return None
        tasks.train_threads = opt.threads or max(1, torch.get_num_threads() // workers)
        # As many as without other processes, because sums of floats depend on their number.
        tasks.evaluate_threads = opt.threads or torch.get_num_threads()
        return Processes(workers, self._device, opt.plugins)

    def _end(self, task: Task, failure: str | None, tasks: StudyTasks) -> None:
        """Enters what a task of another process has done."""
        job = task.job
        if failure is None:
            done = "trained" if task.is_training else "evaluated"
            _log.info("%s, seed %d: %s", job.method, job.seed, done)
        else:
            _log.error("%s, seed %d: %s", job.method, job.seed, failure)
        if not task.is_training:
            if failure is not None:
                self._enter(job, self._runner.new_entry(job, failure))
            elif (part := self._part(job, tasks)) is not None:
                self._merge(job, part)
            elif self._launch is not None:  # it is no work for this machine
                self._enter(job, self._runner.new_entry(job, _NO_PART))
                _log.error("%s, seed %d: %s", job.method, job.seed, _NO_PART)
        elif failure is not None and job.folder is not None:
            self._failures[job.folder] = failure

    def _part(self, job: Job, tasks: StudyTasks) -> Part | None:
        """Returns the results of a job that has ended; those of another node may appear later."""
        last = time.monotonic() + (MAX_DELAY if self._launch is not None else 0.0)
        while (part := tasks.part(job)) is None and time.monotonic() < last:
            time.sleep(_POLL)
        return part

    def _merge(self, job: Job, part: Part) -> None:
        """Enters the results of another process."""
        part.merge_into(self._store)
        if self._launch is not None:
            if part.entry.failure is not None:  # it is in the log of the job alone
                _log.error("%s, seed %d: %s", job.method, job.seed, part.entry.failure)
            self._card.environment = part.environment
            budget = self._plan.budget.describe()
            self._card.training = _describe_training(self._opt, part.precision, budget)
        self._enter(job, part.entry)
        part.remove()

    def _run_job(self, job: Job) -> None:
        """Runs one job to its end, in this process, and enters it on the card."""
        failure = self._failures.get(job.folder) if job.folder else None
        if failure is not None:
            self._enter(job, self._runner.new_entry(job, failure))
            return
        key = job.method, job.seed
        before = self._entries.get(key, self._before.get(key))
        self._enter(job, self._runner.run(job, before))

    def _enter(self, job: Job, entry: Entry) -> None:
        """Enters a job on the card, in the place of an earlier entry, and saves the card."""
        key = job.method, job.seed
        self._entries[key] = entry
        self._keep(job, entry)
        self._store.save_card(self._card)

    def _keep(self, job: Job, entry: Entry) -> None:
        """Enters a job on the card; an entry of an earlier run gets the words of these options."""
        if (method := self._plan.methods.get(job.method)) is not None:
            skipped = method.skipped_datasets
            entry = replace(entry, deviations=job.deviations, skipped_datasets=skipped)
        order = [(job.seed, job.method) for job in self._plan.all_jobs]
        place = entry.seed, entry.method
        others = [e for e in self._card.entries if (e.seed, e.method) != place]
        self._card.entries = sorted(
            [*others, entry], key=lambda entry: order.index((entry.seed, entry.method))
        )


def _new_card(plan: StudyPlan) -> StudyCard:
    """Returns the card of a study, without entries."""
    opt, budget = plan.opt, plan.budget.describe()
    first, *other_protocols = protocol_facts(opt)
    return StudyCard(
        name=opt.name,
        scale=opt.scale,
        protocol=first,
        metrics=metric_facts(plan.metrics),
        training=_describe_training(opt, resolve(opt.train.precision, plan.device), budget),
        environment=plan.environment,
        other_protocols=other_protocols,
        published=[Published(**plain(row)) for row in opt.published],
        budget=budget,
        jobs=opt.jobs,
        sweeps=plain(opt.report.sweeps),
        notes=list(opt.report.notes),
        rgb_bands=plain(opt.val.rgb_bands),
    )


def _describe_training(opt: StudyOptions, precision: str, budget: str | None) -> str:
    train = opt.train
    if train == NO_TRAINING:
        return "none; weights are from files"
    optimizer = ", ".join(f"{k} {v}" for k, v in train.optim_g.items() if k != "type")
    schedule = train.scheduler["type"] if train.scheduler else "constant lr"
    losses = " + ".join(spec["type"] for spec in train.losses.values())
    crop = (opt.datasets.train or {}).get("gt_size")
    return (
        (budget or f"{train.total_iter} iterations")
        + f" with batch {train.batch_size}"
        + (f" of {crop}×{crop} crops" if crop else "")
        + f", {losses}, {train.optim_g['type']} ({optimizer}), {schedule}, {precision}; "
        "the same samples in the same order for every method; scores of the final weights"
    )

"""Runs a study: trains, evaluates and measures everything that is not finished."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from srtoolbox.comparison.options import NO_TRAINING, StudyOptions
from srtoolbox.comparison.store import (
    Entry,
    Published,
    ResultStore,
    StudyCard,
    changed_sources,
)
from srtoolbox.comparison.study.budget import step_seconds, training_options, training_steps
from srtoolbox.comparison.study.evaluate import StudyEvaluator
from srtoolbox.comparison.study.facts import metric_facts, protocol_facts
from srtoolbox.comparison.study.parallel import count_workers, train_in_parallel
from srtoolbox.comparison.study.plan import Job, StudyPlan, load_network
from srtoolbox.comparison.study.reuse import copy_training, device_of, is_finished
from srtoolbox.config.files import Tree, dump, plain
from srtoolbox.config.load import load_options
from srtoolbox.data.stream import to_float
from srtoolbox.engine.build import network_identity
from srtoolbox.engine.device.precision import cpu_threads, pick_device, resolve
from srtoolbox.engine.profiling import COUNTING, measure_inference
from srtoolbox.engine.training.train import train
from srtoolbox.errors import ComponentError, RunError, UserError
from srtoolbox.utils.environment import digest
from srtoolbox.utils.files import locked, write_atomic

_log = logging.getLogger("srtoolbox")


def compare(
    options: str | Path,
    overrides: Sequence[str] = (),
    device: str = "auto",
    only: Sequence[str] = (),
) -> ResultStore:
    """Runs a study, as ``srtoolbox compare`` does, and returns its results.

    Args:
        options: Option file, or the name of a shipped one (``"quickstart"``).
        overrides: ``"KEY=VALUE"`` each, for example ``"train.total_iter=1000"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        only: Methods to run; empty: all.

    Returns:
        The store with every score. ``srtoolbox.comparison.report.write.write_report`` writes
        tables, figures and page from its ``folder``.

    Raises:
        UserError: if options, data or device are invalid.
    """
    opt, tree = load_options(options, overrides, StudyOptions)
    return run_study(opt, tree, pick_device(device), only)


def run_study(
    opt: StudyOptions, tree: Tree, device: torch.device, only: Sequence[str] = ()
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

    Raises:
        UserError: before anything is trained, if any part of the study is faulty.
    """
    plan = StudyPlan(opt, tree, device, only)
    with locked(plan.folder):
        return _StudyRun(plan).run()


class _StudyRun:
    """Executes a plan."""

    def __init__(self, plan: StudyPlan) -> None:
        self._plan, self._opt, self._device = plan, plan.opt, plan.device
        self._store = ResultStore(plan.folder)
        self._card = _new_card(plan)
        self._evaluator = StudyEvaluator(plan, self._store)
        self._failures: dict[Path, str] = {}  # of trainings in other processes, by folder
        self._before: dict[tuple[str, int], Entry] = {}  # of an earlier run, by method and seed
        with suppress(UserError):  # none, or damaged; then all is found out again
            entries = self._store.load_card().entries
            self._before = {(entry.method, entry.seed): entry for entry in entries}

    def run(self) -> ResultStore:
        jobs = self._plan.jobs
        self._write_options()
        self._copy_finished_runs()
        self._enter_other_methods()
        self._train_in_parallel()
        for number, job in enumerate(jobs, start=1):
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
        if before.protocols != self._card.protocols:
            return
        if changed := changed_sources(before, self._card):
            raise UserError(
                f"{self._plan.folder}: {changed}; run all methods, without --only, to score them "
                "with the same weights"
            )
        done = {(entry.method, entry.seed): entry for entry in before.entries}
        for job in left_out:
            entry = done.get((job.method, job.seed))
            if entry is not None and entry.identity == job.identity:
                self._enter(entry)

    def _train_in_parallel(self) -> None:
        """Trains in several processes if the study asks for it; ``_run_job`` reads the results."""
        waiting = {
            job.folder: job.opt
            for job in self._plan.jobs
            if job.folder is not None and not is_finished(job.folder)
        }
        threads = self._opt.threads
        workers = count_workers(self._opt.jobs, len(waiting), self._device, threads)
        if workers == 1:
            return
        threads = threads or max(1, torch.get_num_threads() // workers)
        with cpu_threads(threads):
            seconds = {
                folder: step_seconds(run, self._device) * training_options(run)[0].total_iter
                for folder, run in waiting.items()
            }
        # The longest first, so that none runs alone at the end.
        ordered = dict(sorted(waiting.items(), key=lambda item: -seconds[item[0]]))
        _log.info("%d trainings, %d in parallel", len(waiting), workers)
        self._failures = train_in_parallel(
            ordered, self._device, workers, threads, self._plan.folder
        )

    def _run_job(self, job: Job) -> None:
        """Runs one job to its end and enters it on the card."""
        entry = Entry(
            job.method,
            job.seed,
            device=self._plan.environment["device"],
            identity=job.identity,
            deviations=job.deviations,
            skipped_datasets=self._plan.methods[job.method].skipped_datasets,
        )
        try:
            folder = job.folder
            net = self._train(job, folder, entry) if folder else load_network(job.opt, self._device)
            self._evaluator.evaluate(job, entry, net)
            if folder:
                before = self._before.get((job.method, job.seed))
                if before is not None and before.evaluations == entry.evaluations:
                    entry.degenerate = before.degenerate
                else:
                    entry.degenerate = self._evaluator.degenerate_output(job, net)
            entry.cost = self._measure_cost(job, net)
        except (RunError, ComponentError) as error:
            entry.failure = str(error)
            _log.error("%s, seed %d: %s", job.method, job.seed, error)
        self._enter(entry)
        self._store.save_card(self._card)

    def _train(self, job: Job, folder: Path, entry: Entry) -> nn.Module:
        """Trains a network, unless that is finished, and enters the facts of its training."""
        if folder in self._failures:
            raise RunError(self._failures[folder])
        entry.run = str(folder.relative_to(self._plan.folder))
        with cpu_threads(self._opt.threads):
            study = self._plan.folder
            trained = train(job.opt, self._device, resume=True, folder=folder, study=study)
        entry.train_seconds, entry.steps = trained.seconds, trained.step
        entry.threads = trained.threads
        entry.device = device_of(folder, entry.device)
        return trained.net

    def _measure_cost(self, job: Job, net: nn.Module) -> str:
        """Measures costs on the test set with the most frames that all methods can use."""
        dataset = self._plan.most_frames(job.method).data
        lq = to_float(torch.from_numpy(dataset[0]["lq"]).to(self._device))[None]
        precision, enhance = self._opt.train.precision, job.opt.val.enhance
        identity = digest(
            {
                "network_g": network_identity(job.opt.network_g),
                "scale": job.opt.scale,
                "input": list(lq.shape),
                "train": plain(job.opt.train) if job.folder else None,
                "precision": precision,
                "environment": self._plan.environment,
                "enhance": plain(enhance),
                "counting": COUNTING,
            }
        )
        if self._store.cost(identity) is None:
            cost = measure_inference(net, lq, dataset.reference, enhance, precision)
            step = next(training_steps(job.opt, self._device)) if job.folder else None
            cost["training_memory"] = step.memory() if step else None
            self._store.add_cost({"cost": identity, "method": job.method, **cost})
        return identity

    def _enter(self, entry: Entry) -> None:
        order = [(job.seed, job.method) for job in self._plan.all_jobs]
        self._card.entries.append(entry)
        self._card.entries.sort(key=lambda entry: order.index((entry.seed, entry.method)))


def _new_card(plan: StudyPlan) -> StudyCard:
    """Returns the card of a study, without entries."""
    opt, budget = plan.opt, plan.budget.describe()
    first, *other_protocols = protocol_facts(opt)
    return StudyCard(
        name=opt.name,
        scale=opt.scale,
        protocol=first,
        metrics=metric_facts(plan.metrics),
        training=_describe_training(opt, plan.device, budget),
        environment=plan.environment,
        other_protocols=other_protocols,
        published=[Published(**plain(row)) for row in opt.published],
        budget=budget,
        jobs=opt.jobs,
        sweeps=plain(opt.report.sweeps),
        notes=list(opt.report.notes),
        rgb_bands=plain(opt.val.rgb_bands),
    )


def _describe_training(opt: StudyOptions, device: torch.device, budget: str | None) -> str:
    train = opt.train
    if train == NO_TRAINING:
        return "none; weights are from files"
    optimizer = ", ".join(f"{k} {v}" for k, v in train.optim_g.items() if k != "type")
    schedule = train.scheduler["type"] if train.scheduler else "constant lr"
    losses = " + ".join(spec["type"] for spec in train.losses.values())
    crop = (opt.datasets.train or {}).get("gt_size")
    precision = resolve(train.precision, device)
    return (
        (budget or f"{train.total_iter} iterations")
        + f" with batch {train.batch_size}"
        + (f" of {crop}×{crop} crops" if crop else "")
        + f", {losses}, {train.optim_g['type']} ({optimizer}), {schedule}, {precision}; "
        "the same samples in the same order for every method; scores of the final weights"
    )

"""Runs a study: trains what is not trained, scores what is not scored, measures costs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from torch import nn

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.store import Entry, ResultStore
from srtoolbox.comparison.study.budget import Budget, training_steps
from srtoolbox.comparison.study.card import new_card
from srtoolbox.comparison.study.evaluate import Method, Scorekeeper, Scorer, most_frames
from srtoolbox.comparison.study.parallel import count_workers, train_side_by_side
from srtoolbox.comparison.study.plan import Job, plan
from srtoolbox.comparison.study.reuse import copy_finished_runs, device_of, index_finished_runs
from srtoolbox.config.files import Tree, dump, plain
from srtoolbox.data.stream import to_float
from srtoolbox.engine.build import (
    assemble,
    build_dataset,
    build_network,
    check_crop,
    fingerprint,
    load_pretrained,
)
from srtoolbox.engine.device.precision import cpu_threads
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.profiling import COUNTING, measure_inference
from srtoolbox.engine.training.train import train
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.environment import describe_environment, digest
from srtoolbox.utils.files import locked, write_atomic

_log = logging.getLogger("srtoolbox")


def run_study(
    opt: StudyOptions, tree: Tree, device: torch.device, only: Sequence[str] = ()
) -> ResultStore:
    """Does whatever of the study is not done yet and returns its store.

    Finished trainings, evaluations and measurements are recognised by the hash of what defines
    them. A training that was broken off goes on at its last checkpoint. A method that fails
    (non-finite loss) does not keep the others from being run; it is named in the table.

    Args:
        opt: The checked study.
        tree: What it was read from.
        device: Where to run.
        only: Methods to run; of the others, what is done already is in the tables. None: all.

    Raises:
        UserError: before anything is trained, if any part of the study does not fit.
    """
    study = Study(opt, tree, device, only)
    with locked(study.folder):
        study.open()
        study.begin()
        study.train_side_by_side()
        for number, job in enumerate(study.jobs, start=1):
            _log.info("[%d/%d] %s, seed %d", number, len(study.jobs), job.method, job.seed)
            study.run(job)
    return study.store


class Study:
    """A study with all its parts, of which every one is built once: a fault shows at once.

    Args:
        opt: The checked study.
        tree: What it was read from.
        device: Where to run.
        only: Methods to run; none: all.

    Attributes:
        folder: Where it writes.
        jobs: What is to be run, once it is open with the iterations that the budget gives.
        trained: The methods that are trained here.
        methods: What is known of each method before it is run.
        folders: Of the training of each method and seed.
        elsewhere: Where a training of these folders is finished in another study.
        store: What is done.
        scores: Scores networks into it.
        card: What was entered so far.
    """

    def __init__(
        self, opt: StudyOptions, tree: Tree, device: torch.device, only: Sequence[str] = ()
    ) -> None:
        self.opt, self.device, self._tree = opt, device, tree
        self.folder = opt.path.experiments_root / "compare" / opt.name
        self._all = plan(opt, tree)
        self._only = set(only) or set(opt.methods)
        for name in self._only - set(opt.methods):
            raise UserError(f"--only {name}: no such method; there are: {', '.join(opt.methods)}")
        self.scorer = Scorer(opt, device)
        self.trained: set[str] = set()
        self.methods: dict[str, Method] = {}
        self._others = index_finished_runs(opt.trainings_from)
        self._build_everything()
        self.failures: dict[Path, str] = {}
        self.environment = describe_environment(device)

    def open(self) -> None:
        """Reads what is done and shares the budget out. Writes nothing."""
        opt = self.opt
        self.store = ResultStore(self.folder)
        self.budget = Budget(opt.budget, self.device, self.folder / "budget.json")
        runs = {j.method: j.opt for j in self._all if j.method in self.trained}
        trains = {m: run.train for m, run in self.budget.share(runs).items()}
        self._all = [
            replace(job, opt=replace(job.opt, train=trains.get(job.method, job.opt.train)))
            for job in self._all
        ]
        self.jobs = [job for job in self._all if job.method in self._only]
        self.folders, self.elsewhere = self._training_folders()
        budget = self.budget.describe()
        self.scores = Scorekeeper(opt, self.scorer, self.store, self.environment, self.device)
        self.card = new_card(opt, self.scorer.metrics, self.environment, self.device, budget)

    def begin(self) -> None:
        """Writes down what is to be done, and takes over what is done of methods left out."""
        try:
            write_atomic(self.folder / "study.yml", dump(self._tree))
            self.budget.save()
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror})") from error
        copy_finished_runs(self.folders, self.elsewhere)
        left_out = [job for job in self._all if job.method not in self._only]
        if not left_out or not (self.folder / "study.json").exists():
            return
        before = self.store.load_card()
        if [view.protocol for view in before.views()] != [v.protocol for v in self.card.views()]:
            return
        done = {(entry.method, entry.seed): entry for entry in before.entries}
        for job in left_out:
            entry = done.get((job.method, job.seed))
            if entry is not None and entry.identity == _identity(job):
                self._enter(entry)

    def train_side_by_side(self) -> None:
        """Trains in several processes, if the study says so; ``run`` finds the results."""
        trainings = {
            self.folders[j.method, j.seed]: j.opt for j in self.jobs if j.method in self.trained
        }
        waiting = [
            (options, folder)
            for folder, options in trainings.items()
            if not (folder / "finished.json").exists()
        ]
        threads = self.opt.threads
        workers = count_workers(self.opt.jobs, len(waiting), self.device, threads)
        if workers > 1:
            threads = threads or max(1, torch.get_num_threads() // workers)
            # The longest first, so that none is left to run alone at the end.
            with cpu_threads(threads):
                waiting.sort(key=lambda one: -self.step_seconds(one[0]) * one[0].train.total_iter)
            _log.info("%d trainings, %d at a time", len(waiting), workers)
            self.failures = train_side_by_side(waiting, self.device, workers, threads)

    def run(self, job: Job) -> None:
        """Brings one job to its end and enters it on the card."""
        method = self.methods[job.method]
        entry = Entry(
            job.method,
            job.seed,
            deviations=job.deviations,
            skipped_datasets=method.skipped_datasets,
        )
        entry.identity, entry.device = _identity(job), self.environment["device"]
        try:
            if (reason := self.failures.get(self.folders.get((job.method, job.seed)))) is not None:
                raise RunError(reason)
            net = self._network(job, entry)
            for test_set in method.test_sets:
                self.scores.score(job, entry, test_set, net)
            entry.cost = self._measure(job, net)
        except RunError as error:
            entry.failure = str(error)
            _log.error("%s, seed %d: %s", job.method, job.seed, error)
        self._enter(entry)
        self.store.save_card(self.card)

    def step_seconds(self, run: RunOptions) -> float:
        """How long a training step takes, roughly."""
        return mean(step.seconds() for step in training_steps(run, self.device))

    def build(self, job: Job) -> nn.Module:
        """The network of a method that is not trained here, with its weights."""
        net = build_network(job.opt, self.device)
        load_pretrained(job.opt, net)
        return assemble(job.opt, net).eval()

    def _build_everything(self) -> None:
        """Builds every part of every method once, so that a fault shows before hours are spent."""
        for job in self._all[: len(self.opt.methods)]:
            try:
                net = build_network(job.opt, torch.device("cpu"))
                if job.opt.train is not None and any(p.requires_grad for p in net.parameters()):
                    self.trained.add(job.method)
                if job.method in self._only:
                    load_pretrained(job.opt, net)
                    assemble(job.opt, net)
                    if job.method in self.trained:
                        crops = build_dataset("train", job.opt.datasets.train, job.opt, net)
                        check_crop(crops, net)
                self.methods[job.method] = self.scorer.fit(job.opt, net)
            except UserError as error:
                raise UserError(f"method {job.method}: {error}") from error
        if (of := self.opt.budget.of) in self.opt.methods and of not in self.trained:
            raise UserError(f"budget.of: {of} is not trained here; name a method that is")
        for name in self.opt.test_sets:
            misfits = [
                m.skipped_datasets[name]
                for m in self.methods.values()
                if name in m.skipped_datasets
            ]
            if len(misfits) == len(self.opt.methods):
                raise UserError(f"datasets.{name}: no method fits it: {'; '.join(misfits)}")

    def _network(self, job: Job, entry: Entry) -> nn.Module:
        if job.method not in self.trained:
            return self.build(job)
        folder = self.folders[job.method, job.seed]
        entry.run = str(folder.relative_to(self.folder))
        with cpu_threads(self.opt.threads):
            trained = train(job.opt, self.device, resume=True, folder=folder)
        entry.train_seconds, entry.steps = trained.seconds, trained.step
        entry.threads = trained.threads
        entry.device = device_of(folder, self.environment["device"])
        return trained.net

    def _training_folders(self) -> tuple[dict[tuple[str, int], Path], dict[Path, Path]]:
        """By method and seed, and those of the same trainings in other studies.

        Methods that differ only in how they are evaluated share one.
        """
        shared: dict[str, Path] = {}
        folders = {}
        for job in self._all:
            if job.method in self.trained and job.method in self._only:
                identity = fingerprint(job.opt)
                name = f"{job.opt.name}-s{job.seed}-{identity[:8]}"
                folder = shared.setdefault(identity, self.folder / "runs" / name)
                folders[job.method, job.seed] = folder
        others = self._others
        return folders, {shared[i]: others[i] for i in shared.keys() & others.keys()}

    def _measure(self, job: Job, net: nn.Module) -> str:
        """Costs on the test set with the most frames of those that fit all methods."""
        dataset = most_frames(self.methods, job.method).data
        lq = to_float(torch.from_numpy(dataset[0]["lq"]).to(self.device))[None]
        precision, enhance = self.opt.train.precision, job.opt.val.enhance
        trained = job.method in self.trained
        identity = digest(
            {
                "network_g": plain(job.opt.network_g),
                "scale": job.opt.scale,
                "input": list(lq.shape),
                "train": plain(job.opt.train) if trained else None,
                "precision": precision,
                "environment": self.environment,
                "enhance": plain(enhance),
                "counting": COUNTING,
            }
        )
        if self.store.cost(identity) is None:
            cost = measure_inference(net, lq, dataset.reference, enhance, precision)
            step = next(training_steps(job.opt, self.device)) if trained else None
            cost["training_memory"] = step.memory() if step else None
            self.store.add_cost({"cost": identity, "method": job.method, **cost})
        return identity

    def _enter(self, entry: Entry) -> None:
        order = [(job.seed, job.method) for job in self._all]
        self.card.entries.append(entry)
        self.card.entries.sort(key=lambda entry: order.index((entry.seed, entry.method)))


def _identity(job: Job) -> str:
    """What a job's entry stands for: its training, its network and how it is used."""
    return digest([fingerprint(job.opt), plain(job.opt.val.enhance)])

"""Runs a study: trains what is not trained, scores what is not scored, measures costs, reports."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srtoolbox.comparison.cost import TrainingStep, measure_inference
from srtoolbox.comparison.plan import Job, StudyOptions, plan
from srtoolbox.comparison.pool import count_workers, train_side_by_side
from srtoolbox.comparison.results import Entry, ResultStore, StudyCard
from srtoolbox.data.stream import SampleStream, to_float
from srtoolbox.engine.environment import describe_environment, digest
from srtoolbox.engine.evaluator import Evaluator
from srtoolbox.engine.files import write_atomic
from srtoolbox.engine.lock import locked
from srtoolbox.engine.precision import cpu_threads, resolve
from srtoolbox.engine.run import (
    RunOptions,
    assemble,
    build_dataset,
    build_model,
    build_network,
    check_crop,
    fingerprint,
    load_pretrained,
)
from srtoolbox.engine.testing import save_image
from srtoolbox.engine.training import train
from srtoolbox.engine.weights import weights_hash
from srtoolbox.errors import RunError, UserError
from srtoolbox.options import Tree, dump, plain

_log = logging.getLogger("srtoolbox")


def run_study(opt: StudyOptions, tree: Tree, device: torch.device) -> ResultStore:
    """Does whatever of the study is not done yet and returns its store.

    Finished trainings, evaluations and measurements are recognised by the hash of what defines
    them. A training that was broken off goes on at its last checkpoint. A method that fails
    (non-finite loss) does not keep the others from being run; it is named in the table.

    Raises:
        UserError: before anything is trained, if any part of the study does not fit.
    """
    with locked(opt.path.experiments_root / "compare" / opt.name):
        study = _Study(opt, tree, device)
        study.train_side_by_side()
        for number, job in enumerate(study.jobs, start=1):
            _log.info("[%d/%d] %s, seed %d", number, len(study.jobs), job.method, job.seed)
            study.run(job)
    return study.store


class _Study:
    def __init__(self, opt: StudyOptions, tree: Tree, device: torch.device) -> None:
        self.opt, self.device = opt, device
        self.jobs = plan(opt, tree)
        self.failures: dict[Path, str] = {}
        self.datasets = self._build_everything()
        folder = opt.path.experiments_root / "compare" / opt.name
        self.store = ResultStore(folder)
        self.evaluator = Evaluator(opt.val, device, opt.train.precision)
        self.environment = describe_environment(device)
        self.folders = self._training_folders()
        try:
            write_atomic(folder / "study.yml", dump(tree))
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
        protocol = self.evaluator.protocol
        self.card = StudyCard(
            name=opt.name,
            scale=opt.scale,
            protocol={
                "name": protocol.name,
                "hash": protocol.hash,
                "text": opt.val.describe(),
                "average": protocol.average,
            },
            metrics={
                name: {
                    "higher_is_better": metric.higher_is_better,
                    "unit": metric.unit,
                    "digits": metric.digits,
                    "unavailable": metric.available(),
                }
                for name, metric in self.evaluator.metrics.items()
            },
            training=_training_in_words(opt, device),
            environment=self.environment,
        )

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
                waiting.sort(key=lambda training: -self._hours(training[0]))
            _log.info("%d trainings, %d at a time", len(waiting), workers)
            self.failures = train_side_by_side(waiting, self.device, workers, threads)

    def run(self, job: Job) -> None:
        """Brings one job to its end and enters it on the card."""
        entry = Entry(job.method, job.seed, differs=job.differs)
        self.card.entries.append(entry)
        try:
            if (reason := self.failures.get(self.folders[job.method, job.seed])) is not None:
                raise RunError(reason)
            net = self._network(job, entry)
            for name, dataset in self.datasets.items():
                entry.evaluations[name] = self._evaluate(job, entry, name, dataset, net)
            entry.cost = self._measure(job, net)
        except RunError as error:
            entry.failure = str(error)
            _log.error("%s, seed %d: %s", job.method, job.seed, error)
        self.store.save_card(self.card)

    def _build_everything(self) -> dict[str, Any]:
        """The test sets; on the way every part of every job is built once, so that a fault shows
        before hours are spent on training."""
        datasets: dict[str, Any] = {}
        self.trained: set[str] = set()
        for job in self.jobs[: len(self.opt.methods)]:
            try:
                net = build_network(job.opt, torch.device("cpu"))
                load_pretrained(job.opt, net)
                assemble(job.opt, net)
                if _is_trained(job, net):
                    self.trained.add(job.method)
                    crops = build_dataset("train", job.opt.datasets.train, job.opt, net)
                    check_crop(crops, net)
                for name, spec in self.opt.test_sets.items():
                    datasets[name] = build_dataset(name, spec, job.opt, net)
            except UserError as error:
                raise UserError(f"method {job.method}: {error}") from error
        return datasets

    def _network(self, job: Job, entry: Entry) -> nn.Module:
        net = build_network(job.opt, self.device)
        if not _is_trained(job, net):
            load_pretrained(job.opt, net)
            return assemble(job.opt, net).eval()
        folder = self.folders[job.method, job.seed]
        entry.run = str(folder.relative_to(self.store.folder))
        with cpu_threads(self.opt.threads):
            trained = train(job.opt, self.device, resume=True, folder=folder)
        entry.train_seconds, entry.steps = trained.seconds, trained.step
        entry.threads = trained.threads
        return trained.net

    def _training_folders(self) -> dict[tuple[str, int], Path]:
        """By method and seed. Methods that differ only in how they are evaluated share one."""
        shared: dict[str, Path] = {}
        folders = {}
        for job in self.jobs:
            identity = fingerprint(job.opt)
            name = f"{job.opt.name}-s{job.seed}-{identity[:8]}"
            folder = shared.setdefault(identity, self.store.folder / "runs" / name)
            folders[job.method, job.seed] = folder
        return folders

    def _evaluate(self, job: Job, entry: Entry, name: str, dataset: Any, net: nn.Module) -> str:
        weights = weights_hash(net)
        identity = digest(
            {
                "network_g": plain(job.opt.network_g),
                "scale": job.opt.scale,
                "weights": weights,
                "dataset": plain(self.opt.test_sets[name]),
                "protocol": self.card.protocol["hash"],
                "metrics": plain(self.opt.val.metrics),
                "unavailable": [m["unavailable"] is not None for m in self.card.metrics.values()],
                "precision": self.opt.train.precision,
                **job.opt.val.enhance.changed,
            }
        )
        if self.store.records(identity):
            return identity
        keep = self._keep_images(identity, name, dataset)
        scored = self.evaluator.run(net, dataset, keep, job.opt.val.enhance)
        facts = {
            "evaluation": identity,
            "method": job.method,
            "seed": job.seed,
            "dataset": name,
            "protocol": self.card.protocol["hash"],
            "weights": weights,
            "options": digest(plain(job.opt)),
            "step": entry.steps,
            "environment": digest(self.environment),
            "commit": self.environment["commit"],
            "of": len(scored),
        }
        records = [{**facts, "index": i, **record} for i, record in enumerate(scored)]
        self.store.add_records(records)
        environment = self.store.folder / "environments" / f"{facts['environment']}.json"
        write_atomic(environment, json.dumps(self.environment, indent=1))
        return identity

    def _keep_images(
        self, evaluation: str, name: str, dataset: Any
    ) -> Callable[[str, Tensor], None]:
        """Saves the first SR images of an evaluation, and their LR and GT once per dataset."""
        left = list(range(min(self.opt.report.num_image, len(dataset))))

        def keep(key: str, sr: Tensor) -> None:
            if not left:
                return
            sample = dataset[left.pop(0)]
            stem = key.replace("/", "__")
            originals = self.store.image_folder(name)
            for kind, pixels in (("gt", sample["gt"]), ("lq", sample["lq"][dataset.reference])):
                path = originals / f"{stem}_{kind}.png"
                if not path.exists():
                    save_image(path, to_float(torch.from_numpy(pixels)))
            save_image(self.store.image_folder(evaluation) / f"{stem}.png", sr)

        return keep

    def _measure(self, job: Job, net: nn.Module) -> str:
        dataset = next(iter(self.datasets.values()))
        lq = to_float(torch.from_numpy(dataset[0]["lq"]).to(self.device))[None]
        identity = digest(
            {
                "network_g": plain(job.opt.network_g),
                "scale": job.opt.scale,
                "input": list(lq.shape),
                "train": plain(job.opt.train),
                "environment": self.environment,
                "enhance": plain(job.opt.val.enhance),
            }
        )
        if self.store.cost(identity) is None:
            cost = measure_inference(net, lq, dataset.reference, job.opt.val.enhance)
            trained = job.method in self.trained
            cost["training_memory"] = self._step(job.opt).memory() if trained else None
            shape = list(lq.shape)
            self.store.add_cost({"cost": identity, "method": job.method, "input": shape, **cost})
        return identity

    def _hours(self, opt: RunOptions) -> float:
        """How long a training will take, roughly."""
        return self._step(opt).seconds() * opt.train.total_iter / 3600

    def _step(self, opt: RunOptions) -> TrainingStep:
        """A training step of a freshly built network, to be measured."""
        net = build_network(opt, self.device).train()
        dataset = build_dataset("train", opt.datasets.train, opt, net)
        stream = SampleStream(dataset, 0, opt.train.batch_size)
        batch = next(stream.batches(0, 1, device=self.device))
        model = build_model(opt, net, dataset)
        return TrainingStep(model, batch, self.device, opt.train.precision)


def _is_trained(job: Job, net: nn.Module) -> bool:
    return job.opt.train is not None and any(p.requires_grad for p in net.parameters())


def _training_in_words(opt: StudyOptions, device: torch.device) -> str:
    train = opt.train
    optimizer = ", ".join(f"{k} {v}" for k, v in train.optim_g.items() if k != "type")
    schedule = train.scheduler["type"] if train.scheduler else "constant lr"
    losses = " + ".join(spec["type"] for spec in train.losses.values())
    crop = (opt.datasets.train or {}).get("gt_size")
    precision = resolve(train.precision, device)
    return (
        f"{train.total_iter} iterations with batch {train.batch_size}"
        + (f" of {crop}×{crop} crops" if crop else "")
        + f", {losses}, {train.optim_g['type']} ({optimizer}), {schedule}, {precision}; "
        "the same samples in the same order for every method; scores of the final weights"
        + (f"; up to {opt.jobs} trainings at a time" if opt.jobs > 1 else "")
    )

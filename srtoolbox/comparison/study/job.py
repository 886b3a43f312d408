"""Runs one job of a study: trains, evaluates and measures what is not finished."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from srtoolbox.comparison.store import Entry, ResultStore
from srtoolbox.comparison.study.budget import training_steps
from srtoolbox.comparison.study.evaluate import StudyEvaluator
from srtoolbox.comparison.study.plan import EvaluationPlan, Job, load_network
from srtoolbox.comparison.study.reuse import device_of
from srtoolbox.config.files import plain
from srtoolbox.data.stream import to_float
from srtoolbox.engine.build import network_identity
from srtoolbox.engine.counting import COUNTING
from srtoolbox.engine.device.precision import cpu_threads
from srtoolbox.engine.profiling import measure_inference
from srtoolbox.engine.training.train import train
from srtoolbox.errors import ComponentError, RunError
from srtoolbox.utils.environment import digest

_log = logging.getLogger("srtoolbox")


class JobRunner:
    """Runs jobs of a study in this process.

    Args:
        plan: The study, or what a job needs of it.
        store: Gets scores, images and costs.
    """

    def __init__(self, plan: EvaluationPlan, store: ResultStore) -> None:
        self._plan, self._opt, self._store = plan, plan.opt, store
        self.evaluator = StudyEvaluator(plan, store)

    def run(self, job: Job, before: Entry | None = None, measure_cost: bool = True) -> Entry:
        """Runs a job to its end and returns its entry, also if it fails.

        Args:
            job: The job.
            before: Its entry of an earlier run, whose finding on trivial outputs is used again if
                that run did not fail and the evaluations are the same.
            measure_cost: Whether to measure time and memory, for which no other work may run.
        """
        entry = self.new_entry(job)
        try:
            folder = job.folder
            net = (
                self._train(job, folder, entry)
                if folder
                else load_network(job.opt, self._plan.device)
            )
            with cpu_threads(self._opt.threads):
                self.evaluator.evaluate(job, entry, net)
                if folder:
                    done = before if before is not None and before.failure is None else None
                    if done is not None and done.evaluations == entry.evaluations:
                        entry.degenerate = done.degenerate
                    else:
                        entry.degenerate = self.evaluator.degenerate_output(job, net)
            if measure_cost:
                entry.cost = self._measure_cost(job, net)
        except (RunError, ComponentError) as error:
            entry.failure = str(error)
            _log.error("%s, seed %d: %s", job.method, job.seed, error)
        return entry

    def new_entry(self, job: Job, failure: str | None = None) -> Entry:
        """Returns the entry of a job without results."""
        run = job.folder and str(job.folder.relative_to(self._plan.folder))
        return Entry(
            job.method,
            job.seed,
            run=run,
            device=self._plan.environment["device"],
            identity=job.identity,
            deviations=job.deviations,
            skipped_datasets=self._plan.methods[job.method].skipped_datasets,
            failure=failure,
        )

    def _train(self, job: Job, folder: Path, entry: Entry) -> nn.Module:
        """Trains a network, unless that is finished, and enters the facts of its training."""
        with cpu_threads(self._opt.threads):
            study = self._plan.folder
            trained = train(job.opt, self._plan.device, resume=True, folder=folder, study=study)
        entry.train_seconds, entry.steps = trained.seconds, trained.step
        entry.threads = trained.threads
        entry.device = device_of(folder, entry.device)
        return trained.net

    def _measure_cost(self, job: Job, net: nn.Module) -> str:
        """Measures costs on the test set with the most frames that all methods can use."""
        device = self._plan.device
        dataset = self._plan.most_frames(job.method).data
        lq = to_float(torch.from_numpy(dataset[0]["lq"]).to(device))[None]
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
            step = next(training_steps(job.opt, device)) if job.folder else None
            cost["training_memory"] = step.memory() if step else None
            self._store.add_cost({"cost": identity, "method": job.method, **cost})
        return identity

"""The work of a study that other processes do: a training, or the evaluation of one job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.store import ResultStore
from srtoolbox.comparison.study.facts import check_metrics
from srtoolbox.comparison.study.job import JobRunner
from srtoolbox.comparison.study.parts import Part, is_complete
from srtoolbox.comparison.study.plan import Job, JobPlan
from srtoolbox.engine.device.precision import cpu_threads, resolve
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.evaluation.records import Record
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.train import train
from srtoolbox.utils.files import locked, remove_torn


@dataclass(frozen=True)
class Training:
    """A training; its results are in the folder of the run.

    Attributes:
        opt: Options of the run.
        folder: Folder of the run.
        study: Folder of the study, by which trackers group runs.
        threads: CPU threads; None: those of the process.
        metrics: ``metric_states`` of the study, to be compared with those of another machine: the
            evaluation that follows needs them. None: this is the same machine.
    """

    opt: RunOptions
    folder: Path
    study: Path | None = None
    threads: int | None = None
    metrics: Mapping[str, str | None] | None = None

    @property
    def plugins(self) -> Sequence[str]:
        return self.opt.plugins

    def run(self, device: torch.device) -> None:
        """Trains, from the last checkpoint on, unless that is finished.

        Raises:
            RunError: if a metric is not as on the machine of the study, or the training fails.
        """
        if self.metrics is not None:
            check_metrics(Evaluator(self.opt.val, device).metrics, self.metrics)
        with cpu_threads(self.threads):
            train(self.opt, device, resume=True, folder=self.folder, study=self.study)


@dataclass(frozen=True)
class Evaluation:
    """The evaluations of a job whose training is finished; its results are a part of the study.

    Attributes:
        opt: Options of the study.
        job: The job.
        folder: Folder of the part.
        cost_set: The test set whose first sample the costs are measured with.
        measure_cost: Whether to measure costs.
        threads: CPU threads; None: those of the process.
        environment: Versions, device and threads of the study; None: those of the process.
        records: Records of the job that the study has already.
        frame_uses: Records of frame use that the study has already.
        metrics: As those of ``Training``.
    """

    opt: StudyOptions
    job: Job
    folder: Path
    cost_set: str
    measure_cost: bool = False
    threads: int | None = None
    environment: dict[str, Any] | None = None
    records: Sequence[Record] = field(default=(), repr=False)
    frame_uses: Sequence[dict[str, Any]] = ()
    metrics: Mapping[str, str | None] | None = None

    @property
    def plugins(self) -> Sequence[str]:
        return self.opt.plugins

    def run(self, device: torch.device) -> None:
        """Evaluates what the study and the folder of the part lack.

        Raises:
            UserError: if a dataset or the weights cannot be read, or do not suit.
            RunError: if a metric is not as on the machine of the study.
        """
        with locked(self.folder), cpu_threads(self.threads):
            if is_complete(self.folder):
                return
            if self.metrics is not None:
                check_metrics(Evaluator(self.opt.val, device).metrics, self.metrics)
            remove_torn(self.folder)
            plan = JobPlan(self.opt, self.job, device, self.cost_set, self.environment)
            store = ResultStore(self.folder)
            store.know(self.records, self.frame_uses)
            entry = JobRunner(plan, store).run(self.job, measure_cost=self.measure_cost)
            precision = resolve(self.opt.train.precision, device)
            Part(self.folder, entry, plan.environment, precision).save()


Work = Training | Evaluation

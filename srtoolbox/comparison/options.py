"""Options of `srtoolbox compare`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from srtoolbox.comparison.store import Published
from srtoolbox.comparison.sweep import expand_sweep
from srtoolbox.config.schema import option
from srtoolbox.config.yaml import Tree
from srtoolbox.engine.options import (
    MAX_SEED,
    ArchSpec,
    SharedOptions,
    TrainOptions,
    name_faults,
)
from srtoolbox.errors import UserError
from srtoolbox.metrics import get_protocol
from srtoolbox.registry import close_names

NO_TRAINING = TrainOptions(total_iter=1)
"""The section ``train`` of a study that has none; its methods are not trained."""
BUDGET_UNITS = {"iterations": "iterations", "time": "seconds", "flops": "FLOPs"}


@dataclass(frozen=True)
class ReportOptions:
    """Options for the report of a study."""

    num_image: int = option(default=3, min=0, doc="Images of each dataset in the figure.")
    frame_use: bool | list[str] = option(
        default=False,
        doc="Also measure what multi-frame methods gain from the other frames, with the reference "
        "in place of all frames: on all test sets, or on the named ones. This takes one more pass "
        "over each.",
    )
    frame_curve: bool = option(
        default=False,
        doc="With frame_use, also evaluate with 1, 3, 5, 7 and 14 frames and with shuffled frames. "
        "This takes about five more passes over each test set.",
    )
    sweeps: dict[str, dict[str, float]] = option(
        default={},
        doc="Test sets that differ in one quantity, shown as curves instead of columns: by the "
        "name of the quantity, its value for each test set.",
    )
    notes: list[str] = option(default=[], doc="Sentences to print below the study's tables.")

    def measures_frame_use(self, test_set: str) -> bool:
        """Returns whether the use of frames is measured on a test set."""
        return self.frame_use if isinstance(self.frame_use, bool) else test_set in self.frame_use

    def faults(self, test_sets: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yields faults as (key, message) for a study with these test sets."""
        unknown = "no test set '{}'; there are: " + ", ".join(test_sets)
        if not isinstance(self.frame_use, bool):
            for number, name in enumerate(self.frame_use):
                if name not in test_sets:
                    yield f"report.frame_use.{number}", unknown.format(name)
        for quantity, points in self.sweeps.items():
            key = f"report.sweeps.{quantity}"
            if len(points) < 2:
                yield key, f"a curve needs at least two test sets, got {len(points)}"
            by_value: dict[float, str] = {}
            for name, value in points.items():
                if name not in test_sets:
                    yield f"{key}.{name}", unknown.format(name)
                elif not math.isfinite(value):
                    yield f"{key}.{name}", f"must be finite, got {value}"
                elif by_value.setdefault(value, name) != name:
                    yield f"{key}.{name}", f"'{by_value[value]}' is at {value:g} already"


@dataclass(frozen=True)
class BudgetOptions:
    """The quantity that is equal for all methods: iterations, time or FLOPs of the training."""

    kind: Literal["iterations", "time", "flops"] = option(
        default="iterations",
        doc="The equal quantity; time is that of the training steps on this machine.",
    )
    of: str | float | None = option(
        default=None,
        doc="A method, whose total_iter sets the budget, or iterations, seconds or FLOPs.",
    )

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults as (key, message)."""
        if self.of is None and self.kind != "iterations":
            unit = BUDGET_UNITS[self.kind]
            return [("of", f"name the method that sets the budget, or a number ({unit})")]
        if isinstance(self.of, int | float) and self.of <= 0:
            return [("of", f"must be > 0, got {self.of}")]
        return []


@dataclass(frozen=True)
class LauncherOptions:
    """Resources that each job of ``srtoolbox compare --launcher`` asks the cluster for."""

    partition: str | None = option(default=None, doc="Partition; null: the cluster's default.")
    account: str | None = option(default=None, doc="Account that the jobs are charged to.")
    qos: str | None = option(default=None, doc="Quality of service.")
    time: int = option(
        default=720,
        min=1,
        doc="Time limit of a job in minutes. A training that needs longer saves its state, is "
        "queued again and resumes.",
    )
    signal_delay: int = option(
        default=120, min=1, doc="Seconds before the time limit at which a training is saved."
    )
    cpus: int | None = option(
        default=None, min=1, doc="CPU cores, and CPU threads unless 'threads' sets them."
    )
    gpus: int = option(default=0, min=0, doc="GPUs; a training and an evaluation use one.")
    mem: float | None = option(default=None, exclusive_min=0, doc="Memory in GiB.")
    workers: int | None = option(
        default=None,
        min=1,
        doc="Jobs that are submitted at a time; null: all on a cluster, one per core or GPU here.",
    )
    requeues: int = option(
        default=10, min=0, doc="How often a job is run again after its time limit or a kill."
    )
    setup: list[str] = option(
        default=[], doc="Shell commands before the program, for example to load modules."
    )
    sbatch: dict[str, Any] = option(
        default={}, doc="Other options of sbatch, for example {constraint: a100}."
    )

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults as (key, message)."""
        if self.signal_delay >= 60 * self.time:
            return [("signal_delay", f"must be less than the time limit of {60 * self.time} s")]
        return []


@dataclass(frozen=True)
class MethodValOptions:
    """The part of ``val`` that a method may set; protocol and metrics are equal for all."""

    enhance: dict[str, Any] = option(default={}, doc="Differences to the shared val.enhance.")


@dataclass(frozen=True)
class MethodOptions:
    """A method of a study: its network, and its differences to the shared options."""

    network_g: ArchSpec
    model_type: str | None = None
    train: dict[str, Any] | None = option(
        default={}, doc="Differences to the shared training; null: evaluate path's weights."
    )
    path: dict[str, Any] = option(default={}, doc="Differences to the shared paths.")
    val: MethodValOptions = option(factory=MethodValOptions)


@dataclass(frozen=True, kw_only=True)
class StudyOptions(SharedOptions):
    """An option file for `srtoolbox compare`."""

    name: str
    methods: dict[str, MethodOptions]
    train: TrainOptions = option(
        factory=lambda: NO_TRAINING, doc="Training; not needed if no method is trained."
    )
    seeds: list[int] = option(
        default=[0], min=0, max=MAX_SEED, doc="Every method is trained once per seed."
    )
    protocols: list[str] = option(
        default=[], doc="Evaluation protocols, with a table for each; default val.protocol."
    )
    budget: BudgetOptions = option(factory=BudgetOptions)
    published: list[Published] = option(default=[], doc="Table rows with published numbers.")
    jobs: int = option(
        default=1,
        min=1,
        doc="Trainings and evaluations that run in parallel, at most one per core or GPU.",
    )
    threads: int | None = option(
        default=None, min=1, doc="CPU threads of each training and each evaluation."
    )
    launcher: LauncherOptions = option(
        factory=LauncherOptions, doc="What jobs ask for with --launcher."
    )
    trainings_from: list[Path] = option(
        default=[], doc="Folders of studies whose finished trainings are copied, not repeated."
    )
    sweep: dict[str, dict[str, Any]] = option(
        default={},
        doc="By method, lists of values of its options: one method for each combination replaces "
        "it.",
    )
    report: ReportOptions = option(factory=ReportOptions)

    @staticmethod
    def expand(tree: Tree) -> None:
        """Turns ``sweep`` into methods, in place."""
        expand_sweep(tree, MethodOptions)

    def validate(self) -> list[tuple[str, str]]:
        """Returns faults as (key, message)."""
        faults = super().validate()
        faults += name_faults("name", self.name)
        if not self.methods:
            faults.append(("methods", "name at least one method"))
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            faults.append(("seeds", "name at least one seed, and each once"))
        if not (self.datasets.test or self.datasets.val):
            faults.append(("datasets", "needs a 'test' or 'val' dataset to score the methods on"))
        for number, name in enumerate(self.protocols):
            try:
                get_protocol(name)
            except UserError as error:
                faults.append((f"protocols.{number}", str(error)))
        if len(set(self.protocols)) < len(self.protocols):
            faults.append(("protocols", "name each once"))
        faults += self._measured_faults()
        faults += self._published_faults()
        faults += self.report.faults(self.test_sets)
        return faults + self._budget_faults()

    def _measured_faults(self) -> Iterator[tuple[str, str]]:
        """Yields a fault for each option of a training that would be decided by a measurement.

        Two seeds of a method, or two machines, could decide differently, which changes results.
        """
        sections: list[tuple[str, Mapping[str, Any]]] = [("train", vars(self.train))]
        for name, method in self.methods.items():
            sections.append((f"methods.{name}.train", method.train or {}))
        for key, section in sections:
            for option_name in ("channels_last", "compile"):
                if section.get(option_name) == "auto":
                    yield (
                        f"{key}.{option_name}",
                        "auto depends on the speed of each machine at each start, and changes the "
                        "last bits of a training, so a study does not accept it; set the value "
                        "that `srtoolbox train` logs for one training of the method",
                    )

    def _published_faults(self) -> Iterator[tuple[str, str]]:
        """Yields faults; above all, numbers of a protocol that no table of the study has."""
        protocols = self.protocol_names
        for number, row in enumerate(self.published):
            key = f"published.{number}"
            try:
                get_protocol(row.protocol)
            except UserError as error:
                yield f"{key}.protocol", str(error)
                continue
            if row.protocol not in protocols:
                tables = "table is of" if len(protocols) == 1 else "tables are of"
                yield (
                    f"{key}.protocol",
                    f"the scores of {row.method} are of protocol {row.protocol}, the {tables} "
                    f"{', '.join(protocols)}: their numbers cannot be compared; add {row.protocol} "
                    "to 'protocols', or leave the row out",
                )
            if row.dataset not in self.test_sets:
                yield f"{key}.dataset", _unknown(row.dataset, self.test_sets)
            for metric in row.scores:
                if metric not in self.val.metrics:
                    yield f"{key}.scores.{metric}", _unknown(metric, self.val.metrics)
            if not row.scores:
                yield f"{key}.scores", "give at least one"
            if not row.source.strip():
                yield f"{key}.source", "name the publication that prints the numbers"

    def _budget_faults(self) -> list[tuple[str, str]]:
        of = self.budget.of
        if of is None:
            return []
        if isinstance(of, str) and of not in self.methods:
            return [("budget.of", f"no method '{of}'; there are: {', '.join(self.methods)}")]
        return [
            (f"methods.{name}.train.total_iter", "the budget sets the iterations; leave it out")
            for name, method in self.methods.items()
            if name != of and "total_iter" in (method.train or {})
        ]

    @property
    def protocol_names(self) -> list[str]:
        """Names of all protocols; each has its own tables."""
        return list(self.protocols) or [self.val.protocol]

    @property
    def test_sets(self) -> dict[str, dict[str, Any]]:
        """Options of the test sets, or of the validation sets if there are no test sets."""
        return self.datasets.test or self.datasets.val


def _unknown(name: str, known: Collection[str]) -> str:
    close = close_names(name, list(known))
    hint = f"did you mean {close}? " if close else ""
    return f"the study has no '{name}'; {hint}there are: {', '.join(known)}"

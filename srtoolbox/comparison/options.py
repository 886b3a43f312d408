"""The sections of option files for `srtoolbox compare`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from srtoolbox.comparison.store import Published
from srtoolbox.config.schema import option
from srtoolbox.engine.options import (
    ArchSpec,
    DatasetsOptions,
    DiscriminatorSpec,
    LoggerOptions,
    PathOptions,
    TrainOptions,
    ValOptions,
)
from srtoolbox.errors import UserError
from srtoolbox.metrics import get_protocol
from srtoolbox.models.gan_model import GANOptions
from srtoolbox.registry import MODEL_REGISTRY, close_names

BUDGET_UNITS = {"iterations": "iterations", "time": "seconds", "flops": "FLOPs"}


@dataclass(frozen=True)
class ReportOptions:
    """What the report shows."""

    num_image: int = option(default=3, min=0, doc="Images of each dataset in the figure.")
    frame_use: bool | list[str] = option(
        default=False,
        doc="Also score multi-frame methods with fewer, blind and mixed-up frames: on all test "
        "sets, or on those named. About six more passes over each.",
    )
    sweeps: dict[str, dict[str, float]] = option(
        default={},
        doc="Test sets that differ in one quantity, shown as curves instead of columns: by the "
        "name of the quantity the value of each test set.",
    )

    def looks_at_frames(self, test_set: str) -> bool:
        """Whether the use of frames is to be measured on a test set."""
        named = self.frame_use
        return named if isinstance(named, bool) else test_set in named


def check_report(section: ReportOptions, test_sets: Collection[str]) -> Iterator[tuple[str, str]]:
    """Faults of a report about these test sets, as (key, message)."""
    unknown = "no test set '{}'; there are: " + ", ".join(test_sets)
    if not isinstance(section.frame_use, bool):
        for number, name in enumerate(section.frame_use):
            if name not in test_sets:
                yield f"report.frame_use.{number}", unknown.format(name)
    for quantity, points in section.sweeps.items():
        key = f"report.sweeps.{quantity}"
        if len(points) < 2:
            yield key, f"a curve needs at least two test sets, got {len(points)}"
        places: dict[float, str] = {}
        for name, x in points.items():
            if name not in test_sets:
                yield f"{key}.{name}", unknown.format(name)
            elif not math.isfinite(x):
                yield f"{key}.{name}", f"must be finite, got {x}"
            elif places.setdefault(x, name) != name:
                yield f"{key}.{name}", f"'{places[x]}' is at {x:g} already"


def check_published(
    rows: Sequence[Published],
    protocols: Collection[str],
    datasets: Collection[str],
    metrics: Collection[str],
) -> Iterator[tuple[str, str]]:
    """Faults of rows that are to stand in tables of these protocols, datasets and metrics.

    Yields:
        The key of each fault and what is wrong: above all a row that was measured under another
        protocol, whose numbers are no neighbours of the table's.
    """
    for number, row in enumerate(rows):
        key = f"published.{number}"
        try:
            get_protocol(row.protocol)
        except UserError as error:
            yield f"{key}.protocol", str(error)
            continue
        if row.protocol not in protocols:
            tables = f"table is of {protocols[0]}" if len(protocols) == 1 else (
                f"tables are of {', '.join(protocols)}"
            )  # fmt: skip
            yield (
                f"{key}.protocol",
                f"the scores of {row.method} are of protocol {row.protocol}, the {tables}: their "
                f"numbers do not compare; add {row.protocol} to 'protocols', or leave the row out",
            )
        if row.dataset not in datasets:
            yield f"{key}.dataset", _unknown(row.dataset, datasets)
        for metric in row.scores:
            if metric not in metrics:
                yield f"{key}.scores.{metric}", _unknown(metric, metrics)
        if not row.scores:
            yield f"{key}.scores", "give at least one"
        if not row.source.strip():
            yield f"{key}.source", "say where the numbers are printed"


def _unknown(name: str, known: Collection[str]) -> str:
    close = close_names(name, list(known))
    hint = f"did you mean {close}? " if close else ""
    return f"the study has no '{name}'; {hint}there are: {', '.join(known)}"


@dataclass(frozen=True)
class BudgetOptions:
    """By what the trainings of all methods are equal."""

    kind: Literal["iterations", "time", "flops"] = option(
        default="iterations", doc="Time is that of training steps on this machine."
    )
    of: str | float | None = option(
        default=None,
        doc="A method, whose total_iter gives everybody's budget, or iterations, seconds or FLOPs.",
    )

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        if self.of is None and self.kind != "iterations":
            unit = BUDGET_UNITS[self.kind]
            return [("of", f"name the method that sets the budget, or a number ({unit})")]
        if isinstance(self.of, int | float) and self.of <= 0:
            return [("of", f"must be > 0, got {self.of}")]
        return []


@dataclass(frozen=True)
class MethodValOptions:
    """The one part of ``val`` that is a method's own: protocol and metrics are everybody's."""

    enhance: dict[str, Any] = option(default={}, doc="Differences to the shared val.enhance.")


@dataclass(frozen=True)
class MethodOptions:
    """A method of a study: its network, and what it does otherwise than the rest."""

    network_g: ArchSpec
    model_type: str | None = None
    train: dict[str, Any] | None = option(
        default={}, doc="Differences to the shared training; null: evaluate path's weights."
    )
    path: dict[str, Any] = option(default={}, doc="Differences to the shared paths.")
    val: MethodValOptions = option(factory=MethodValOptions)


@dataclass(frozen=True)
class StudyOptions:
    """An option file for `srtoolbox compare`."""

    name: str
    methods: dict[str, MethodOptions]
    datasets: DatasetsOptions
    train: TrainOptions
    seeds: list[int] = option(default=[0], min=0, doc="Every method is trained once per seed.")
    protocols: list[str] = option(
        default=[], doc="Protocols to score under, a table of each; default val.protocol."
    )
    budget: BudgetOptions = option(factory=BudgetOptions)
    published: list[Published] = option(default=[], doc="Rows with numbers that others printed.")
    jobs: int = option(default=1, min=1, doc="Trainings at a time, at most one per core or GPU.")
    threads: int | None = option(default=None, min=1, doc="CPU threads of each training.")
    scale: int = option(default=4, min=1, doc="Super-resolution factor.")
    model_type: str = option(default="SRModel", doc="A registered model.")
    network_d: DiscriminatorSpec | None = option(
        default=None, doc="Discriminator of a GANModel; null: UNetDiscriminatorSN."
    )
    gan: GANOptions | None = option(default=None, doc="The adversarial part of a GANModel.")
    plugins: list[str] = option(default=[], doc="Files or modules that register components.")
    path: PathOptions = option(factory=PathOptions)
    trainings_from: list[Path] = option(
        default=[], doc="Folders of studies whose finished trainings are not done again here."
    )
    val: ValOptions = option(factory=ValOptions)
    logger: LoggerOptions = option(factory=LoggerOptions)
    report: ReportOptions = option(factory=ReportOptions)

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        faults = []
        if not self.methods:
            faults.append(("methods", "name at least one method"))
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            faults.append(("seeds", "name at least one seed, and each once"))
        if not (self.datasets.test or self.datasets.val):
            faults.append(("datasets", "needs a 'test' or 'val' dataset to score the methods on"))
        if self.model_type not in MODEL_REGISTRY:
            faults.append(("model_type", MODEL_REGISTRY.explain_miss(self.model_type)))
        for number, name in enumerate(self.protocols):
            try:
                get_protocol(name)
            except UserError as error:
                faults.append((f"protocols.{number}", str(error)))
        if len(set(self.protocols)) < len(self.protocols):
            faults.append(("protocols", "name each once"))
        datasets, metrics = list(self.test_sets), list(self.val.metrics)
        faults += check_published(self.published, self.scored_by, datasets, metrics)
        faults += check_report(self.report, datasets)
        return faults + self._budget_faults()

    def _budget_faults(self) -> list[tuple[str, str]]:
        of = self.budget.of
        if of is None:
            return []
        if isinstance(of, str) and of not in self.methods:
            return [("budget.of", f"no method '{of}'; there are: {', '.join(self.methods)}")]
        return [
            (f"methods.{name}.train.total_iter", "the budget says how many; leave it out")
            for name, method in self.methods.items()
            if name != of and "total_iter" in (method.train or {})
        ]

    @property
    def scored_by(self) -> list[str]:
        """The protocols that there are tables of."""
        return list(self.protocols) or [self.val.protocol]

    @property
    def test_sets(self) -> dict[str, dict[str, Any]]:
        """What the table is about: the test sets, or the validation sets if there are none."""
        return self.datasets.test or self.datasets.val

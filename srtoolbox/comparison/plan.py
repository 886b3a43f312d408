"""What a study file asks for: every method with every seed as a run of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srtoolbox.comparison.budget import BudgetSection
from srtoolbox.comparison.published import check_published
from srtoolbox.comparison.report_section import ReportSection, check_report
from srtoolbox.comparison.results import Published
from srtoolbox.engine.evaluator import ValSection
from srtoolbox.engine.reporter import LoggerSection
from srtoolbox.engine.run import (
    ArchSpec,
    DatasetsSection,
    DiscriminatorSpec,
    PathSection,
    RunOptions,
)
from srtoolbox.engine.train_options import TrainSection
from srtoolbox.errors import UserError
from srtoolbox.metrics import get_protocol
from srtoolbox.models.gan_model import GANSection
from srtoolbox.options import Tree, merge, plain
from srtoolbox.registry import MODEL_REGISTRY
from srtoolbox.schema import OptionErrors, check, option

_SHARED = (
    *("scale", "model_type", "network_d", "gan", "plugins"),
    *("datasets", "path", "train", "val", "logger"),
)


@dataclass(frozen=True)
class MethodValSection:
    """The one part of ``val`` that is a method's own: protocol and metrics are everybody's."""

    enhance: dict[str, Any] = option(default={}, doc="Differences to the shared val.enhance.")


@dataclass(frozen=True)
class MethodSection:
    """A method of a study: its network, and what it does otherwise than the rest."""

    network_g: ArchSpec
    model_type: str | None = None
    train: dict[str, Any] | None = option(
        default={}, doc="Differences to the shared training; null: evaluate path's weights."
    )
    path: dict[str, Any] = option(default={}, doc="Differences to the shared paths.")
    val: MethodValSection = option(factory=MethodValSection)


@dataclass(frozen=True)
class StudyOptions:
    """An option file for `srtoolbox compare`."""

    name: str
    methods: dict[str, MethodSection]
    datasets: DatasetsSection
    train: TrainSection
    seeds: list[int] = option(default=[0], min=0, doc="Every method is trained once per seed.")
    protocols: list[str] = option(
        default=[], doc="Protocols to score under, a table of each; default val.protocol."
    )
    budget: BudgetSection = option(factory=BudgetSection)
    published: list[Published] = option(default=[], doc="Rows with numbers that others printed.")
    jobs: int = option(default=1, min=1, doc="Trainings at a time, at most one per core or GPU.")
    threads: int | None = option(default=None, min=1, doc="CPU threads of each training.")
    scale: int = option(default=4, min=1, doc="Super-resolution factor.")
    model_type: str = option(default="SRModel", doc="A registered model.")
    network_d: DiscriminatorSpec | None = option(
        default=None, doc="Discriminator of a GANModel; null: UNetDiscriminatorSN."
    )
    gan: GANSection | None = option(default=None, doc="The adversarial part of a GANModel.")
    plugins: list[str] = option(default=[], doc="Files or modules that register components.")
    path: PathSection = option(factory=PathSection)
    trainings_from: list[Path] = option(
        default=[], doc="Folders of studies whose finished trainings are not done again here."
    )
    val: ValSection = option(factory=ValSection)
    logger: LoggerSection = option(factory=LoggerSection)
    report: ReportSection = option(factory=ReportSection)

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


@dataclass(frozen=True)
class Job:
    """One method with one seed.

    Attributes:
        method: Its name in the study.
        seed: Its seed.
        opt: Its options as a run of its own.
        differs: What it does otherwise than the rest, in words.
    """

    method: str
    seed: int
    opt: RunOptions
    differs: list[str]


def plan(opt: StudyOptions, tree: Tree) -> list[Job]:
    """All jobs of a study, seed by seed, so that a table of all methods is there early.

    Args:
        opt: The checked study.
        tree: What it was read from, so that messages name the right line.

    Raises:
        OptionErrors: if a method's own options do not fit.
    """
    jobs, errors = [], {}
    for seed in opt.seeds:
        for method in opt.methods:
            try:
                run = check(_run_tree(tree, method, seed), RunOptions)
            except OptionErrors as error:
                errors.update(dict.fromkeys(error.errors))
                continue
            jobs.append(Job(method, seed, run, _differences(opt, method)))
    if errors:
        raise OptionErrors(list(errors))
    return jobs


def _run_tree(tree: Tree, method: str, seed: int) -> Tree:
    """The options of one job: what all share, and on top what the method says."""
    entry = tree["methods"][method]
    mark = tree["methods"].marks[method]
    run = Tree(mark)
    run.put("name", method.replace("/", "_"), mark)
    run.put("manual_seed", seed, tree.marks.get("seeds", mark))
    for key in _SHARED:
        if key in tree:
            run.put(key, tree[key], tree.marks[key])
    return merge(run, entry)


def _differences(opt: StudyOptions, method: str) -> list[str]:
    section = opt.methods[method]
    enhanced = _changes(section.val.enhance, plain(opt.val.enhance))
    if section.train is None:
        return ["not trained here", *enhanced]
    own = dict(section.train)
    if opt.budget.of is not None:
        own.pop("total_iter", None)  # it is what the budget is made of
    words = _changes(own, plain(opt.train)) + enhanced
    words += [f"path.{key} {value}" for key, value in section.path.items()]
    if section.model_type not in (None, opt.model_type):
        words.append(f"model_type {section.model_type}")
    return words


def _changes(own: dict[str, Any], shared: dict[str, Any]) -> list[str]:
    return [
        f"{key} {_short(value)} instead of {_short(shared.get(key))}"
        for key, value in own.items()
        if value != shared.get(key)
    ]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(entry)}" for key, entry in value.items()) + "}"
    return str(value)

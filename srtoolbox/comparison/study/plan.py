"""Plans a study: jobs with their folders and iterations, and the test sets of each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from srtoolbox.archs.base import arch_info
from srtoolbox.comparison.options import NO_TRAINING, StudyOptions
from srtoolbox.comparison.study.budget import Budget, training_options
from srtoolbox.comparison.study.content import FileHashes, content_of
from srtoolbox.comparison.study.reuse import index_finished_runs, is_finished
from srtoolbox.config.files import Tree, merge, plain
from srtoolbox.config.schema import OptionErrors, check
from srtoolbox.data.base import EvalDataset, dataset_info
from srtoolbox.engine.build import (
    assemble,
    build_dataset,
    build_network,
    check_scorable,
    fingerprint,
    load_pretrained,
)
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.options import RunOptions, SharedOptions
from srtoolbox.engine.probe import own_parts, probe_metrics, probe_network, probe_training
from srtoolbox.engine.training.trackers.build import build_trackers
from srtoolbox.errors import UserError
from srtoolbox.metrics import AnyMetric, get_protocol
from srtoolbox.models.frames import IncompatibleInput
from srtoolbox.utils.environment import describe_environment, digest

# Rules of a protocol that decide which frames a network gets; not every dataset follows them.
_FRAME_RULES = ("missing_neighbours", "skip_frames")


@dataclass(frozen=True)
class Job:
    """One method with one seed.

    Attributes:
        method: Name of the method.
        seed: Seed of weights and samples.
        opt: Options of the job as a separate run.
        deviations: Differences to the options of the other methods, in words.
        folder: Folder of its training run; None if nothing is trained, and for a method that the
            command leaves out.
        finished_run: Folder of the same training, finished in another study, or None.
    """

    method: str
    seed: int
    opt: RunOptions
    deviations: list[str]
    folder: Path | None = None
    finished_run: Path | None = None

    @property
    def identity(self) -> str:
        """Hash of everything that decides its results: training, network and inference options."""
        return digest([fingerprint(self.opt), plain(self.opt.val.enhance)])


@dataclass(frozen=True)
class EvaluationSet:
    """A dataset and the protocols that one pass over it is evaluated under.

    Attributes:
        name: Name in the study.
        data: The dataset.
        protocols: Names of protocols that need the same frames.
        content: Everything that decides its samples, without the location of its files.
        old_content: As ``content``, but with sizes of files instead of their content, and without
            the code of users' own components: evaluations of earlier versions are found by it.
    """

    name: str
    data: EvalDataset
    protocols: tuple[str, ...]
    content: dict[str, Any]
    old_content: dict[str, Any]


@dataclass(frozen=True)
class Method:
    """The test sets of a method.

    Attributes:
        is_trained: Whether it is trained here.
        test_sets: The test sets that it can be evaluated on.
        skipped_datasets: The test sets that it cannot be evaluated on, with the reasons.
        origin: Where the weights come from, for a network that is built from a weight file.
    """

    is_trained: bool
    test_sets: list[EvaluationSet]
    skipped_datasets: dict[str, str]
    origin: str = ""


class EvaluationPlan(Protocol):
    """The part of a study that the evaluation of jobs needs.

    Attributes:
        opt: The options of the study.
        device: Device of the networks.
        folder: Folder of the study.
        metrics: The metrics by name.
        methods: The methods by name.
        environment: Versions, device and threads.
    """

    opt: StudyOptions
    device: torch.device
    folder: Path
    metrics: Mapping[str, AnyMetric]
    methods: dict[str, Method]
    environment: dict[str, Any]

    def most_frames(self, method: str) -> EvaluationSet:
        """Returns the test set of a method that its costs are measured with."""
        ...


class JobPlan(EvaluationPlan):
    """The part of a study that one job needs, for a process that runs nothing else of the study.

    Args:
        opt: The options of the study.
        job: The job, from a ``StudyPlan``.
        device: Device of the network.
        cost_set: Name of the test set that costs are measured with.
        environment: Versions, device and threads; None: those of this process.

    Raises:
        UserError: if a test set cannot be read.
    """

    def __init__(
        self,
        opt: StudyOptions,
        job: Job,
        device: torch.device,
        cost_set: str,
        environment: dict[str, Any] | None = None,
    ) -> None:
        self.opt, self.device, self.folder = opt, device, study_folder(opt)
        self.metrics = Evaluator(opt.val, device).metrics
        for metric in self.metrics.values():
            metric.source()  # may find out that the metric is unavailable
        self.environment = environment or describe_environment(device)
        net = build_network(job.opt, torch.device("cpu"))
        test_sets, skipped = _read_test_sets(opt, job.opt, net, file_hashes(self.folder))
        is_trained = job.folder is not None
        self.methods = {job.method: Method(is_trained, test_sets, skipped)}
        self._cost_set = cost_set

    def most_frames(self, method: str) -> EvaluationSet:
        own = self.methods[method].test_sets
        return next(test_set for test_set in own if test_set.name == self._cost_set)


def study_folder(opt: StudyOptions) -> Path:
    """Returns the folder of a study."""
    return opt.path.experiments_root / "compare" / opt.name


def file_hashes(folder: Path) -> FileHashes:
    """Returns the hashes of the test sets' files that a study has stored in its folder."""
    return FileHashes(folder / "test_files.json")


class StudyPlan(EvaluationPlan):
    """Everything about a study that is known before it runs. It writes nothing.

    It builds every part of every method once, so that errors appear before hours are spent, and
    measures the step times for a time budget unless they are known.

    Args:
        opt: The checked options.
        tree: The tree that they were read from, so that messages name the right line.
        device: Device of the study.
        only: Methods to run; empty: all.
        hashes: The hashes of the test sets' files; None: those that the study has stored.

    Attributes:
        folder: Folder of the study.
        metrics: The metrics by name.
        methods: By name, also those that are not run, except the unbuilt ones.
        unbuilt: The methods that are not run and that cannot be built, as their files are missing,
            for example, with the reasons.
        all_jobs: All methods with all seeds. The first seed of all methods comes first, so that
            the table soon has every method.
        jobs: The jobs to run.
        budget: The budget of the trainings.
        environment: Versions, device and threads.

    Raises:
        UserError: if any part of the study is faulty.
    """

    def __init__(
        self,
        opt: StudyOptions,
        tree: Tree,
        device: torch.device,
        only: Sequence[str] = (),
        hashes: FileHashes | None = None,
    ) -> None:
        self.opt, self.tree, self.device = opt, tree, device
        self.folder = study_folder(opt)
        jobs = list_jobs(opt, tree)
        for name in set(only) - set(opt.methods):
            raise UserError(f"--only {name}: no such method; there are: {', '.join(opt.methods)}")
        self._only = set(only or opt.methods)
        build_trackers(opt.logger)  # an extra may be missing
        self.metrics = Evaluator(opt.val, device).metrics
        finished_runs = index_finished_runs(opt.trainings_from)
        self._hashes = hashes or file_hashes(self.folder)
        self.methods = {}
        self.unbuilt: dict[str, str] = {}
        for job in jobs[: len(opt.methods)]:
            try:
                self.methods[job.method] = self._prepare(job)
            except UserError as error:
                if job.method in self._only:
                    raise UserError(f"method {job.method}: {error}") from error
                self.unbuilt[job.method] = str(error)
        self._check_methods()
        self.environment = describe_environment(device)
        self.budget = Budget(opt.budget, device, self.folder / "budget.json")
        self.all_jobs = self._complete(jobs, finished_runs)
        self.jobs = [job for job in self.all_jobs if job.method in self._only]
        self._probe()

    def most_frames(self, method: str) -> EvaluationSet:
        """Returns the first test set with the most frames that all methods can be evaluated on.

        If there is none, it is one that ``method`` can be evaluated on.
        """
        skipped = {name for other in self.methods.values() for name in other.skipped_datasets}
        own = self.methods[method].test_sets
        common = [test_set for test_set in own if test_set.name not in skipped]
        return max(common or own, key=lambda test_set: test_set.data.num_frame or 0)

    def _prepare(self, job: Job) -> Method:
        run = job.opt
        net = build_network(run, torch.device("cpu"))
        trainable = any(p.requires_grad for p in net.parameters())
        is_trained = run.train is not None and trainable
        if trainable and run.train is None and self.opt.methods[job.method].train is not None:
            raise UserError(
                "it is trained, but the study has no 'train'; add it, or evaluate the weights of "
                "the method's 'path' with train: null"
            )
        if job.method in self._only:
            load_pretrained(run, net)
            assemble(run, net)
            if is_trained:
                _, spec = training_options(run)
                build_dataset("train", spec, run, net)
        test_sets, skipped = _read_test_sets(self.opt, run, net, self._hashes)
        return Method(is_trained, test_sets, skipped, arch_info(net).origin)

    def _probe(self) -> None:
        """Runs users' own components once, before the first training."""
        test_sets = [test_set for method in self.methods.values() for test_set in method.test_sets]
        numbers = {dataset_info(test_set.data).gt_channels or 3 for test_set in test_sets}
        for channels in sorted(numbers):
            probe_metrics(self.opt.val, self.opt.scale, channels)
        for job in {job.method: job for job in reversed(self.jobs)}.values():
            if not own_parts(job.opt):  # `_prepare` has built its network and dataset already
                continue
            try:
                if job.folder is None:
                    net = load_network(job.opt, self.device)
                    data = self.most_frames(job.method).data
                    probe_network(net, data.num_frame, data.reference)
                elif not is_finished(job.folder):
                    net = build_network(job.opt, torch.device("cpu"))
                    dataset = build_dataset("train", training_options(job.opt)[1], job.opt, net)
                    probe_training(job.opt, dataset, self.device)
            except UserError as error:
                raise UserError(f"method {job.method}: {error}") from error

    def _check_methods(self) -> None:
        source = self.opt.budget.of
        if isinstance(source, str) and source in self.unbuilt:
            raise UserError(f"budget.of: method {source}: {self.unbuilt[source]}")
        if isinstance(source, str) and not self.methods[source].is_trained:
            raise UserError(f"budget.of: {source} is not trained here; name a method that is")
        for name in self.opt.test_sets:
            reasons = [method.skipped_datasets.get(name) for method in self.methods.values()]
            if all(reasons) and not self.unbuilt:
                raise UserError(
                    f"datasets.{name}: no method can use it: {'; '.join(map(str, reasons))}"
                )

    def _complete(self, jobs: list[Job], finished_runs: Mapping[str, Path]) -> list[Job]:
        """Sets iterations and folders of trainings.

        Methods that differ only in evaluation share a folder.
        """
        trained = {name for name, method in self.methods.items() if method.is_trained}
        runs = {job.method: job.opt for job in jobs if job.method in trained}
        iterations = self.budget.iterations_for(runs)
        folders: dict[str, Path] = {}  # by fingerprint
        complete = []
        for job in jobs:
            method = self.methods.get(job.method)
            if method is not None and method.origin:
                job = replace(job, deviations=[*job.deviations, method.origin])
            if job.method in runs:
                train = replace(training_options(job.opt)[0], total_iter=iterations[job.method])
                job = replace(job, opt=replace(job.opt, train=train))
                if job.method in self._only:
                    identity = fingerprint(job.opt)
                    name = f"{job.opt.name}-s{job.seed}-{identity[:8]}"
                    folder = folders.setdefault(identity, self.folder / "runs" / name)
                    job = replace(job, folder=folder, finished_run=finished_runs.get(identity))
            complete.append(job)
        return complete


def list_jobs(opt: StudyOptions, tree: Tree) -> list[Job]:
    """Returns all jobs of a study, seed by seed, without folders and budget.

    Args:
        opt: The checked options.
        tree: The tree that they were read from, so that messages name the right line.

    Raises:
        OptionErrors: if a method's own options are faulty.
    """
    jobs: list[Job] = []
    errors: list[str] = []
    for seed in opt.seeds:
        for method in opt.methods:
            try:
                run = check(_run_tree(tree, method, seed), RunOptions)
            except OptionErrors as error:
                errors += error.errors
            else:
                jobs.append(Job(method, seed, run, _deviations(opt, method)))
    if errors:
        raise OptionErrors(list(dict.fromkeys(errors)))
    return jobs


def load_network(run: RunOptions, device: torch.device) -> nn.Module:
    """Returns the network of a method that is not trained here, with its weights, in eval mode."""
    net = build_network(run, device)
    load_pretrained(run, net)
    return assemble(run, net).eval()


class ScoringPlan(StudyPlan):
    """The part of a study that scoring stored weights again needs; nothing is trained or measured.

    Args:
        opt: The checked options.
        folder: Folder of the study.
        device: Device of the networks.
        jobs: One job of each method that is scored.
        hashes: The hashes of the test sets' files.

    Raises:
        UserError: if a test set is missing or faulty.
    """

    def __init__(
        self,
        opt: StudyOptions,
        folder: Path,
        device: torch.device,
        jobs: Sequence[Job],
        hashes: FileHashes,
    ) -> None:
        self.opt, self.folder, self.device = opt, folder, device
        self.metrics = Evaluator(opt.val, device).metrics
        self.environment = describe_environment(device)
        self.methods = {}
        for job in jobs:
            try:
                net = build_network(job.opt, torch.device("cpu"))
                test_sets, skipped = _read_test_sets(opt, job.opt, net, hashes)
            except UserError as error:
                raise UserError(f"method {job.method}: {error}") from error
            self.methods[job.method] = Method(False, test_sets, skipped)


def _run_tree(tree: Tree, method: str, seed: int) -> Tree:
    """Returns the options of one job: the shared ones, overridden by those of the method."""
    methods: Tree = tree["methods"]
    mark = methods.marks[method]
    run = Tree(mark)
    run.put("name", method.replace("/", "_"), mark)
    run.put("manual_seed", seed, tree.marks.get("seeds", mark))
    for shared in fields(SharedOptions):
        if shared.name in tree:
            run.put(shared.name, tree[shared.name], tree.marks[shared.name])
    return merge(run, methods[method])


def _deviations(opt: StudyOptions, method: str) -> list[str]:
    method_opt = opt.methods[method]
    enhance = _changes(method_opt.val.enhance, plain(opt.val.enhance))
    if method_opt.train is None:
        return enhance if opt.train == NO_TRAINING else ["not trained here", *enhance]
    train = dict(method_opt.train)
    if opt.budget.of is not None:
        train.pop("total_iter", None)  # it sets the budget
    deviations = _changes(train, plain(opt.train)) + enhance
    deviations += [f"path.{key} {value}" for key, value in method_opt.path.items()]
    if method_opt.model_type not in (None, opt.model_type):
        deviations.append(f"model_type {method_opt.model_type}")
    return deviations


def _changes(own: Mapping[str, Any], shared: Mapping[str, Any], prefix: str = "") -> list[str]:
    changes: list[str] = []
    for key, value in own.items():
        before = shared.get(key)
        if (
            isinstance(value, Mapping)
            and isinstance(before, Mapping)
            and value.get("type", before.get("type")) == before.get("type")
        ):
            changes += _changes(value, before, f"{prefix}{key}.")
        elif value != before:
            changes.append(f"{prefix}{key} {_short(value)} instead of {_short(before)}")
    return changes


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(entry)}" for key, entry in value.items()) + "}"
    return str(value)


def _read_test_sets(
    opt: StudyOptions, run: RunOptions, net: nn.Module, hashes: FileHashes
) -> tuple[list[EvaluationSet], dict[str, str]]:
    """Returns the test sets of a method, and the reasons why it cannot use the others.

    A network for bursts, for example, cannot be evaluated on single images: it lacks that column
    of the table. Any other fault of a dataset is an error.

    Raises:
        UserError: if a dataset is faulty, or the method can use none.
    """
    test_sets: list[EvaluationSet] = []
    skipped: dict[str, str] = {}
    for name, spec in opt.test_sets.items():
        try:
            test_sets += _read_test_set(opt, name, spec, run, net, hashes)
        except UserError as error:
            if name not in opt.datasets.test or not isinstance(error.__cause__, IncompatibleInput):
                raise
            skipped[name] = str(error.__cause__).partition(";")[0]
            if len(skipped) == len(opt.test_sets):
                raise
    return test_sets, skipped


def _read_test_set(
    opt: StudyOptions,
    name: str,
    spec: Mapping[str, Any],
    run: RunOptions,
    net: nn.Module,
    hashes: FileHashes,
) -> list[EvaluationSet]:
    """Returns a test set once for each group of protocols that need the same frames."""
    found: dict[tuple[Any, ...], EvaluationSet] = {}
    rules: Sequence[str] = _FRAME_RULES
    for protocol in opt.protocol_names:
        frames = tuple(getattr(get_protocol(protocol), rule) for rule in rules)
        if frames not in found:
            val = replace(run.val, protocol=protocol)
            data = build_dataset(name, spec, replace(run, val=val), net)
            rules = [rule for rule in _FRAME_RULES if getattr(dataset_info(data), rule) is not None]
            frames = tuple(getattr(get_protocol(protocol), rule) for rule in rules)
            try:
                contents = content_of(spec, data, hashes)
            except OSError as error:
                reason = f"{error.filename}: cannot be read ({error.strerror})"
                raise UserError(f"datasets.{name}: {reason}") from error
            found[frames] = EvaluationSet(name, data, (), *contents)
        else:
            try:
                check_scorable(found[frames].data, run.val, get_protocol(protocol))
            except UserError as error:
                raise UserError(f"datasets.{name}: {error}") from error
        protocols = (*found[frames].protocols, protocol)
        found[frames] = replace(found[frames], protocols=protocols)
    return list(found.values())

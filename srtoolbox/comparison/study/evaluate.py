"""Evaluates the networks of a study on its test sets, each once, and stores the scores."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.store import Entry, ResultStore
from srtoolbox.comparison.study.plan import Job
from srtoolbox.config.files import plain
from srtoolbox.data.stream import to_float
from srtoolbox.engine.build import build_dataset
from srtoolbox.engine.evaluation.evaluator import Evaluator, Record
from srtoolbox.engine.evaluation.frame_use import frame_use
from srtoolbox.engine.evaluation.images import save_image
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.weights.load import weights_hash
from srtoolbox.errors import UserError
from srtoolbox.inference.prediction import EnhanceOptions
from srtoolbox.metrics import Protocol, get_protocol
from srtoolbox.models.frames import IncompatibleInput
from srtoolbox.utils.environment import digest
from srtoolbox.utils.files import write_atomic

# What of a protocol decides which frames a network sees, where a dataset asks for it.
_RULES = ("missing_neighbours", "skip_frames")

# Options of datasets that say where files lie and how they are read: their content is hashed.
_PLACES = ("dataroot", "dataroot_gt", "dataroot_lq", "cache", "cache_limit")


@dataclass(frozen=True)
class TestSet:
    """A dataset, and the protocols that one pass over it is scored under.

    Attributes:
        name: In the study.
        data: The dataset.
        protocols: Names of protocols that want the same frames.
        content: What decides its samples, wherever its files lie.
    """

    __test__ = False  # pytest would take it for a test

    name: str
    data: Any
    protocols: tuple[str, ...]
    content: dict[str, Any]


@dataclass(frozen=True)
class Method:
    """What is known of a method before it is run.

    Attributes:
        test_sets: What it can be scored on.
        skipped_datasets: Datasets that it cannot be scored on, and why.
    """

    test_sets: list[TestSet]
    skipped_datasets: dict[str, str]


def most_frames(methods: Mapping[str, Method], name: str) -> TestSet:
    """The first test set with the most frames of those that fit all methods.

    If none does, it is one of those that fit the method ``name``.
    """
    sets = methods[name].test_sets
    common = [
        one for one in sets if not any(one.name in m.skipped_datasets for m in methods.values())
    ]
    return max(common or sets, key=lambda one: one.data.num_frame or 0)


class Scorer:
    """Scores networks under all protocols of a study.

    Args:
        opt: The study.
        device: Where networks run.
    """

    def __init__(self, opt: StudyOptions, device: torch.device) -> None:
        self._opt, self._device = opt, device
        self._evaluators: dict[tuple[str, ...], Evaluator] = {}
        self.metrics = self._evaluator((opt.scored_by[0],)).metrics

    def fit(self, run: RunOptions, net: nn.Module) -> Method:
        """The test sets that a network can be scored on, and why it cannot on the others.

        A network for bursts has nothing to say on single images: that costs it one column. What
        else may be wrong with a dataset, or if it fits none, is an error.

        Raises:
            UserError: if a dataset is faulty, or if no test set fits.
        """
        fitting: list[TestSet] = []
        skipped_datasets: dict[str, str] = {}
        for name, spec in self._opt.test_sets.items():
            try:
                fitting += self._read(name, spec, run, net)
            except UserError as error:
                if name not in self._opt.datasets.test or not isinstance(
                    error.__cause__, IncompatibleInput
                ):
                    raise
                skipped_datasets[name] = str(error.__cause__).partition(";")[0]
                last = error
        if not fitting:
            raise last
        return Method(fitting, skipped_datasets)

    def score(
        self,
        net: nn.Module,
        test_set: TestSet,
        protocols: Sequence[str],
        on_image: Callable[[str, Tensor], None] | None,
        enhance: EnhanceOptions,
    ) -> dict[str, list[Record]]:
        """Records by protocol, all of one forward pass per sample; see ``Evaluator.run``."""
        evaluator = self._evaluator(tuple(protocols))
        if len(protocols) == 1:
            return {protocols[0]: evaluator.run(net, test_set.data, on_image, enhance)}
        records = evaluator.run(net, test_set.data, on_image, enhance)
        return {
            protocol: [
                {**r, "metrics": {m: r["metrics"][f"{m} ({protocol})"] for m in self.metrics}}
                for r in records
            ]
            for protocol in protocols
        }

    def _read(self, name: str, spec: dict[str, Any], run: RunOptions, net: Any) -> list[TestSet]:
        """The dataset once for each group of protocols that want the same frames."""
        found: dict[tuple[Any, ...], TestSet] = {}
        rules: tuple[str, ...] = _RULES
        for protocol in self._opt.scored_by:
            kind = tuple(getattr(get_protocol(protocol), rule) for rule in rules)
            if kind not in found:
                section = replace(run.val, protocol=protocol)
                data = build_dataset(name, spec, replace(run, val=section), net)
                rules = tuple(rule for rule in _RULES if hasattr(data, rule))
                kind = tuple(getattr(get_protocol(protocol), rule) for rule in rules)
                found[kind] = TestSet(name, data, (), _content(spec, data))
            one = found[kind]
            found[kind] = replace(one, protocols=(*one.protocols, protocol))
        return list(found.values())

    def _evaluator(self, protocols: tuple[str, ...]) -> Evaluator:
        if protocols not in self._evaluators:
            section = replace(self._opt.val, protocol=protocols[0])
            evaluator = Evaluator(section, self._device, self._opt.train.precision)
            if len(protocols) > 1:
                evaluator.metrics = {
                    f"{name} ({protocol})": _under(metric, get_protocol(protocol))
                    for protocol in protocols
                    for name, metric in evaluator.metrics.items()
                }
            self._evaluators[protocols] = evaluator
        return self._evaluators[protocols]


def _under(metric: Any, own: Protocol) -> Any:
    """A copy of a metric that goes by its own protocol, whichever the evaluator has."""
    kind = type(metric)

    def call(self: Any, sr: Any, gt: Any, *, protocol: Protocol, scale: int) -> float:
        return kind.__call__(self, sr, gt, protocol=own, scale=scale)

    bound = copy.copy(metric)
    bound.__class__ = type(kind.__name__, (kind,), {"__call__": call})
    return bound


def _content(spec: dict[str, Any], data: Any) -> dict[str, Any]:
    """The options of a dataset, with the names and sizes of its files instead of their folders."""
    options = plain(spec)
    if not hasattr(data, "paths"):
        return options
    files = sorted([path.parent.name, path.name, path.stat().st_size] for path in data.paths())
    kept = {key: value for key, value in options.items() if key not in _PLACES}
    return {**kept, "files": digest(files)}


class Scorekeeper:
    """Scores networks on test sets, unless the store has the scores.

    Args:
        opt: The study.
        scorer: Reads its test sets.
        store: Receives records and images.
        environment: What it is run with.
        device: Where networks run.
    """

    def __init__(
        self,
        opt: StudyOptions,
        scorer: Scorer,
        store: ResultStore,
        environment: dict[str, Any],
        device: torch.device,
    ) -> None:
        self._opt, self._scorer, self._store = opt, scorer, store
        self._environment, self._device = environment, device

    def identity(self, job: Job, test_set: TestSet, protocol: str, weights: str) -> str:
        """The id of an evaluation: the hash of everything that decides its scores."""
        unavailable = [metric.available() is not None for metric in self._scorer.metrics.values()]
        return digest(
            {
                "network_g": plain(job.opt.network_g),
                "scale": job.opt.scale,
                "weights": weights,
                "dataset": test_set.content,
                "protocol": get_protocol(protocol).hash,
                "metrics": plain(self._opt.val.metrics),
                "unavailable": unavailable,
                "precision": self._opt.train.precision,
                **job.opt.val.enhance.changed,
            }
        )

    def score(self, job: Job, entry: Entry, test_set: TestSet, net: nn.Module) -> None:
        """Scores a network on a test set under those of its protocols that it was not yet, and
        enters the evaluations' ids."""
        weights, name = weights_hash(net), test_set.name
        identities = {p: self.identity(job, test_set, p, weights) for p in test_set.protocols}
        left = [p for p, identity in identities.items() if not self._store.records(identity)]
        if left:
            keep = self._keep_images([identities[p] for p in left])
            enhance = job.opt.val.enhance
            scored = self._scorer.score(net, test_set, left, keep, enhance)
            for protocol, records in scored.items():
                facts = {"evaluation": identities[protocol], "method": job.method}
                facts |= {"seed": job.seed, "dataset": name}
                facts |= {"protocol": get_protocol(protocol).hash, "weights": weights}
                facts |= {"options": digest(plain(job.opt)), "step": entry.steps}
                self._add_records(facts, records)
        self._keep_originals(test_set, identities.values())
        for protocol, identity in identities.items():
            if protocol == self._opt.scored_by[0]:
                entry.evaluations[name] = identity
            else:
                entry.other_protocols.setdefault(protocol, {})[name] = identity
        if self._opt.report.looks_at_frames(name) and name in entry.evaluations:
            self._look_at_frames(net, test_set, entry.evaluations[name])

    def _look_at_frames(self, net: nn.Module, test_set: TestSet, evaluation: str) -> None:
        """What a network owes to the other frames, if it sees any."""
        data = test_set.data
        several = net.num_frame != 1 and data.reference is not None and data.num_frame > 1
        if not several or self._store.frame_use(evaluation) is not None:
            return
        section = replace(self._opt.val, protocol=self._opt.scored_by[0])
        psnr = frame_use(net, data, section, self._device, self._opt.train.precision)
        self._store.add_frame_use({"evaluation": evaluation, "psnr": psnr})

    def _add_records(self, facts: dict[str, Any], records: list[dict[str, Any]]) -> None:
        environment = digest(self._environment)
        facts |= {"environment": environment, "commit": self._environment["commit"]}
        facts["of"] = len(records)
        self._store.add_records([{**facts, "index": i, **r} for i, r in enumerate(records)])
        path = self._store.folder / "environments" / f"{environment}.json"
        write_atomic(path, json.dumps(self._environment, indent=1))

    def _keep_images(self, evaluations: list[str]) -> Callable[[str, Tensor], None]:
        """Saves the first SR images of evaluations."""
        left = self._opt.report.num_image

        def keep(key: str, sr: Tensor) -> None:
            nonlocal left
            if left:
                left -= 1
                for evaluation in evaluations:
                    save_image(self._store.image_folder(evaluation) / f"{_stem(key)}.png", sr)

        return keep

    def _keep_originals(self, test_set: TestSet, evaluations: Iterable[str]) -> None:
        """Saves LR and GT of the images that were kept, once for each name of a dataset."""
        folders = [self._store.image_folder(evaluation) for evaluation in evaluations]
        kept = {path.stem for folder in folders for path in folder.glob("*.png")}
        folder = self._store.image_folder(test_set.name)
        missing = {stem for stem in kept if not (folder / f"{stem}_gt.png").exists()}
        for key, gt, lq in _originals(test_set.data) if missing else ():
            if (stem := _stem(key)) in missing:
                missing.remove(stem)
                for kind, pixels in (("lq", lq), ("gt", gt)):
                    save_image(folder / f"{stem}_{kind}.png", to_float(torch.from_numpy(pixels)))
            if not missing:
                break


def _originals(dataset: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Key, HR and LR image of all that a dataset has; of a frame between two, the earlier LR."""
    for index in range(len(dataset)):
        sample = dataset[index]
        if dataset.reference is not None:
            yield sample["key"], sample["gt"], sample["lq"][dataset.reference]
            continue
        step = getattr(dataset, "time_scale", 1)
        for t, frame in enumerate(sample["frames"]):
            yield f"{sample['key']}/{frame}", sample["gt"][t], sample["lq"][t // step]


def _stem(key: str) -> str:
    return key.replace("/", "__")

"""Scores the stored weights of a study again, with more metrics or under more protocols."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.store import Entry, ResultStore
from srtoolbox.comparison.study.evaluate import StudyEvaluator
from srtoolbox.comparison.study.facts import metric_facts, protocol_facts
from srtoolbox.comparison.study.plan import Job, ScoringPlan, file_hashes, list_jobs, load_network
from srtoolbox.comparison.study.reuse import is_finished
from srtoolbox.config.files import Tree, dump, plain
from srtoolbox.config.load import load_options
from srtoolbox.engine.build import assemble, build_network
from srtoolbox.engine.device.precision import cpu_threads, pick_device
from srtoolbox.engine.evaluation.folders import metric_specs
from srtoolbox.engine.weights.load import load_weights, weights_hash
from srtoolbox.engine.weights.whole import FINAL_WEIGHTS
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.files import locked, write_atomic

_log = logging.getLogger("srtoolbox")


def score_study(
    folder: Path,
    metrics: Sequence[str] = (),
    protocols: Sequence[str] = (),
    device: str = "auto",
) -> ResultStore:
    """Adds metrics and protocols to a finished study, without training.

    The stored weights are evaluated once more on the test sets. Costs, figures of training and
    failed methods stay as they are. ``study.yml`` gets the new metrics and protocols.

    Args:
        folder: Folder of the study.
        metrics: Metrics to add, as those of ``srtoolbox metrics``: ``"niqe"``,
            ``"pyiqa:musiq"``. The column has the name of the metric, here niqe and musiq.
        protocols: Protocols to add; each has its own table.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Returns:
        The store with all scores.

    Raises:
        UserError: if the folder has no study, or a metric, a protocol or a test set is faulty.
        RunError: if a metric is not available on this machine, or if weights are missing or are
            not those that the study scored.
    """
    ResultStore(folder).load_card()  # not a lock file in a misspelt folder
    with locked(folder):
        return _Scoring(folder, metrics, protocols, pick_device(device)).run()


class _Scoring:
    def __init__(
        self,
        folder: Path,
        metrics: Sequence[str],
        protocols: Sequence[str],
        device: torch.device,
    ) -> None:
        self._store = ResultStore(folder)
        self._card = self._store.load_card()
        self._store.require_complete(self._card)
        self._opt, self._tree, added = _options(folder, metrics, protocols)
        jobs = {(job.method, job.seed): job for job in list_jobs(self._opt, self._tree)}
        self._jobs: list[tuple[Job, Entry]] = []
        for entry in self._card.entries:
            if entry.failure is not None or not entry.evaluations:
                continue
            if (entry.method, entry.seed) not in jobs:
                raise UserError(
                    f"{folder / 'study.yml'} has no method {entry.method} with seed {entry.seed}, "
                    "which study.json has; run the comparison again"
                )
            self._jobs.append((jobs[entry.method, entry.seed], entry))
        first = {job.method: job for job, _ in reversed(self._jobs)}
        with file_hashes(folder) as hashes:
            self._plan = ScoringPlan(self._opt, folder, device, list(first.values()), hashes)
        self._facts = metric_facts(self._plan.metrics)
        self._check_metrics(added)
        self._evaluator = StudyEvaluator(self._plan, self._store)
        self._evaluator_before = StudyEvaluator(_without_additions(self._plan), self._store)

    def run(self) -> ResultStore:
        for job, entry in self._jobs:
            self._network(job, entry)  # before hours are spent on the others
        scored: dict[tuple[str, int], Entry] = {}
        with cpu_threads(self._opt.threads):
            for number, (job, entry) in enumerate(self._jobs, start=1):
                name = f"{job.method}, seed {job.seed}"
                _log.info("[%d/%d] %s", number, len(self._jobs), name)
                net = self._network(job, entry)
                new = replace(entry, evaluations={}, other_protocols={})
                self._keep_frame_use(job, entry, weights_hash(net))
                self._evaluator.evaluate(job, new, net)
                scored[entry.method, entry.seed] = new
        card = self._card
        card.entries = [scored.get((entry.method, entry.seed), entry) for entry in card.entries]
        card.metrics = self._facts
        card.protocol, *card.other_protocols = protocol_facts(self._opt)
        write_atomic(self._store.folder / "study.yml", dump(self._tree))
        self._store.save_card(card)
        return self._store

    def _check_metrics(self, added: Sequence[str]) -> None:
        """Checks that all metrics can be computed, and earlier ones in the same way as before.

        Raises:
            RunError: if one cannot.
        """
        for name, facts in self._facts.items():
            before = self._card.metrics.get(name)
            was_computed = before is not None and not before["unavailable"]
            if facts["unavailable"] and (name in added or was_computed):
                raise RunError(f"{name}: {self._plan.metrics[name].available()}")
            if name not in added and before is not None:
                old, new = before.get("source"), facts["source"]
                if old and new and old["content"] != new["content"]:
                    raise RunError(
                        f"{name} was computed with {old['text']}, but here with {new['text']}; use "
                        "the same weights, or add it to --metrics to compute it again"
                    )

    def _network(self, job: Job, entry: Entry) -> nn.Module:
        """Returns the network that the study scored."""
        name = f"{entry.method}, seed {entry.seed}"
        if entry.run is None:
            net, place = load_network(job.opt, self._plan.device), "the weights of its options"
        else:
            run = self._store.folder / entry.run
            place = str(run / "weights" / FINAL_WEIGHTS)
            if not is_finished(run):
                raise RunError(f"{name}: {run} has no finished training; run the comparison again")
            net = build_network(job.opt, self._plan.device)
            load_weights(net, Path(place))
            net = assemble(job.opt, net).eval()
        known = {
            record.get("weights")
            for evaluation in entry.evaluations.values()
            for record in self._store.records(evaluation)
        }
        if known - {None, weights_hash(net)}:
            raise RunError(
                f"{name}: {place} are not the weights that the study scored; run the comparison "
                "again"
            )
        return net

    def _keep_frame_use(self, job: Job, entry: Entry, weights: str) -> None:
        """Copies the frame use of earlier evaluations; further metrics do not change it.

        It is left out if the files of the test set have changed since.
        """
        first = self._opt.protocol_names[0]
        for test_set in self._plan.methods[job.method].test_sets:
            before = self._evaluator_before.identities(job, test_set, weights).get(first)
            psnr = self._store.frame_use(before) if before else None
            identity = self._evaluator.identities(job, test_set, weights).get(first)
            if (
                psnr
                and identity
                and before == entry.evaluations.get(test_set.name)
                and self._store.frame_use(identity) is None
            ):
                self._store.add_frame_use({"evaluation": identity, "psnr": psnr})


def _without_additions(plan: ScoringPlan) -> ScoringPlan:
    """Returns a plan with the metrics and protocols that the study has so far."""
    before = copy.copy(plan)
    before.opt, _ = load_options(plan.folder / "study.yml", [], StudyOptions)
    before.metrics = {name: plan.metrics[name] for name in before.opt.val.metrics}
    return before


def _options(
    folder: Path, metrics: Sequence[str], protocols: Sequence[str]
) -> tuple[StudyOptions, Tree, list[str]]:
    """Returns the options of a study with more metrics and protocols, and the metrics' names."""
    file = folder / "study.yml"
    if not file.exists():
        raise UserError(f"{folder}: study.yml is missing; run the comparison again")
    opt, _ = load_options(file, [], StudyOptions)
    specs: dict[str, Any] = plain(opt.val.metrics)
    added = []
    for text, spec in metric_specs(metrics).items():
        name = next(n for n in _names(text, spec) if specs.get(n, spec) == spec)
        specs[name] = spec
        added.append(name)
    names = list(dict.fromkeys([*opt.protocol_names, *protocols]))
    overrides = [f"val.metrics={json.dumps(specs)}"]
    if len(names) > 1:
        overrides.append(f"protocols={json.dumps(names)}")
    return *load_options(file, overrides, StudyOptions), added


def _names(text: str, spec: dict[str, Any]) -> Iterator[str]:
    """Yields the names that a metric's column may have, for the case that others have some."""
    name = spec["name"] if spec["type"] == "pyiqa" and "name" in spec else text.partition(":")[0]
    name = re.sub(r"[^\w+-]+", "_", str(name)).lower()
    yield name
    yield re.sub(r"\W+", "_", text).strip("_").lower()
    yield from (f"{name}_{number}" for number in itertools.count(2))

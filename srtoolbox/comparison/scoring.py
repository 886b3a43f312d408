"""What a study's networks are scored on: its test sets, read as its protocols ask for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from srtoolbox.comparison.plan import StudyOptions
from srtoolbox.engine.environment import digest
from srtoolbox.engine.evaluator import Evaluator, Record
from srtoolbox.engine.run import RunOptions, build_dataset
from srtoolbox.errors import UserError
from srtoolbox.inference.prediction import EnhanceSection
from srtoolbox.metrics import Protocol, get_protocol
from srtoolbox.models.frames import Misfit
from srtoolbox.options import plain

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
        unfit: Datasets that it cannot be scored on, and why.
    """

    test_sets: list[TestSet]
    unfit: dict[str, str]


def widest(methods: Mapping[str, Method], name: str) -> TestSet:
    """The first test set with the most frames of those that fit all methods.

    If none does, it is one of those that fit the method ``name``.
    """
    sets = methods[name].test_sets
    common = [one for one in sets if not any(one.name in m.unfit for m in methods.values())]
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
        unfit: dict[str, str] = {}
        for name, spec in self._opt.test_sets.items():
            try:
                fitting += self._read(name, spec, run, net)
            except UserError as error:
                if name not in self._opt.datasets.test or not isinstance(error.__cause__, Misfit):
                    raise
                unfit[name] = str(error.__cause__).partition(";")[0]
                last = error
        if not fitting:
            raise last
        return Method(fitting, unfit)

    def score(
        self,
        net: nn.Module,
        test_set: TestSet,
        protocols: Sequence[str],
        on_image: Callable[[str, Tensor], None] | None,
        enhance: EnhanceSection,
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

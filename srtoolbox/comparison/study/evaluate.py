"""Evaluates the networks of a study on its test sets, each once, and stores the scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srtoolbox.comparison.store import Entry, ResultStore, image_stem
from srtoolbox.comparison.study.degenerate import degenerate_output
from srtoolbox.comparison.study.plan import EvaluationPlan, EvaluationSet, Job
from srtoolbox.config.files import plain
from srtoolbox.data.base import EvalDataset, Sample, dataset_info
from srtoolbox.data.stream import to_float
from srtoolbox.engine.build import build_network, network_identity, own_code
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.evaluation.frame_use import (
    all_frames,
    first_psnr,
    frame_use,
    has_other_frames,
)
from srtoolbox.engine.evaluation.images import save_image
from srtoolbox.engine.evaluation.records import Record, average
from srtoolbox.engine.weights.load import weights_hash
from srtoolbox.metrics import get_protocol
from srtoolbox.utils.environment import digest
from srtoolbox.utils.files import write_atomic

_CURVE = (1, 3, 5, 7, 14)  # numbers of frames
_GAIN_ONLY = 2  # entries of a record of frame use: all frames, and the reference repeated


class StudyEvaluator:
    """Evaluates networks under all protocols of a study, unless the store has the scores.

    Args:
        plan: The study, or what a job needs of it.
        store: Gets records and images.
    """

    def __init__(self, plan: EvaluationPlan, store: ResultStore) -> None:
        self._plan, self._opt, self._store = plan, plan.opt, store
        precision = plan.opt.train.precision
        # By the protocols; called with the same ones it returns the same evaluator.
        self._evaluator = cache(partial(Evaluator, plan.opt.val, plan.device, precision))
        self._unavailable = [metric.available() is not None for metric in plan.metrics.values()]
        specs = plain(plan.opt.val.metrics)
        self._metric_parts = [("metric", spec) for spec in specs.values()]
        self._metrics = {name: m.identity(specs[name]) for name, m in plan.metrics.items()}
        self._networks: dict[str, tuple[dict[str, Any], list[str]]] = {}  # by method
        for method in plan.opt.methods.values():  # users may edit their files during the trainings
            own_code([("arch", method.network_g), *self._metric_parts])

    def identities(
        self, job: Job, test_set: EvaluationSet, weights: str, old: bool = False
    ) -> dict[str, str]:
        """Returns the ids of evaluations by protocol: hashes of all that decides the scores.

        Args:
            job: The job.
            test_set: One of its test sets.
            weights: Hash of the weights.
            old: Return the ids that earlier versions gave them, which compared sizes of files, not
                their content, and left out the code of users' own components.
        """
        network, own = self._network(job)
        facts: dict[str, Any] = {
            "network_g": network,
            "scale": job.opt.scale,
            "weights": weights,
            "dataset": test_set.old_content if old else test_set.content,
            "metrics": self._metrics,
            "unavailable": self._unavailable,
            "precision": self._opt.train.precision,
        }
        if own and not old:
            facts["own_code"] = own
        changed = job.opt.val.enhance.changed
        if (val := self._opt.val).segment is not None:
            changed["segment"] = [val.segment, val.segment_overlap]
        return {
            protocol: digest({**facts, "protocol": get_protocol(protocol).hash, **changed})
            for protocol in test_set.protocols
        }

    def _network(self, job: Job) -> tuple[dict[str, Any], list[str]]:
        """Returns the identity of a method's network, and hashes of users' own code.

        Both are computed once, as the weight file of a network may be large.
        """
        if job.method not in self._networks:
            spec = job.opt.network_g
            own = own_code([("arch", spec), *self._metric_parts])
            self._networks[job.method] = network_identity(spec), own
        return self._networks[job.method]

    def is_complete(self, job: Job, weights: str) -> bool:
        """Returns whether the store has all scores, images and frame uses of these weights."""
        for test_set in self._plan.methods[job.method].test_sets:
            identities = self.identities(job, test_set, weights)
            if not all(map(self._store.records, identities.values())):
                return False
            if any(map(self._lacks_images, identities.values())):
                return False
            evaluation = identities.get(self._opt.protocol_names[0])
            if evaluation is None or not self._opt.report.measures_frame_use(test_set.name):
                continue
            use = self._store.frame_use(evaluation)
            if use is None or (self._opt.report.frame_curve and len(use) <= _GAIN_ONLY):
                net = build_network(job.opt, torch.device("cpu"))
                if has_other_frames(net, test_set.data):
                    return False
        return True

    def has_all(self, entry: Entry, job: Job, weights: str) -> bool:
        """Returns whether an entry names the evaluations of a job with these weights."""
        wanted: dict[str, dict[str, str]] = {}
        for test_set in self._plan.methods[job.method].test_sets:
            for protocol, identity in self.identities(job, test_set, weights).items():
                wanted.setdefault(protocol, {})[test_set.name] = identity
        first = wanted.pop(self._opt.protocol_names[0], {})
        return entry.evaluations == first and entry.other_protocols == wanted

    def task_key(self, job: Job) -> str:
        """Returns a hash of everything that decides the results of a job but its weights."""
        report = self._opt.report
        sets = [
            [ts.name, self.identities(job, ts, ""), report.measures_frame_use(ts.name)]
            for ts in self._plan.methods[job.method].test_sets
        ]
        return digest([job.method, job.seed, job.identity, sets, report.frame_curve])

    def evaluate(self, job: Job, entry: Entry, net: nn.Module) -> None:
        """Evaluates a network on all test sets of its method.

        Args:
            job: The job of the network.
            entry: Gets the ids of the evaluations.
            net: The network, with its final weights.
        """
        weights = weights_hash(net)
        for test_set in self._plan.methods[job.method].test_sets:
            identities = self._evaluate(job, entry.steps, test_set, net, weights)
            self._add_images(job, test_set, net, identities.values())
            self._keep_originals(test_set, identities.values())
            for protocol, identity in identities.items():
                if protocol == self._opt.protocol_names[0]:
                    entry.evaluations[test_set.name] = identity
                    if self._opt.report.measures_frame_use(test_set.name):
                        self._measure_frame_use(job, net, test_set, identity)
                else:
                    entry.other_protocols.setdefault(protocol, {})[test_set.name] = identity

    def degenerate_output(self, job: Job, net: nn.Module) -> str | None:
        """Returns what a network's outputs amount to if they are trivial; otherwise None.

        Only the first samples of the method's first test set are tested.
        """
        test_set = self._plan.methods[job.method].test_sets[0]
        data = _Samples(test_set.data, range(len(test_set.data))[:4])
        results: dict[str, Tensor] = {}
        self._restore(job, net, data, test_set.protocols, results.__setitem__)
        originals = (
            (to_float(torch.from_numpy(lq)), results[key], to_float(torch.from_numpy(gt)))
            for key, lq, gt in _originals(data)
            if key in results
        )
        return degenerate_output(originals)

    def _evaluate(
        self, job: Job, steps: int, test_set: EvaluationSet, net: nn.Module, weights: str
    ) -> dict[str, str]:
        """Stores the records under those protocols that have none yet, from one pass.

        Returns:
            The ids of the evaluations by protocol.
        """
        identities = self.identities(job, test_set, weights)
        missing = tuple(
            p for p, identity in identities.items() if not self._store.records(identity)
        )
        if not missing:
            return identities
        keep = self._keep_images([identities[protocol] for protocol in missing])
        found = self._evaluator(missing).run(net, test_set.data, keep, job.opt.val.enhance)
        environment = digest(self._plan.environment)
        path = self._store.folder / "environments" / f"{environment}.json"
        write_atomic(path, json.dumps(self._plan.environment, indent=1))
        for protocol, records in found.items():
            facts: Record = {
                "evaluation": identities[protocol],
                "method": job.method,
                "seed": job.seed,
                "dataset": test_set.name,
                "protocol": get_protocol(protocol).hash,
                "weights": weights,
                "options": digest(plain(job.opt)),
                "step": steps,
                "environment": environment,
                "commit": self._plan.environment["commit"],
                "of": len(records),
            }
            self._store.add_records([{**facts, "index": i, **r} for i, r in enumerate(records)])
        return identities

    def _measure_frame_use(
        self, job: Job, net: nn.Module, test_set: EvaluationSet, evaluation: str
    ) -> None:
        """Stores what is missing of the frame use of an evaluation, whose scores are stored."""
        data, curve = test_set.data, self._opt.report.frame_curve
        if not has_other_frames(net, data):
            return
        val = replace(self._opt.val, protocol=self._opt.protocol_names[0])
        before = self._store.frame_use(evaluation) or {}
        known = dict(before)
        if (name := first_psnr(val)) and all_frames(data) not in known:
            average_over = get_protocol(val.protocol).average
            known[all_frames(data)] = average(self._store.records(evaluation), average_over)[name]
        precision, enhance = self._opt.train.precision, job.opt.val.enhance
        measured = frame_use(
            *(net, data, val, self._plan.device, precision, _CURVE if curve else ()),
            enhance=enhance,
            known=known,
            shuffled=curve,
        )
        if measured.keys() - before.keys():
            self._store.add_frame_use({"evaluation": evaluation, "psnr": {**measured, **before}})

    def _add_images(
        self, job: Job, test_set: EvaluationSet, net: nn.Module, evaluations: Iterable[str]
    ) -> None:
        """Saves SR images that evaluations lack, as ``report.num_image`` was lower then."""
        lacking = [evaluation for evaluation in evaluations if self._lacks_images(evaluation)]
        keep = self._keep_images(lacking)
        for index in range(len(test_set.data)):
            if not any(map(self._lacks_images, lacking)):
                return
            sample = _Samples(test_set.data, range(index, index + 1))
            self._restore(job, net, sample, test_set.protocols, keep)

    def _lacks_images(self, evaluation: str) -> bool:
        """Returns whether an image of the first records of an evaluation is not stored."""
        first = self._store.records(evaluation)[: self._opt.report.num_image]
        folder = self._store.image_folder(evaluation)
        return any(not (folder / f"{image_stem(r['key'])}.png").exists() for r in first)

    def _restore(
        self,
        job: Job,
        net: nn.Module,
        data: EvalDataset,
        protocols: Sequence[str],
        on_image: Callable[[str, Tensor], None],
    ) -> None:
        """Calls ``on_image`` with key and SR image of each image or frame, without scoring it."""
        opt, precision = replace(self._opt.val, metrics={}), self._opt.train.precision
        evaluator = Evaluator(opt, self._plan.device, precision, protocols)
        evaluator.run(net, data, on_image, job.opt.val.enhance)

    def _keep_images(self, evaluations: list[str]) -> Callable[[str, Tensor], None]:
        """Returns a function that saves the first SR images of evaluations."""
        left, shown = self._opt.report.num_image, self._opt.val.rgb_bands

        def keep(key: str, sr: Tensor) -> None:
            nonlocal left
            if left:
                left -= 1
                for evaluation in evaluations:
                    path = self._store.image_folder(evaluation) / f"{image_stem(key)}.png"
                    save_image(path, sr, shown)

        return keep

    def _keep_originals(self, test_set: EvaluationSet, evaluations: Iterable[str]) -> None:
        """Saves LR and GT of the kept SR images, once for each name of a dataset."""
        folders = [self._store.image_folder(evaluation) for evaluation in evaluations]
        kept = {path.stem for folder in folders for path in folder.glob("*.png")}
        folder = self._store.image_folder(test_set.name)
        missing = {stem for stem in kept if not (folder / f"{stem}_gt.png").exists()}
        for key, lq, gt in _originals(test_set.data) if missing else ():
            if (stem := image_stem(key)) in missing:
                missing.remove(stem)
                for kind, pixels in (("lq", lq), ("gt", gt)):
                    image = to_float(torch.from_numpy(pixels))
                    shown = self._opt.val.rgb_bands
                    if shown is not None and max(shown) > len(image):
                        shown = None  # LR has other bands than the ground truth
                    save_image(folder / f"{stem}_{kind}.png", image, shown)
            if not missing:
                break


class _Samples:
    """Some samples of a dataset.

    Args:
        dataset: The dataset.
        indices: The numbers of its samples.
    """

    def __init__(self, dataset: EvalDataset, indices: range) -> None:
        self._dataset, self._indices = dataset, indices
        self.scale, self.num_frame = dataset.scale, dataset.num_frame
        self.reference, self.time_scale = dataset.reference, dataset_info(dataset).time_scale

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]


def _originals(dataset: EvalDataset) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields key, LR (C, h, w) and GT (C, H, W) of each image or frame of a dataset.

    A frame between two LR frames comes with the earlier one.
    """
    time_scale = dataset_info(dataset).time_scale
    for index in range(len(dataset)):
        sample = dataset[index]
        if dataset.reference is not None:
            yield sample["key"], sample["lq"][dataset.reference], sample["gt"]
            continue
        for t, frame in enumerate(sample.get("frames", range(len(sample["gt"])))):
            yield f"{sample['key']}/{frame}", sample["lq"][t // time_scale], sample["gt"][t]

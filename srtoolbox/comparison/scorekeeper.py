"""Scores networks for a study and writes the scores down, each once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srtoolbox.comparison.plan import Job, StudyOptions
from srtoolbox.comparison.results import Entry, ResultStore
from srtoolbox.comparison.scoring import Scorer, TestSet
from srtoolbox.data.stream import to_float
from srtoolbox.engine.environment import digest
from srtoolbox.engine.files import write_atomic
from srtoolbox.engine.frame_use import frame_use
from srtoolbox.engine.testing import save_image
from srtoolbox.engine.weights import weights_hash
from srtoolbox.metrics import get_protocol
from srtoolbox.options import plain


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
                entry.further.setdefault(protocol, {})[name] = identity
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

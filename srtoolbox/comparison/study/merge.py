"""Merges parts of a study that ran on several machines."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from srtoolbox.comparison.store import Entry, ResultStore, StudyCard, changed_sources
from srtoolbox.comparison.stored_files import Damage, check_value, read_object
from srtoolbox.comparison.study.reuse import (
    copy_training,
    finished_runs,
    is_finished,
    regular_files,
)
from srtoolbox.config.files import dump, plain, read
from srtoolbox.data.files.reader import read_image
from srtoolbox.engine.evaluation.records import Record
from srtoolbox.errors import UserError
from srtoolbox.utils.console import names_text
from srtoolbox.utils.files import locked, write_atomic
from srtoolbox.utils.portable import to_json

_log = logging.getLogger("srtoolbox")


def merge_studies(sources: Sequence[Path], into: Path) -> ResultStore:
    """Merges parts of a study into a folder; if that has a study, the parts are added to it.

    This includes records, costs, images, finished trainings and metadata. Everything is checked
    before anything is written. ``srtoolbox compare`` can resume the merged study.

    Args:
        sources: Folders of the parts: other methods or seeds under the same protocols, training
            options and metrics.
        into: Folder of the merged study.

    Raises:
        UserError: if a folder is given twice or is the merged study itself, if they are not parts
            of one study, or if the same method, seed and image have scores that would be printed
            differently.
    """
    folders = list(sources)
    places = [folder.resolve() for folder in folders]
    for number, folder in enumerate(folders):
        if places[number] == into.resolve():
            raise UserError(
                f"{folder} is a part and also the merged study; give only the other parts: the "
                "study in the folder after --into is kept, and they are added to it"
            )
        if places[number] in places[:number]:
            raise UserError(f"{folder} is given twice; give each part once")
    for folder in folders:
        ResultStore(folder).load_card()  # a misspelt folder must not leave an empty study behind
    with locked(into):
        if (into / "study.json").exists():
            folders.insert(0, into)
        _Merger([_Part(folder) for folder in folders]).write(into)
    return ResultStore(into)


class _Part:
    """One of the studies."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, ResultStore(folder)
        self.card = self.store.load_card()
        self.store.require_complete(self.card)
        self.options: dict[str, Any] = plain(read(folder / "study.yml"))
        self._check_options(folder / "study.yml")

    def _check_options(self, path: Path) -> None:
        try:
            methods = check_value(self.options.get("methods"), dict[str, Any], "methods")
            seeds = check_value(self.options.get("seeds", [0]), list[int], "seeds")
            for entry in self.card.entries:
                if entry.method not in methods or entry.seed not in seeds:
                    raise Damage(f"{entry.method} with seed {entry.seed} of study.json is missing")
        except Damage as error:
            raise UserError(f"{path} does not suit study.json: {error}") from None

    @property
    def shared(self) -> dict[str, Any]:
        """Facts that must be equal in all parts of a study, by their names in messages."""
        card = self.card
        return {
            "scale": card.scale,
            "protocol": ", ".join(protocol["text"] for protocol in card.protocols),
            "metrics": ", ".join(card.metrics),
            "training": card.training,
        }


class _Merger:
    """Checks and merges parts; the constructor writes nothing."""

    def __init__(self, parts: list[_Part]) -> None:
        self.parts, first = parts, parts[0]
        for part in parts[1:]:
            for name, value in part.shared.items():
                if value != first.shared[name]:
                    raise UserError(
                        f"{part.folder} is no part of the same study as {first.folder}: its "
                        f"{name} is '{value}', not '{first.shared[name]}'"
                    )
            if changed := changed_sources(part.card, first.card):
                raise UserError(f"{part.folder} does not suit {first.folder}: {changed}")
            _check_originals(first.folder, part.folder, part.card)
        self.methods: dict[str, Any] = {}
        # The part with the most methods most likely has them in the order of the whole study.
        for part in sorted(parts, key=lambda part: -len(part.options["methods"])):
            for name, method in part.options["methods"].items():
                self.methods.setdefault(name, method)
        self.seeds = list(dict.fromkeys(s for p in parts for s in p.options.get("seeds", [0])))
        self.evaluations = self._evaluations()
        self.entries = self._entries()

    def write(self, into: Path) -> None:
        """Writes the merged study; its ``study.json`` is the last file."""
        first, target = self.parts[0], ResultStore(into)
        for part in self.parts:
            if part.folder != into:
                _copy_files(part.folder, into)
        for evaluation, (_, records) in self.evaluations.items():
            if not target.records(evaluation):
                target.add_records(records)
        for part in self.parts:
            for cost in part.store.costs():
                if target.cost(cost["cost"]) is None:
                    target.add_cost(cost)
            for use in part.store.frame_uses():
                here = target.frame_use(use["evaluation"]) or {}
                if use["psnr"].keys() - here.keys():
                    target.add_frame_use({**use, "psnr": {**use["psnr"], **here}})
        _write_budget([part.folder for part in self.parts], into)
        options = {**first.options, "methods": self.methods, "seeds": self.seeds}
        write_atomic(into / "study.yml", dump(options))
        card = replace(first.card, entries=self.entries, published=[], sweeps={})
        card.jobs = max(part.card.jobs for part in self.parts)
        for part in self.parts:
            card.published += [row for row in part.card.published if row not in card.published]
            card.sweeps = {**part.card.sweeps, **card.sweeps}  # the first part has priority
        target.save_card(card)

    def _evaluations(self) -> dict[str, tuple[Path, list[Record]]]:
        """Returns the records of each evaluation with the folder of their part."""
        found: dict[str, tuple[Path, list[Record]]] = {}
        for part in self.parts:
            for evaluation in part.store.evaluations():
                here = part.folder, part.store.records(evaluation)
                if evaluation in found:
                    self._compare(*found[evaluation], *here)
                found.setdefault(evaluation, here)
        return found

    def _entries(self) -> list[Entry]:
        """Returns one entry per method and seed: the first one without a failure.

        Evaluations and costs that it lacks come from the other parts.
        """
        found: dict[tuple[str, int], Entry] = {}
        for entry in (entry for part in self.parts for entry in part.card.entries):
            job = entry.method, entry.seed
            if job not in found or (found[job].failure and not entry.failure):
                found[job] = entry
            elif not entry.failure:
                found[job] = self._join(found[job], entry)
        names = list(self.methods)
        return sorted(
            found.values(), key=lambda e: (self.seeds.index(e.seed), names.index(e.method))
        )

    def _join(self, first: Entry, second: Entry) -> Entry:
        evaluations = self._join_evaluations(first.evaluations, second.evaluations)
        others = {
            protocol: self._join_evaluations(
                first.other_protocols.get(protocol, {}), second.other_protocols.get(protocol, {})
            )
            for protocol in {**first.other_protocols, **second.other_protocols}
        }
        cost = first.cost or second.cost
        return replace(first, evaluations=evaluations, other_protocols=others, cost=cost)

    def _join_evaluations(self, first: dict[str, str], second: dict[str, str]) -> dict[str, str]:
        for dataset in first.keys() & second.keys():
            here = self.evaluations.get(first[dataset])
            there = self.evaluations.get(second[dataset])
            if here and there:
                self._compare(*here, *there)
        return {**second, **first}

    def _compare(
        self, here: Path, records: list[Record], there: Path, others: list[Record]
    ) -> None:
        """Raises an error if two records of the same image would be printed differently."""
        values = {record["key"]: record["metrics"] for record in others}
        metrics = self.parts[0].card.metrics
        for record in records:
            for metric, a in record["metrics"].items():
                b = values.get(record["key"], {}).get(metric)
                half = 0.5 * 10.0 ** -metrics[metric]["digits"] if metric in metrics else 0.0
                if a is None or b is None or a == b or abs(a - b) <= half or (a != a and b != b):
                    continue
                raise UserError(
                    f"{record.get('method')}, seed {record.get('seed')}, {record.get('dataset')} "
                    f"{record['key']}: {metric} is {a:.6g} in {here} and {b:.6g} in {there}; find "
                    "out which one is right, and remove the method from the other"
                )


def _check_originals(here: Path, there: Path, card: StudyCard) -> None:
    """Raises an error if datasets with the same name have different images."""
    datasets = {name for entry in card.entries for name in entry.evaluations}
    folders = [there / "images" / name for name in sorted(datasets)]
    for path in (path for folder in folders for path in regular_files(folder, [])):
        other = here / path.relative_to(there)
        if not other.exists() or other.read_bytes() == path.read_bytes():
            continue
        if not np.array_equal(read_image(other), read_image(path)):
            raise UserError(
                f"{path} and {other} differ: the studies were evaluated on different images"
            )


def _copy_files(source: Path, target: Path) -> None:
    """Copies images, environments and finished trainings that the target lacks, but no links."""
    links: list[str] = []
    for name in ("images", "environments"):
        for path in regular_files(source / name, links):
            copy = target / path.relative_to(source)
            if not copy.exists():
                write_atomic(copy, path.read_bytes())
    if (source / "runs").is_symlink():
        links.append("runs")
    for run in [] if links[-1:] == ["runs"] else finished_runs(source):
        copy = target / run.relative_to(source)
        if run.is_symlink():
            links.append(run.name)
        elif not is_finished(copy):
            copy_training(run, copy, links)
    if links:
        _log.warning(
            "%s: %d symbolic links were not copied, as they may lead out of the study: %s",
            *(source, len(links), names_text(links)),
        )


def _write_budget(folders: Sequence[Path], into: Path) -> None:
    """Keeps the measured step times, so that the numbers of iterations do not change."""
    times: dict[str, float] = {}
    for path in (folder / "budget.json" for folder in reversed(folders)):
        if path.exists():
            try:
                times |= check_value(read_object(path), dict[str, Any], "")
            except Damage as error:
                raise UserError(f"{path} is damaged: {error}; remove it") from None
    if times:
        write_atomic(into / "budget.json", to_json(times, indent=1))

"""Puts together what parts of a study gave on several machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from srtoolbox.comparison.store import Entry, ResultStore, StudyCard
from srtoolbox.comparison.study.reuse import copy_training, finished_trainings
from srtoolbox.config.files import dump, plain, read
from srtoolbox.data.files.reader import read_image
from srtoolbox.errors import UserError
from srtoolbox.utils.files import locked, write_atomic

Record = dict[str, Any]


def merge_studies(sources: Sequence[Path], into: Path) -> ResultStore:
    """Merges studies into the one at ``into``, which is made, or added to if it is there.

    Records, costs, images, finished trainings and cards are taken over. All is checked before
    anything is written. ``srtoolbox compare`` goes on from the result as if all had been run there.

    Args:
        sources: Folders of studies, parts of one: other methods or seeds by the same rules.
        into: Folder of the merged study.

    Raises:
        UserError: if they are not parts of one study, or if the same method, seed and image have
            scores that would print differently.
    """
    folders = [one for one in sources if one.resolve() != into.resolve()]
    for folder in folders:
        ResultStore(folder).load_card()  # a misspelt folder must not leave an empty study behind
    with locked(into):
        if (into / "study.json").exists():
            folders.insert(0, into)
        parts = [_Part(folder) for folder in folders]
        merged = _Merged(parts)
        merged.write(into)
    return ResultStore(into)


class _Part:
    """One of the studies."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, ResultStore(folder)
        self.card: StudyCard = self.store.load_card()
        self.options: dict[str, Any] = plain(read(folder / "study.yml"))

    @property
    def rules(self) -> dict[str, Any]:
        """What all parts of a study have in common, by what messages call it."""
        card = self.card
        return {
            "scale": card.scale,
            "protocol": ", ".join(p["text"] for p in (card.protocol, *card.other_protocols)),
            "metrics": ", ".join(card.metrics),
            "training": card.training,
        }


class _Merged:
    """What the parts give together; made without writing anything."""

    def __init__(self, parts: list[_Part]) -> None:
        self.parts, first = parts, parts[0]
        for part in parts[1:]:
            for what, value in part.rules.items():
                if value != first.rules[what]:
                    raise UserError(
                        f"{part.folder} is no part of the same study as {first.folder}: its "
                        f"{what} is '{value}', not '{first.rules[what]}'"
                    )
            _check_originals(first.folder, part.folder, part.card)
        self.methods: dict[str, Any] = {}
        # The part with the most methods has the order of the whole, if any has.
        for part in sorted(parts, key=lambda part: -len(part.options["methods"])):
            self.methods |= {
                k: v for k, v in part.options["methods"].items() if k not in self.methods
            }
        self.seeds = list(dict.fromkeys(s for p in parts for s in p.options.get("seeds", [0])))
        self.evaluations = self._evaluations()
        self.entries = self._entries()

    def write(self, into: Path) -> None:
        """Writes the merged study, its card last."""
        first, target = self.parts[0], ResultStore(into)
        for part in self.parts:
            if part.folder != into:
                _copy_files(part.folder, into)
        for evaluation, (_, records) in self.evaluations.items():
            if not target.records(evaluation):
                target.add_records(records)
        for cost in (cost for part in self.parts for cost in part.store.costs()):
            if target.cost(cost["cost"]) is None:
                target.add_cost(cost)
        for use in (use for part in self.parts for use in part.store.frame_uses()):
            if target.frame_use(use["evaluation"]) is None:
                target.add_frame_use(use)
        _write_budget([part.folder for part in self.parts], into)
        options = {**first.options, "methods": self.methods, "seeds": self.seeds}
        write_atomic(into / "study.yml", dump(options))
        published = []
        for row in (row for part in self.parts for row in part.card.published):
            published += [row] if row not in published else []
        card = replace(first.card, entries=self.entries, published=published)
        card.jobs = max(part.card.jobs for part in self.parts)
        card.sweeps = {}
        for part in reversed(self.parts):  # the first has the last word
            card.sweeps |= part.card.sweeps
        target.save_card(card)

    def _evaluations(self) -> dict[str, tuple[Path, list[Record]]]:
        """The records of each evaluation and where they are from."""
        found: dict[str, tuple[Path, list[Record]]] = {}
        for part in self.parts:
            for evaluation in part.store.evaluations():
                records = part.store.records(evaluation)
                if evaluation in found:
                    self._compare(*found[evaluation], part.folder, records)
                found.setdefault(evaluation, (part.folder, records))
        return found

    def _entries(self) -> list[Entry]:
        """One entry of each method and seed: the first that did not fail, with what others add."""
        found: dict[tuple[str, int], Entry] = {}
        for entry in (entry for part in self.parts for entry in part.card.entries):
            place = entry.method, entry.seed
            if place not in found or (found[place].failure and not entry.failure):
                found[place] = entry
            elif not entry.failure:
                found[place] = self._join(found[place], entry)
        names = list(self.methods)
        order = {(m, s): (self.seeds.index(s), names.index(m)) for m, s in found}
        return sorted(found.values(), key=lambda entry: order[entry.method, entry.seed])

    def _join(self, one: Entry, other: Entry) -> Entry:
        evaluations = self._join_evaluations(one.evaluations, other.evaluations)
        other_protocols = {
            protocol: self._join_evaluations(
                one.other_protocols.get(protocol, {}), other.other_protocols.get(protocol, {})
            )
            for protocol in {**one.other_protocols, **other.other_protocols}
        }
        return replace(
            one,
            evaluations=evaluations,
            other_protocols=other_protocols,
            cost=one.cost or other.cost,
        )

    def _join_evaluations(self, one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
        for dataset in one.keys() & other.keys():
            here, there = (self.evaluations.get(each[dataset]) for each in (one, other))
            if here and there:
                self._compare(*here, *there)
        return {**other, **one}

    def _compare(
        self, here: Path, records: list[Record], there: Path, others: list[Record]
    ) -> None:
        """Refuses scores of the same thing that would print differently."""
        values = {record["key"]: record["metrics"] for record in others}
        metrics = self.parts[0].card.metrics
        for record in records:
            for metric, a in record["metrics"].items():
                b = values.get(record["key"], {}).get(metric)
                half = 0.5 * 10.0 ** -metrics[metric]["digits"] if metric in metrics else 0.0
                if a is None or b is None or a == b or abs(a - b) <= half:
                    continue
                raise UserError(
                    f"{record['method']}, seed {record['seed']}, {record['dataset']} "
                    f"{record['key']}: {metric} is {a:.6g} in {here} and {b:.6g} in {there}; find "
                    "out which one is right, and leave the method out of the other"
                )


def _check_originals(here: Path, there: Path, card: StudyCard) -> None:
    """Refuses datasets of one name with other images."""
    datasets = {name for entry in card.entries for name in entry.evaluations}
    for path in (path for name in sorted(datasets) for path in (there / "images" / name).glob("*")):
        other = here / path.relative_to(there)
        if not other.exists() or other.read_bytes() == path.read_bytes():
            continue
        if not np.array_equal(read_image(other), read_image(path)):
            raise UserError(f"{path} and {other} differ: the studies were scored on other images")


def _copy_files(source: Path, target: Path) -> None:
    """Copies images, environments and finished trainings that are not there."""
    for name in ("images", "environments"):
        for path in (source / name).rglob("*"):
            copy = target / path.relative_to(source)
            if path.is_file() and not copy.exists():
                write_atomic(copy, path.read_bytes())
    for run in finished_trainings(source):
        copy = target / run.relative_to(source)
        if not (copy / "finished.json").exists():
            copy_training(run, copy)


def _write_budget(folders: Sequence[Path], into: Path) -> None:
    """Keeps the step times by which iterations were shared out, so that they stay as they are."""
    times: dict[str, float] = {}
    for path in (folder / "budget.json" for folder in reversed(folders)):
        times |= json.loads(path.read_text()) if path.exists() else {}
    if times:
        write_atomic(into / "budget.json", json.dumps(times, indent=1))

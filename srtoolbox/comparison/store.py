"""The store of a study: per-image scores, costs, images, and what belongs to which method.

Everything a report shows is read from here; nothing needs a GPU, a dataset or a network::

    study.json       methods and seeds, and which evaluation, cost and run belongs to each
    results.jsonl    one record per image and evaluation
    costs.jsonl      one record per network, input size and device
    frame_use.jsonl  PSNR by the frames that a network was given, if the study asked for it
    images/          SR images by evaluation, and LR and GT images by dataset
    runs/            the training runs
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from srtoolbox.errors import UserError
from srtoolbox.utils.files import append_lines, read_lines, write_atomic


@dataclass
class Entry:
    """One method with one seed.

    Attributes:
        method: Name in the table.
        seed: Seed of the training.
        run: Folder of the training run below the study's; None if nothing was trained.
        evaluations: Evaluation ids by dataset, under the card's protocol.
        other_protocols: The same under the card's further protocols, by their names.
        skipped_datasets: Datasets that the method cannot be scored on, and why.
        cost: Id of the cost record.
        device: What it was trained and measured on.
        identity: Hash of what decides its results.
        train_seconds: Time spent in training steps.
        steps: Steps trained.
        threads: CPU threads of the training.
        deviations: What was trained or set otherwise than for the rest, in words.
        failure: Why the method has no result, if so.
    """

    method: str
    seed: int
    run: str | None = None
    evaluations: dict[str, str] = field(default_factory=dict)
    other_protocols: dict[str, dict[str, str]] = field(default_factory=dict)
    skipped_datasets: dict[str, str] = field(default_factory=dict)
    cost: str | None = None
    device: str = ""
    identity: str = ""
    train_seconds: float = 0.0
    steps: int = 0
    threads: int = 0
    deviations: list[str] = field(default_factory=list)
    failure: str | None = None


@dataclass(frozen=True)
class Published:
    """A row with numbers that somebody else measured and printed.

    Attributes:
        method: Name in the table.
        dataset: The dataset that the scores are of, by its name in the study.
        protocol: Name of the protocol that they were measured under.
        scores: By metric, in the units of the study's metrics.
        source: Where they are printed.
        params: Parameters of the network, if they are printed too.
    """

    method: str
    dataset: str
    protocol: str
    scores: dict[str, float]
    source: str
    params: float | None = None


@dataclass
class StudyCard:
    """What a report must know beside the records.

    Attributes:
        name: Of the study.
        scale: Super-resolution factor.
        protocol: Name, hash and description of the protocol.
        metrics: ``higher_is_better``, ``unit`` and ``digits`` by metric.
        training: How all methods were trained, in one sentence.
        environment: Versions, device and threads.
        entries: Methods in the order of the table.
        other_protocols: More protocols: ``views`` gives a card, hence a table, for each.
        published: Rows with printed numbers, of any of the protocols.
        budget: What the trainings have in common, if it is not the number of iterations.
        jobs: Trainings at a time.
        sweeps: Test sets and their values by the quantity that they differ in: they are shown as
            curves.
    """

    name: str
    scale: int
    protocol: dict[str, str]
    metrics: dict[str, dict[str, Any]]
    training: str
    environment: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)
    other_protocols: list[dict[str, str]] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    budget: str | None = None
    jobs: int = 1
    sweeps: dict[str, dict[str, float]] = field(default_factory=dict)

    def views(self) -> list[StudyCard]:
        """A card of one protocol for each of the study's, with the published rows of that one."""
        cards = []
        for protocol in (self.protocol, *self.other_protocols):
            name = protocol["name"]
            entries = [
                replace(
                    entry,
                    evaluations=entry.evaluations
                    if protocol is self.protocol
                    else entry.other_protocols.get(name, {}),
                    other_protocols={},
                )
                for entry in self.entries
            ]
            rows = [row for row in self.published if row.protocol == name]
            cards.append(
                replace(
                    self, protocol=protocol, other_protocols=[], entries=entries, published=rows
                )
            )
        return cards

    def remarks(self) -> list[str]:
        """What stands under every table beside protocol, training and costs, one sentence each."""
        remarks = []
        trained = {entry.method: entry.steps for entry in self.entries if entry.steps}
        if self.budget and trained:
            steps = ", ".join(f"{method} {count:,}" for method, count in trained.items())
            remarks.append(f"Budget: {self.budget}; iterations: {steps}.")
        if self.jobs > 1:
            remarks.append(f"Up to {self.jobs} trainings ran at a time.")
        by_device: dict[str, list[str]] = {}
        for entry in self.entries:
            methods = by_device.setdefault(entry.device, [])
            if entry.method not in methods:
                methods.append(entry.method)
        by_device.pop("", None)
        if len(by_device) > 1:
            where = "; ".join(f"{', '.join(names)} on {one}" for one, names in by_device.items())
            remarks.append(f"Times are of several devices and do not compare: {where}.")
        skipped_datasets = {
            f"– {entry.method} on {dataset}: {reason}."
            for entry in self.entries
            for dataset, reason in entry.skipped_datasets.items()
        }
        return remarks + sorted(skipped_datasets)


class ResultStore:
    """Reads and writes the store of one study.

    Args:
        folder: The study's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._records: dict[str, dict[str, dict[str, Any]]] = {}  # by evaluation and key
        for record in read_lines(folder / "results.jsonl"):
            self._enter(record)
        self._costs = {cost["cost"]: cost for cost in read_lines(folder / "costs.jsonl")}
        self._uses = {use["evaluation"]: use for use in read_lines(folder / "frame_use.jsonl")}

    def add_records(self, records: list[dict[str, Any]]) -> None:
        """Appends the per-image records of one evaluation, all at once."""
        append_lines(self.folder / "results.jsonl", records)
        for record in records:
            self._enter(record)

    def records(self, evaluation: str) -> list[dict[str, Any]]:
        """The records of an evaluation in the dataset's order; empty unless it is complete."""
        found = sorted(self._records.get(evaluation, {}).values(), key=lambda r: r["index"])
        return found if found and len(found) == found[0]["of"] else []

    def evaluations(self) -> list[str]:
        """The ids of all evaluations that are complete, also of those that no method has now."""
        return [evaluation for evaluation in self._records if self.records(evaluation)]

    def costs(self) -> list[dict[str, Any]]:
        """All cost records."""
        return list(self._costs.values())

    def add_cost(self, cost: dict[str, Any]) -> None:
        """Appends a cost record."""
        append_lines(self.folder / "costs.jsonl", [cost])
        self._costs[cost["cost"]] = cost

    def cost(self, identity: str) -> dict[str, Any] | None:
        """The cost record of that id, if it was measured."""
        return self._costs.get(identity)

    def frame_uses(self) -> list[dict[str, Any]]:
        """All records of frame use."""
        return list(self._uses.values())

    def add_frame_use(self, use: dict[str, Any]) -> None:
        """Appends a record of frame use: an ``evaluation``'s ``psnr`` by the frames given."""
        append_lines(self.folder / "frame_use.jsonl", [use])
        self._uses[use["evaluation"]] = use

    def frame_use(self, evaluation: str) -> dict[str, float | None] | None:
        """PSNR by the frames that the network of an evaluation was given, if it was measured."""
        found = self._uses.get(evaluation)
        return None if found is None else found["psnr"]

    def _enter(self, record: dict[str, Any]) -> None:
        self._records.setdefault(record["evaluation"], {})[record["key"]] = record

    def image_folder(self, name: str) -> Path:
        """Where the images of an evaluation (``name`` is its id) or a dataset lie."""
        return self.folder / "images" / name

    def save_card(self, card: StudyCard) -> None:
        """Writes ``study.json``."""
        write_atomic(self.folder / "study.json", json.dumps(asdict(card), indent=1))

    def load_card(self) -> StudyCard:
        """Reads ``study.json``.

        Raises:
            UserError: if the folder holds no study.
        """
        path = self.folder / "study.json"
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise UserError(f"{self.folder}: no study here ({path.name} is missing)") from error
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: damaged ({error}); run the comparison again") from error
        content["entries"] = [Entry(**entry) for entry in content["entries"]]
        content["published"] = [Published(**row) for row in content.get("published", [])]
        return StudyCard(**content)

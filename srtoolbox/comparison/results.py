"""The store of a study: per-image scores, costs, images, and what belongs to which method.

Everything a report shows is read from here; nothing needs a GPU, a dataset or a network::

    study.json       methods and seeds, and which evaluation, cost and run belongs to each
    results.jsonl    one record per image and evaluation
    costs.jsonl      one record per network, input size and device
    images/          SR images by evaluation, and LR and GT images by dataset
    runs/            the training runs
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from srtoolbox.engine.files import append_lines, read_lines, write_atomic
from srtoolbox.errors import UserError


@dataclass
class Entry:
    """One method with one seed.

    Attributes:
        method: Name in the table.
        seed: Seed of the training.
        run: Folder of the training run below the study's; None if nothing was trained.
        evaluations: Evaluation ids by dataset.
        cost: Id of the cost record.
        train_seconds: Time spent in training steps.
        steps: Steps trained.
        threads: CPU threads of the training.
        differs: What was trained or set otherwise than for the rest, in words.
        failure: Why the method has no result, if so.
    """

    method: str
    seed: int
    run: str | None = None
    evaluations: dict[str, str] = field(default_factory=dict)
    cost: str | None = None
    train_seconds: float = 0.0
    steps: int = 0
    threads: int = 0
    differs: list[str] = field(default_factory=list)
    failure: str | None = None


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
    """

    name: str
    scale: int
    protocol: dict[str, str]
    metrics: dict[str, dict[str, Any]]
    training: str
    environment: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)


class ResultStore:
    """Reads and writes the store of one study.

    Args:
        folder: The study's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._records: dict[str, dict[str, dict[str, Any]]] = {}
        for record in read_lines(folder / "results.jsonl"):
            self._enter(record)
        self._costs = {cost["cost"]: cost for cost in read_lines(folder / "costs.jsonl")}

    def add_records(self, records: list[dict[str, Any]]) -> None:
        """Appends the per-image records of one evaluation, all at once."""
        append_lines(self.folder / "results.jsonl", records)
        for record in records:
            self._enter(record)

    def records(self, evaluation: str) -> list[dict[str, Any]]:
        """The records of an evaluation in the dataset's order; empty unless it is complete."""
        found = sorted(self._records.get(evaluation, {}).values(), key=lambda r: r["index"])
        return found if found and len(found) == found[0]["of"] else []

    def add_cost(self, cost: dict[str, Any]) -> None:
        """Appends a cost record."""
        append_lines(self.folder / "costs.jsonl", [cost])
        self._costs[cost["cost"]] = cost

    def cost(self, identity: str) -> dict[str, Any] | None:
        """The cost record of that id, if it was measured."""
        return self._costs.get(identity)

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
        return StudyCard(**content)

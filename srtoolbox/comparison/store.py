"""Stores the results of a study: per-image scores, costs, images and the list of its methods.

A report reads everything from here; it needs no GPU, dataset or network::

    study.json       methods and seeds, with the ids of their evaluations, costs and runs
    results.jsonl    one record per image and evaluation
    costs.jsonl      one record per network, input size and device
    frame_use.jsonl  PSNR for several selections of input frames, if the study measures it
    images/          SR images by evaluation, and LR and GT images by dataset
    runs/            the training runs
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from srtoolbox.comparison.stored_files import (
    LIMIT,
    Damage,
    RecordFile,
    check_path,
    check_value,
    read_object,
    shape,
)
from srtoolbox.engine.evaluation.records import BLIND, Record
from srtoolbox.errors import UserError
from srtoolbox.utils.files import append_lines, arrange_lines, write_atomic
from srtoolbox.utils.portable import to_json

_MAX_DIGITS = 10  # of a printed score

# Keys of older study.json files that have another name now.
_RENAMED_KEYS = {"further": "other_protocols", "unfit": "skipped_datasets", "differs": "deviations"}


@dataclass
class Entry:
    """One method with one seed.

    Attributes:
        method: Name in the table.
        seed: Seed of the training.
        run: Folder of the training run, relative to the study's; None if nothing was trained.
        evaluations: Evaluation ids by dataset, under the first protocol of the study.
        other_protocols: Evaluation ids by dataset, by the names of the other protocols.
        skipped_datasets: Datasets that the method cannot be evaluated on, with the reasons.
        cost: Id of the cost record.
        device: Device of training and evaluation.
        identity: Hash of everything that decides the results.
        train_seconds: Time spent in training steps.
        steps: Number of training steps.
        threads: CPU threads of the training.
        deviations: Differences to the options of the other methods, in words.
        failure: Reason why the method has no result, or None.
        degenerate: What the outputs of the trained network amount to if they are trivial, or None.
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
    degenerate: str | None = None


@dataclass(frozen=True)
class Published:
    """A table row with published numbers, which were not measured here.

    Attributes:
        method: Name in the table.
        dataset: Name of the dataset in the study.
        protocol: Name of the protocol of the numbers.
        scores: Scores by metric, in the units of the study's metrics.
        source: Publication that prints the numbers.
        params: Number of parameters of the network, if it is published too.
    """

    method: str
    dataset: str
    protocol: str
    scores: dict[str, float]
    source: str
    params: float | None = None


@dataclass
class StudyCard:
    """Study metadata needed by the report.

    Attributes:
        name: Name of the study.
        scale: Super-resolution factor.
        protocol: ``name``, ``hash``, ``text`` and ``average`` of the first protocol.
        metrics: ``higher_is_better``, ``unit``, ``digits``, ``kind``, ``unavailable`` and, for a
            metric that uses weights, their ``source`` (``text`` and ``content`` hash) by metric.
        training: The training options that all methods share, in one sentence.
        environment: Versions, device and threads.
        entries: Methods and seeds in the order of the table.
        other_protocols: The other protocols; ``views`` gives a card, hence a table, for each.
        published: Published numbers under any of the protocols.
        budget: The quantity that is equal for all trainings, in words; None: the iterations.
        jobs: Largest number of trainings that may run in parallel.
        sweeps: By quantity, the test sets that differ in it with their values; shown as curves.
        notes: Sentences of the option file for below the tables.
        rgb_bands: Numbers of the bands that pictures show as red, green and blue, or of one that is
            grey; None: the first three, or the first.
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
    notes: list[str] = field(default_factory=list)
    rgb_bands: list[int] | None = None

    @property
    def protocols(self) -> list[dict[str, str]]:
        """All protocols, the first one first."""
        return [self.protocol, *self.other_protocols]

    def views(self) -> list[StudyCard]:
        """Returns one card per protocol, with the evaluations and published rows under it."""
        cards = []
        for protocol in self.protocols:
            card = replace(self, protocol=protocol, other_protocols=[], entries=[])
            card.published = [row for row in self.published if row.protocol == protocol["name"]]
            for entry in self.entries:
                found = {self.protocol["name"]: entry.evaluations, **entry.other_protocols}
                own = found.get(protocol["name"], {})
                card.entries.append(replace(entry, evaluations=own, other_protocols={}))
            cards.append(card)
        return cards

    def remarks(self) -> list[str]:
        """Returns notes for below each table: own notes, budget, devices, skipped datasets."""
        remarks = list(self.notes)
        trained = {entry.method: entry.steps for entry in self.entries if entry.steps}
        if self.budget and trained:
            steps = ", ".join(f"{method} {count:,}" for method, count in trained.items())
            remarks.append(f"Budget: {self.budget}; iterations: {steps}.")
        if self.jobs > 1:
            remarks.append(
                f"Trainings at a time on one machine: at most {self.jobs}, and no more than it has "
                "cores or GPUs."
            )
        methods: dict[str, list[str]] = {}
        for entry in self.entries:
            if entry.device and entry.method not in methods.setdefault(entry.device, []):
                methods[entry.device].append(entry.method)
        if len(methods) > 1:
            places = "; ".join(f"{', '.join(names)} on {dev}" for dev, names in methods.items())
            remarks.append(f"Times are from several devices and cannot be compared: {places}.")
        skipped = {
            f"– {entry.method} on {dataset}: {reason}."
            for entry in self.entries
            for dataset, reason in entry.skipped_datasets.items()
        }
        return remarks + sorted(skipped)


def changed_sources(before: StudyCard, now: StudyCard) -> str | None:
    """Returns which metric was computed with different weights in two studies; None: none was."""
    for name, facts in now.metrics.items():
        old, new = before.metrics.get(name, {}).get("source"), facts.get("source")
        if old and new and old["content"] != new["content"]:
            return f"{name} was computed with {old['text']}, not with {new['text']}"
    return None


def image_stem(key: str) -> str:
    """Returns the file name, without ``.png``, of the stored image with this key."""
    return key.replace("/", "__")


class ResultStore:
    """Reads and writes the results of one study.

    Args:
        folder: Folder of the study.

    Raises:
        UserError: if a file is damaged; the message has its line.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._records: dict[str, dict[str, Record]] = {}  # by evaluation and key
        self._sorted: dict[str, list[Record]] = {}
        check = _RecordCheck()
        results = RecordFile(folder / "results.jsonl", check, check.quick)
        costs = RecordFile(folder / "costs.jsonl", _check_cost)
        uses = RecordFile(folder / "frame_use.jsonl", _check_use)
        for record in results:
            self._enter(record)
        self._costs = {cost["cost"]: cost for cost in costs}
        self._uses = {use["evaluation"]: use for use in uses}
        self._unfinished = {"results": results.unfinished, "costs": costs.unfinished}

    def add_records(self, records: list[Record]) -> None:
        """Appends the per-image records of one evaluation, all at once.

        Beside the evaluator's keys each has the ``evaluation`` id, its ``index`` in the dataset
        and the number ``of`` records of the evaluation.
        """
        append_lines(self.folder / "results.jsonl", records)
        for record in records:
            self._enter(record)

    def records(self, evaluation: str) -> list[Record]:
        """Returns the records of an evaluation in dataset order; empty unless it is complete."""
        if evaluation not in self._sorted:
            found = self._records.get(evaluation, {}).values()
            records = sorted(found, key=lambda record: record["index"])
            complete = records and len(records) == records[0]["of"]
            self._sorted[evaluation] = records if complete else []
        return self._sorted[evaluation]

    def incomplete(self, evaluation: str) -> list[Record]:
        """Returns the records of an evaluation that lacks some; empty if it is complete."""
        return [] if self.records(evaluation) else [*self._records.get(evaluation, {}).values()]

    def evaluations(self) -> list[str]:
        """Returns the ids of all complete evaluations, also of those that no entry names."""
        return [evaluation for evaluation in self._records if self.records(evaluation)]

    def costs(self) -> list[dict[str, Any]]:
        """Returns all cost records."""
        return list(self._costs.values())

    def add_cost(self, cost: dict[str, Any]) -> None:
        """Appends a cost record; its id is ``cost["cost"]``."""
        append_lines(self.folder / "costs.jsonl", [cost])
        self._costs[cost["cost"]] = cost

    def cost(self, identity: str) -> dict[str, Any] | None:
        """Returns the cost record with this id; None if there is none."""
        return self._costs.get(identity)

    def frame_uses(self) -> list[dict[str, Any]]:
        """Returns all records of frame use."""
        return list(self._uses.values())

    def add_frame_use(self, use: dict[str, Any]) -> None:
        """Appends a record of frame use: the ``evaluation`` id, and ``psnr`` by input frames."""
        append_lines(self.folder / "frame_use.jsonl", [use])
        self._uses[use["evaluation"]] = use

    def frame_use(self, evaluation: str) -> dict[str, float | None] | None:
        """Returns the PSNR in dB by input frames of an evaluation; None if it was not measured."""
        return self._uses.get(evaluation, {}).get("psnr")

    def know(self, records: Iterable[Record], frame_uses: Iterable[dict[str, Any]]) -> None:
        """Enters results that another store has, without writing them."""
        for record in records:
            self._enter(record)
        self._uses |= {use["evaluation"]: use for use in frame_uses}

    def arrange(self, evaluations: Sequence[str]) -> None:
        """Moves the lines of these evaluations to the end of their files, in this order.

        Results of other processes arrive in any order; afterwards they are as from one process.
        """
        for name in ("results.jsonl", "frame_use.jsonl"):
            arrange_lines(self.folder / name, "evaluation", evaluations)

    def _enter(self, record: Record) -> None:
        evaluation = record["evaluation"]
        self._records.setdefault(evaluation, {})[record["key"]] = record
        self._sorted.pop(evaluation, None)

    def image_folder(self, name: str) -> Path:
        """Returns the folder with the images of an evaluation (by its id) or of a dataset."""
        return self.folder / "images" / name

    def save_card(self, card: StudyCard) -> None:
        """Writes ``study.json``."""
        write_atomic(self.folder / "study.json", to_json(asdict(card), indent=1))

    def load_card(self) -> StudyCard:
        """Reads ``study.json``, also of older versions.

        Raises:
            UserError: if the folder holds no study, or its file is damaged.
        """
        path = self.folder / "study.json"
        try:
            content = _rename_keys(read_object(path))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{self.folder}: no study here ({path.name} is missing)") from error
        try:
            entries = check_value(content.get("entries"), list[dict[str, Any]], "entries")
            content["entries"] = [_rename_keys(entry) for entry in entries]
            card = check_value(content, StudyCard, "")
            _check_card(card)
        except Damage as error:
            raise UserError(f"{path} is damaged: {error}; run the comparison again") from None
        return card

    def require_complete(self, card: StudyCard) -> None:
        """Checks that no unfinished line has taken a result that an entry refers to.

        Raises:
            UserError: if one has; the message has its line.
        """
        for entry in card.entries:
            groups = [entry.evaluations, *entry.other_protocols.values()]
            names = {name: dataset for group in groups for dataset, name in group.items()}
            lost = [dataset for name, dataset in names.items() if not self.records(name)]
            text = f"the scores of {entry.method}, seed {entry.seed}, on {', '.join(lost)}"
            self._require("results", bool(lost), text)
            lacks_cost = entry.cost is not None and entry.cost not in self._costs
            self._require("costs", lacks_cost, f"the costs of {entry.method}")

    def _require(self, file: str, is_lost: bool, text: str) -> None:
        if is_lost and (places := self._unfinished[file]):
            raise UserError(
                f"{places[0]} is damaged: {text} are incomplete; run the comparison again"
            )


_check_record_types = shape(
    evaluation=str,
    key=str,
    index=int,
    of=int,
    metrics=dict[str, float | None],
    kind=str | None,
    method=str | None,
    seed=int | None,
    dataset=str | None,
)
_SCORE_TYPES = {float, type(None)}
_check_use_types = shape(evaluation=str, psnr=dict[str, float | None])
_check_cost_types = shape(
    cost=str,
    input=list[int] | None,
    **dict.fromkeys(
        ("params", "flops", "latency", "latency_p95", "memory", "training_memory"), float | None
    ),
    uncounted=list[str] | None,
    device=str | None,
    precision=str | None,
)
_check_protocol = shape(name=str, hash=str, text=str, average=str)
_check_metric = shape(
    higher_is_better=bool, unit=str, digits=int, kind=str | None, unavailable=str | None
)
_check_source = shape(text=str, content=str)
_check_environment = shape(
    packages=dict[str, Any],
    device=str,
    **dict.fromkeys(("srtoolbox", "commit", "python", "platform", "threads"), Any),
)


class _RecordCheck:
    """Checks the records of images; those of one evaluation must have the same metrics."""

    # The types of a usual record, which needs no conversion.
    _USUAL: ClassVar[dict[str, type]] = {
        **dict.fromkeys(("evaluation", "key", "kind", "method", "dataset"), str),
        **dict.fromkeys(("index", "of", "seed"), int),
        "seconds": float,
        "metrics": dict,
    }
    _NEEDED: ClassVar[set[str]] = {"evaluation", "key", "index", "of", "metrics"}

    def __init__(self) -> None:
        self._metrics: dict[str, set[str]] = {}
        self._shared: dict[Any, Any] = {}  # each text, number and tuple of keys is kept once
        self._types: dict[tuple[str, ...], list[type]] = {}

    def quick(self, record: Any) -> Record | None:
        """Returns an equal record, which shares memory with others; None if it is unusual."""
        if type(record) is not dict:
            return None
        names = tuple(record)
        types = self._types.get(names)
        if types is None:
            if not self._NEEDED <= {*names} <= self._USUAL.keys():
                return None
            types = self._types[names] = [self._USUAL[name] for name in names]
        if [*map(type, record.values())] != types:
            return None
        metrics = record["metrics"]
        found = self._metrics.setdefault(record["evaluation"], set(metrics))
        if metrics.keys() != found or not {*map(type, metrics.values())} <= _SCORE_TYPES:
            return None
        if not -LIMIT < record["index"] < LIMIT or not -LIMIT < record["of"] < LIMIT:
            return None
        if not -LIMIT < record.get("seed", 0) < LIMIT:
            return None
        share = self._shared.setdefault
        names, scores = share(names, names), tuple(metrics)
        metrics = dict(zip(share(scores, scores), metrics.values(), strict=True))
        values = [
            metrics if kind is dict else value if kind is float else share(value, value)
            for kind, value in zip(types, record.values(), strict=True)
        ]
        return dict(zip(names, values, strict=True))

    def __call__(self, record: Record) -> None:
        _check_record_types(record)
        found = set(record["metrics"])
        wanted = self._metrics.setdefault(record["evaluation"], found)
        if found != wanted:
            raise Damage(
                f"it has the metrics {sorted(found)}, but earlier lines of its evaluation "
                f"have {sorted(wanted)}"
            )


def _check_use(use: dict[str, Any]) -> None:
    _check_use_types(use)
    frames = [name for name in use["psnr"] if name.endswith(("frame", "frames"))]
    if use["psnr"] and not (frames and BLIND in use["psnr"]):
        raise Damage(f"psnr needs numbers of frames and '{BLIND}'")


def _check_cost(cost: dict[str, Any]) -> None:
    _check_cost_types(cost)
    for key in ("device", "precision"):
        if cost.get(key, "") is None:
            del cost[key]


def _check_card(card: StudyCard) -> None:
    """Checks what the types of a card leave open.

    Raises:
        Damage: if something is wrong.
    """
    for protocol in card.protocols:
        _check_protocol(protocol)
        if protocol["average"] not in ("images", "clips"):
            raise Damage(f"protocol.average is {protocol['average']!r}, not 'images' or 'clips'")
    if not card.metrics:
        raise Damage("metrics is empty")
    for name, facts in card.metrics.items():
        _check_named(_check_metric, facts, f"metrics.{name}")
        facts.setdefault("unavailable", None)
        if not 0 <= facts["digits"] <= _MAX_DIGITS:
            raise Damage(f"metrics.{name}.digits must be 0 to {_MAX_DIGITS}")
        if facts.get("source") is not None:
            source = check_value(facts["source"], dict[str, Any], f"metrics.{name}.source")
            _check_named(_check_source, source, f"metrics.{name}.source")
    _check_named(_check_environment, card.environment, "environment")
    if "torch" not in card.environment["packages"]:
        raise Damage("environment.packages.torch is missing")
    if any(not points for points in card.sweeps.values()):
        raise Damage("a sweep has no test sets")
    for entry in card.entries:
        where = f"entry {entry.method}, seed {entry.seed}"
        for group in (entry.evaluations, *entry.other_protocols.values()):
            for dataset, evaluation in group.items():
                check_path(dataset, f"{where}: dataset")
                check_path(evaluation, f"{where}: evaluation")
        if entry.run is not None:
            check_path(entry.run, f"{where}: run")


def _check_named(check: Callable[[dict[str, Any]], None], value: dict[str, Any], name: str) -> None:
    try:
        check(value)
    except Damage as error:
        raise Damage(f"{name}: {error}") from None


def _rename_keys(content: dict[str, Any]) -> dict[str, Any]:
    return {_RENAMED_KEYS.get(key, key): value for key, value in content.items()}

"""Writes the model card of a training run or of a study, from stored files only.

The head of a card is YAML, as Hugging Face reads it from a ``README.md``. A fact that no file has
is "not stated". Paths of this machine are reduced to their last part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import yaml

from srtoolbox import __version__
from srtoolbox.archs.base import arch_info
from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.table import escape_markdown, to_markdown
from srtoolbox.comparison.report.tables import overview
from srtoolbox.comparison.store import Entry, ResultStore, StudyCard
from srtoolbox.config.components import build
from srtoolbox.config.files import plain, read
from srtoolbox.data.layouts import LAYOUTS
from srtoolbox.engine.evaluation.records import average
from srtoolbox.engine.weights.load import WeightFile, read_weights
from srtoolbox.engine.weights.whole import BEST_WEIGHTS, FINAL_WEIGHTS, kept_hash, read_finished
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import PROTOCOLS, build_metric
from srtoolbox.registry import ARCH_REGISTRY, METRIC_REGISTRY
from srtoolbox.utils.console import duration_text
from srtoolbox.utils.files import read_lines, sha256_of, write_atomic

MARK = "<!-- This file was written by `srtoolbox card`, which may write it again. -->"
NOT_STATED = "not stated"
_NAME = "README.md"
_FILES = {FINAL_WEIGHTS: "after the last step", BEST_WEIGHTS: "with the best validation score"}

# Options of datasets that only say how fast files are read.
_SPEED_OPTIONS = ("cache", "cache_limit")


@dataclass(frozen=True)
class Score:
    """The mean scores of one network on one dataset.

    Attributes:
        method: Name of the method; empty for a single run.
        dataset: Name of the dataset.
        protocol: Name and hash of the protocol.
        values: Scores by metric.
        source: Where the scores come from.
        weights: Sentences about the weights that metrics used.
    """

    method: str
    dataset: str
    protocol: str
    values: Mapping[str, float | None]
    source: str
    weights: Sequence[str] = ()


@dataclass(frozen=True)
class TrainedRun:
    """The stored files of a finished training.

    Attributes:
        folder: Its folder.
        options: Its resolved options.
        finished: The content of ``finished.json``.
        environment: The content of ``environment.json``; empty if it is missing.
        weights: Its weight files by name.
    """

    folder: Path
    options: Mapping[str, Any]
    finished: Mapping[str, Any]
    environment: Mapping[str, Any]
    weights: Mapping[str, WeightFile]

    @property
    def arch(self) -> Mapping[str, Any]:
        """Name and options of the network."""
        stored = self.weights[FINAL_WEIGHTS].arch
        return stored or {**self.options["network_g"], "scale": self.options["scale"]}


def write_card(folder: Path, output: Path | None = None, license: str | None = None) -> Path:
    """Writes the model card of a run or a study and returns its path.

    Args:
        folder: Folder of a finished run or of a study.
        output: The file; by default ``weights/README.md`` of the run, ``README.md`` of the study.
        license: Identifier of the licence of the weights, as Hugging Face lists it.

    Raises:
        UserError: if the folder has neither, the run is not finished, or the file exists and was
            not written by this function.
        RunError: if the weights are damaged.
    """
    is_study = (folder / "study.json").exists()
    if not is_study and not (folder / "run.json").exists():
        raise UserError(f"{folder}: neither a run (run.json) nor a study (study.json) is here")
    path = output or (folder / _NAME if is_study else folder / "weights" / _NAME)
    try:
        earlier = path.read_text(encoding="utf-8").splitlines() if path.exists() else [MARK]
    except (OSError, UnicodeDecodeError):  # a folder, or no text
        earlier = []
    if MARK not in earlier:
        raise UserError(
            f"{path}: exists, and `srtoolbox card` did not write it; give another file with -o"
        )
    lines = _study_card(folder, license) if is_study else _run_card(folder, license)
    write_atomic(path, "\n".join(lines) + "\n")
    return path


# --- a run ----------------------------------------------------------------------------------------


def read_run(folder: Path) -> TrainedRun:
    """Reads the files of a finished run; damaged weights raise a ``RunError``."""
    card = folder / "finished.json"
    if not card.exists():
        raise UserError(f"{folder}: this training is not finished; finish it with --resume")
    try:
        finished = read_finished(card)
    except ValueError as error:
        raise RunError(f"{error}; `srtoolbox train --resume` writes it again") from None
    files = {name: folder / "weights" / name for name in _FILES}
    weights = {name: read_weights(path) for name, path in files.items() if path.exists()}
    if FINAL_WEIGHTS not in weights:
        raise RunError(f"{files[FINAL_WEIGHTS]} is missing; run the training with --resume")
    options = plain(read(folder / "options.yml"))
    return TrainedRun(folder, options, finished, _environment(folder), weights)


def _environment(folder: Path) -> dict[str, Any]:
    path = folder / "environment.json"
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError):
        raise RunError(f"{path} is damaged; restore a copy of it, or remove it") from None


def _run_card(folder: Path, license: str | None) -> list[str]:
    run = read_run(folder)
    scores = [*_study_scores(folder), *_test_scores(run)]
    shown = scores or list(_validation_scores(run))
    name, arch = run.options["name"], run.arch
    data = run.options["datasets"].get("train") or {}
    return [
        *_head(name, [arch], [data], shown, license),
        f"# {_text(name)}",
        "",
        f"A network for {arch['scale']}× super-resolution: {_text(arch['type'])}, trained with "
        f"srtoolbox. Its weights: [{FINAL_WEIGHTS}]({FINAL_WEIGHTS}).",
        "",
        "## Network",
        "",
        *_network(run.weights[FINAL_WEIGHTS], arch),
        "",
        "## Training data",
        "",
        *_data(data),
        "",
        "## Training",
        "",
        *_training(run),
        "",
        "## Scores",
        "",
        *_score_table(shown),
        "",
        "## Cost",
        "",
        f"- training: {duration_text(run.finished['seconds'])}, device "
        f"{_text(run.environment.get('device', NOT_STATED))}, CPU threads "
        f"{run.finished['threads']}",
        *_costs(folder),
        "",
        "## Limits",
        "",
        *_limits(arch, data, shown, _remarks(folder)),
        "",
        "## Use",
        "",
        *_use(run, FINAL_WEIGHTS),
        "",
        "## Files and versions",
        "",
        *_files(run, folder / "weights"),
        *_versions(run.environment),
        f"- licence of the weights: {_text(license or NOT_STATED)}",
    ]


def _network(file: WeightFile, arch: Mapping[str, Any]) -> list[str]:
    lines = [
        f"- arch: `{arch['type']}`",
        f"- options: {_code({key: value for key, value in arch.items() if key != 'type'})}",
    ]
    if arch["type"] not in ARCH_REGISTRY:
        count = sum(value.numel() for value in file.state.values())
        return [
            *lines,
            f"- values in the weight file: {count:,}",
            f"- input and paper: {NOT_STATED} (a plug-in registers this network; give it by "
            "`--plugin`)",
        ]
    net = build("arch", arch)
    info = arch_info(net)
    frames = {1: "one image", None: "any number of frames"}.get(
        info.num_frame, f"{info.num_frame} frames"
    )
    return [
        *lines,
        f"- parameters: {sum(parameter.numel() for parameter in net.parameters()):,}",
        f"- input: {frames}, {info.channels} channels",
        f"- paper: {_text(info.paper or NOT_STATED)}",
    ]


def _data(spec: Mapping[str, Any]) -> list[str]:
    if not spec:
        return [f"- {NOT_STATED}"]
    options = {k: v for k, v in spec.items() if k != "type" and k not in _SPEED_OPTIONS}
    lines = [f"- dataset: `{spec['type']}` with {_code(options)}"]
    layout = LAYOUTS.get(str(spec.get("layout")))
    if layout is None:
        return [*lines, f"- source: {NOT_STATED}", f"- licence of the data: {NOT_STATED}"]
    facts = {
        "title": layout.title,
        "paper": layout.paper,
        "source": layout.source,
        "LR images": layout.degradation,
        "licence of the data": layout.licence,
    }
    return [*lines, *(f"- {key}: {_text(value or NOT_STATED)}" for key, value in facts.items())]


def _training(run: TrainedRun) -> list[str]:
    train = run.options.get("train") or {}
    losses = " + ".join(
        f"{spec.get('loss_weight', 1)}·{spec['type']}" for spec in train.get("losses", {}).values()
    )
    start = (run.options.get("path") or {}).get("pretrain_network_g")
    facts = {
        "steps": f"{run.finished['step']:,}",
        "batch": train.get("batch_size"),
        "losses": losses,
        "optimizer": json.dumps(train.get("optim_g")),
        "schedule": json.dumps(train.get("scheduler")) if train.get("scheduler") else "constant",
        "average of the weights": train.get("ema_decay") or "none",
        "precision": run.environment.get("precision"),
        "seed": run.options.get("manual_seed"),
        "first weights": PurePath(start).name if start else "random",
        "fingerprint of the training": _fingerprint(run.folder),
    }
    return [
        f"- {key}: {_text(NOT_STATED if value is None else value)}" for key, value in facts.items()
    ]


def _fingerprint(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "run.json").read_bytes())["fingerprint"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _study_of(folder: Path) -> Path | None:
    """Returns the folder of the study that a run belongs to; None if it belongs to none."""
    study = folder.absolute().parent.parent
    inside = folder.absolute().parent.name == "runs" and (study / "study.json").exists()
    return study if inside else None


def _entries(card: StudyCard, folder: Path) -> list[Entry]:
    return [entry for entry in card.entries if entry.run == f"runs/{folder.absolute().name}"]


def _study_scores(folder: Path) -> Iterator[Score]:
    """Yields the scores that the study of a run stores for it."""
    study = _study_of(folder)
    if study is None:
        return
    store = ResultStore(study)
    for view in store.load_card().views():
        scores = Scores(store, view)
        used = _used({name: facts.get("source") for name, facts in view.metrics.items()})
        for entry in _entries(view, folder):
            for dataset in entry.evaluations:
                values = scores.means(entry, dataset)
                if values:
                    yield Score(entry.method, dataset, _protocol(view), values, "test set", used)


def _protocol(card: StudyCard) -> str:
    return f"{card.protocol['name']} ({card.protocol['hash']})"


def _test_scores(run: TrainedRun) -> Iterator[Score]:
    """Yields the scores that ``srtoolbox test`` stored for the final weights of a run."""
    for results in sorted(run.folder.glob(f"test/*-{run.finished['weights']}*/results.jsonl")):
        records: dict[tuple[str, str], list[Any]] = {}
        for record in read_lines(results):
            records.setdefault((record["dataset"], record["protocol"]), []).append(record)
        val = plain(read(results.with_name("options.yml")))["val"]
        lower = [name for name, spec in val["metrics"].items() if _lower_is_better(spec)]
        used = _used(_environment(results.parent).get("metrics") or {})
        for (dataset, identity), found in records.items():
            protocol = PROTOCOLS.get(val["protocol"])
            over = protocol.average if protocol and protocol.hash == identity else "images"
            changed = results.parent.name.rpartition(run.finished["weights"])[2]
            source = ", ".join(["test set", *changed.split("-")[1:]])
            name = f"{val['protocol']} ({identity})"
            yield Score("", dataset, name, average(found, over, lower), source, used)


def _lower_is_better(spec: Mapping[str, Any]) -> bool:
    """Returns whether the lower of two values of a metric is better, as far as it is known here."""
    try:
        return spec["type"] in METRIC_REGISTRY and not build_metric(spec).higher_is_better
    except UserError:  # a file of it is not on this machine
        return not METRIC_REGISTRY.get(spec["type"]).higher_is_better


def _used(sources: Mapping[str, Any]) -> list[str]:
    """Returns sentences about the weights that metrics used, from their ``source``."""
    return [f"{name.upper()} uses {source['text']}." for name, source in sources.items() if source]


def _validation_scores(run: TrainedRun) -> Iterator[Score]:
    """Yields the scores of the last step during the training."""
    name = (run.options.get("val") or {}).get("protocol", NOT_STATED)
    protocol = f"{name} ({PROTOCOLS[name].hash})" if name in PROTOCOLS else name
    for record in read_lines(run.folder / "evaluation.jsonl"):
        if record["step"] == run.finished["step"]:
            values = {k: v for k, v in record.items() if k not in ("step", "dataset")}
            yield Score("", record["dataset"], protocol, values, "validation set of the training")


def _score_table(scores: Sequence[Score]) -> list[str]:
    if not scores:
        return [f"{NOT_STATED[0].upper()}{NOT_STATED[1:]}: no stored file has a score."]
    metrics = list(dict.fromkeys(metric for score in scores for metric in score.values))
    with_method = any(score.method for score in scores)
    head = [*(["method"] if with_method else []), "data", "measured on", "protocol"]
    rows = [[*head, *(metric.upper() for metric in metrics)]]
    rows.append([*["---"] * len(head), *["---:"] * len(metrics)])
    for score in scores:
        cells = [*([score.method] if with_method else []), score.dataset, score.source]
        cells.append(score.protocol)
        values = (score.values.get(metric) for metric in metrics)
        rows.append(
            [*map(_text, cells), *("–" if value is None else f"{value:.4f}" for value in values)]
        )
    weights = dict.fromkeys(text for score in scores for text in score.weights)
    notes = [*_protocol_notes(scores), *(f"- {_text(text)}" for text in weights)]
    return [f"| {' | '.join(row)} |" for row in rows] + ["", *notes]


def _protocol_notes(scores: Sequence[Score]) -> list[str]:
    """Describes the protocols whose hash is that of this version."""
    lines = []
    for text in dict.fromkeys(score.protocol for score in scores):
        name, _, identity = text.partition(" (")
        protocol = PROTOCOLS.get(name)
        same = protocol is not None and protocol.hash == identity.rstrip(")")
        lines.append(f"- {_text(protocol.describe() if protocol and same else text)}")
    return lines


def _costs(folder: Path) -> list[str]:
    """Returns the costs of a run that its study measured."""
    study = _study_of(folder)
    found = []
    if study is not None:
        store = ResultStore(study)
        names = dict.fromkeys(entry.cost for entry in _entries(store.load_card(), folder))
        found = [cost for cost in map(store.cost, filter(None, names)) if cost]
    if not found:
        return [f"- inference: {NOT_STATED}"]
    return [_cost(cost) for cost in found]


def _cost(cost: Mapping[str, Any]) -> str:
    units = {
        "params": ("parameters", 1, ",.0f", ""),
        "flops": ("operations", 1e-9, ",.2f", " GFLOPs"),
        "latency": ("time per frame", 1e3, ",.1f", " ms"),
        "memory": ("memory", 1, ",.0f", " MiB"),
        "training_memory": ("memory in training", 1, ",.0f", " MiB"),
    }
    parts = [
        f"{title} {format(cost[key] * factor, form)}{unit}"
        for key, (title, factor, form, unit) in units.items()
        if cost.get(key) is not None
    ]
    size = "×".join(map(str, cost["input"])) if cost.get("input") else NOT_STATED
    device = _text(cost.get("device") or NOT_STATED)
    return f"- inference: {', '.join(parts)}; input {size}, device {device}"


def _remarks(folder: Path) -> list[str]:
    """Returns what the study of a run notes about it."""
    study = _study_of(folder)
    if study is None:
        return []
    lines = []
    for entry in _entries(ResultStore(study).load_card(), folder):
        lines += [f"The outputs of {entry.method}: {entry.degenerate}."] * bool(entry.degenerate)
        lines += [
            f"{entry.method} on {name}: {why}." for name, why in entry.skipped_datasets.items()
        ]
    return list(dict.fromkeys(lines))


def _limits(
    arch: Mapping[str, Any], data: Mapping[str, Any], scores: Sequence[Score], more: Sequence[str]
) -> list[str]:
    layout = LAYOUTS.get(str(data.get("layout")))
    made = layout.degradation if layout is not None else NOT_STATED
    measured = ", ".join(dict.fromkeys(score.dataset for score in scores)) or "no dataset"
    lines = [
        f"The network is for the scale {arch['scale']} only.",
        f"The scores hold for {measured} under the stated protocols. Other data were not measured.",
        f"How the LR images of the training were made: {made}. Results on LR images that were made "
        "in another way were not measured.",
        f"Intended use, and uses to avoid: {NOT_STATED}.",
        *more,
    ]
    return [f"- {_text(line)}" for line in lines]


def _use(run: TrainedRun, weights: str) -> list[str]:
    plugins = [PurePath(entry).name for entry in run.options.get("plugins") or []]
    needs = [f"The network needs the plug-in {_text(', '.join(plugins))}.", ""] if plugins else []
    flags = "".join(f" --plugin {name}" for name in plugins)
    return [
        *needs,
        "```bash",
        f"srtoolbox upscale INPUT -o OUTPUT --weights {weights}{flags}",
        "```",
        "",
        "```python",
        "import srtoolbox",
        *(["from srtoolbox.plugins import load_plugins"] if plugins else []),
        "",
        *([f"load_plugins({plugins})"] if plugins else []),
        f'net, arch = srtoolbox.load("{weights}")',
        "```",
    ]


def _files(run: TrainedRun, base: Path) -> list[str]:
    lines = []
    for name, file in run.weights.items():
        digest = sha256_of(file.path)
        tensors = kept_hash({"params": file.state}) or NOT_STATED
        place = file.path.relative_to(base).as_posix()
        lines.append(
            f"- `{place}`: weights {_FILES[name]}; SHA-256 of the file `{digest}`, hash of the "
            f"tensors `{tensors}`"
        )
    return lines


def _versions(environment: Mapping[str, Any]) -> list[str]:
    packages = environment.get("packages") or {}
    facts = {
        "srtoolbox": environment.get("srtoolbox"),
        "commit": environment.get("commit"),
        "Python": environment.get("python"),
        "platform": environment.get("platform"),
        **packages,
    }
    stated = ", ".join(f"{key} {value or NOT_STATED}" for key, value in facts.items())
    return [f"- versions of the training: {_text(stated)}", f"- card by srtoolbox {__version__}"]


# --- a study --------------------------------------------------------------------------------------


def _study_card(folder: Path, license: str | None) -> list[str]:
    store = ResultStore(folder)
    card = store.load_card()
    store.require_complete(card)
    views = [Scores(store, view) for view in card.views()]
    tables = [overview(views[0]), *(overview(scores, costs=False) for scores in views[1:])]
    if len(views) > 1:
        tables = [
            replace(table, title=f"Protocol {view.card.protocol['name']}")
            for table, view in zip(tables, views, strict=True)
        ]
    options = plain(read(folder / "study.yml")) if (folder / "study.yml").exists() else {}
    data = (options.get("datasets") or {}).get("train") or {}
    names = dict.fromkeys(entry.run for entry in card.entries if entry.run and not entry.failure)
    folders = [folder / name for name in names if (folder / name / "finished.json").exists()]
    runs = {run: read_run(run) for run in folders}
    archs = [run.arch for run in runs.values()]
    trained = {entry.method for name in runs for entry in _entries(card, name)}
    scores = [
        Score(entry.method, dataset, _protocol(view.card), view.means(entry, dataset), "test set")
        for view in views
        for entry in view.card.entries
        for dataset in entry.evaluations
    ]
    lines = [
        *_head(card.name, archs, [data], [s for s in scores if s.method in trained], license),
        f"# {_text(card.name)}",
        "",
        f"Networks for {card.scale}× super-resolution, trained and compared with srtoolbox. All "
        "methods were scored by the same protocols.",
        "",
        "## Scores and cost",
        "",
        *to_markdown(tables, "").splitlines()[2:],
        "",
        f"Protocols: {_text(', '.join(map(_protocol_of, card.protocols)))}.",
        "",
        "## Training data",
        "",
        *_data(data),
        "",
        "## Training",
        "",
        f"- all methods: {_text(card.training)}",
        "",
        "## Networks",
        "",
    ]
    for name, run in runs.items():
        title = ", ".join(f"{entry.method}, seed {entry.seed}" for entry in _entries(card, name))
        lines += [f"### {_text(title)}", ""]
        lines += [*_network(run.weights[FINAL_WEIGHTS], run.arch), *_files(run, folder), ""]
        lines += [*_use(run, f"{name.relative_to(folder).as_posix()}/weights/{FINAL_WEIGHTS}"), ""]
    if not runs:
        lines += ["This folder has no trained weights.", ""]
    return [
        *lines,
        "## Limits",
        "",
        *_limits({"scale": card.scale}, data, scores, []),
        "- The notes below the tables name methods that failed, that have trivial outputs, or that "
        "were trained otherwise.",
        "",
        "## Versions",
        "",
        *_versions(card.environment),
        f"- licence of the weights: {_text(license or NOT_STATED)}",
    ]


def _protocol_of(protocol: Mapping[str, str]) -> str:
    return f"{protocol['name']} ({protocol['hash']})"


# --- both -----------------------------------------------------------------------------------------


def _head(
    name: str,
    archs: Sequence[Mapping[str, Any]],
    data: Sequence[Mapping[str, Any]],
    scores: Sequence[Score],
    license: str | None,
) -> list[str]:
    """Returns the YAML head of a card; unknown facts are left out."""
    layouts = [spec["layout"] for spec in data if spec.get("layout") in LAYOUTS]
    metrics = dict.fromkeys(metric for score in scores for metric in score.values)
    tags = ["super-resolution", *dict.fromkeys(str(arch["type"]) for arch in archs)]
    results: dict[str, list[dict[str, Any]]] = {}
    for score in scores:
        values = [
            {
                "type": metric,
                "value": value,
                "name": f"{metric.upper()}, {score.protocol}, {score.source}",
            }
            for metric, value in score.values.items()
            if value is not None
        ]
        entry = {
            "task": {"type": "image-to-image", "name": "super-resolution"},
            "dataset": {"type": score.dataset, "name": score.dataset},
            "metrics": values,
        }
        results.setdefault(score.method or name, []).append(entry)
    index = [{"name": title, "results": found} for title, found in results.items()]
    head = {
        "license": license,
        "library_name": "srtoolbox",
        "pipeline_tag": "image-to-image",
        "tags": tags,
        "datasets": layouts,
        "metrics": list(metrics),
        "model-index": index,
    }
    known = {key: value for key, value in head.items() if value}
    text = yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=100)
    return ["---", *text.splitlines(), "---", "", MARK, ""]


def _public(value: Any) -> Any:
    """Returns options with paths of this machine reduced to their last part."""
    if isinstance(value, Mapping):
        return {key: _public(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_public(entry) for entry in value]
    is_path = isinstance(value, str) and PurePath(value).is_absolute()
    return PurePath(value).name if is_path else value


def _code(options: Mapping[str, Any]) -> str:
    """Returns options as code of Markdown."""
    text = json.dumps(_public(options), ensure_ascii=False).replace("`", "'")
    return f"`{text}`"


def _text(value: Any) -> str:
    return escape_markdown(str(value))

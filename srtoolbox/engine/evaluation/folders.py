"""Scores folders of images that any program wrote against their ground truth."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor

from srtoolbox.config.files import as_tree, plain, read
from srtoolbox.config.schema import Component, build, check
from srtoolbox.data.files.reader import read_image
from srtoolbox.data.prepare.examine import counting
from srtoolbox.data.stream import to_float
from srtoolbox.engine.evaluation.evaluator import Record, average
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import ClipMetric, Metric, Protocol, get_protocol
from srtoolbox.registry import METRIC_REGISTRY
from srtoolbox.utils.files import write_atomic

if TYPE_CHECKING:
    from rich.table import Table
from itertools import takewhile

from srtoolbox.data.files.checks import report_faults
from srtoolbox.data.files.find import Fault
from srtoolbox.data.files.image_info import ImageFault, ImageInfo
from srtoolbox.data.files.reader import IMAGE_SUFFIXES, image_info
from srtoolbox.data.files.walk import natural, walk
from srtoolbox.data.layouts.base import Files
from srtoolbox.utils.cpu import map_threads


@dataclass(frozen=True)
class _Section:
    metrics: dict[str, Annotated[dict, Component("metric")]]


class Limit(NamedTuple):
    """A mean that a script asks for."""

    metric: str
    value: float
    below: bool  # whether it fails below the value, or above it

    def failure(self, mean: float) -> str | None:
        """One line if ``mean`` is on the wrong side, or is no number."""
        if mean >= self.value if self.below else mean <= self.value:
            return None
        return f"{self.metric} is {mean:.4f}, {'below' if self.below else 'above'} {self.value:g}"


@dataclass(frozen=True)
class Scores:
    """The scores of a folder.

    Attributes:
        name: Of the folder.
        records: ``{"key", "metrics": {name: value}}`` of each image; a value of a whole clip is in
            the records of all its frames.
        metrics: By name.
        protocol: Under which they were scored.
        scale: Of the super-resolution.
    """

    name: str
    records: list[Record]
    metrics: Mapping[str, Metric | ClipMetric]
    protocol: Protocol
    scale: int

    @property
    def mean(self) -> dict[str, float]:
        """Mean by metric, averaged as the protocol says."""
        return average(self.records, self.protocol.average)

    def by_folder(self) -> dict[str, list[Record]]:
        """The records of each clip; of images without clips, all of them."""
        folders: dict[str, list[Record]] = {}
        for record in self.records:
            clip = record["key"].rpartition("/")[0] or self.name
            folders.setdefault(clip, []).append(record)
        return folders

    def table(self) -> Table:
        """For the terminal: a line for each folder, the mean, and the protocol below."""
        from rich.table import Table

        table = Table(
            title=f"{self.name} (x{self.scale})",
            caption=self.protocol.describe(),
            caption_justify="left",
        )
        table.add_column("folder", overflow="fold")
        table.add_column("images", justify="right")
        for name, metric in self.metrics.items():
            unit = f" [{metric.unit}]" if metric.unit else ""
            arrow = "↑" if metric.higher_is_better else "↓"
            header = f"{name.upper()}{unit} {arrow}".replace("[", r"\[")
            # Cut off, a number is another one: so many columns make the table wider, if need be.
            table.add_column(header, justify="right", min_width=8, overflow="fold")
        folders = self.by_folder()
        for clip, records in folders.items():
            table.add_row(clip, str(len(records)), *self._cells(average(records)))
        if len(folders) > 1:
            table.add_section()
            label = f"mean over {self.protocol.average}"
            table.add_row(label, str(len(self.records)), *self._cells(self.mean))
        return table

    def write_csv(self, path: Path) -> None:
        """A line for each image."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["key", *self.metrics])
        writer.writerows([one["key"], *one["metrics"].values()] for one in self.records)
        write_atomic(path, text.getvalue())

    def write_json(self, path: Path) -> None:
        """Protocol, mean, means of the folders, and images."""
        protocol = self.protocol
        content = {
            "protocol": {"name": protocol.name, "hash": protocol.hash, "text": protocol.describe()},
            "scale": self.scale,
            "mean": self.mean,
            "folders": {clip: average(records) for clip, records in self.by_folder().items()},
            "images": self.records,
        }
        write_atomic(path, json.dumps(content, indent=1) + "\n")

    def require(self, limits: Sequence[Limit]) -> None:
        """Does nothing if the means are as good as asked for.

        Raises:
            RunError: naming those that are not.
        """
        failures = [limit.failure(self.mean[limit.metric]) for limit in limits]
        if any(failures):
            raise RunError("; ".join(filter(None, failures)))

    def _cells(self, means: Mapping[str, float]) -> list[str]:
        return [f"{means[name]:.{max(4, one.digits)}f}" for name, one in self.metrics.items()]


def score_folders(
    sr: Path,
    gt: Path,
    *,
    protocol: str,
    metrics: Sequence[str] = ("psnr", "ssim"),
    scale: int = 4,
    template: str = "{}",
    subset: bool = False,
    limits: Sequence[Limit] = (),
    device: torch.device | None = None,
) -> Scores:
    """Scores the images of a folder.

    Args:
        sr: Folder of the results: images, or a folder of them for each clip; ``{clip}`` in it says
            where the clips are.
        gt: Folder of the ground truth, likewise.
        protocol: Name of the protocol.
        metrics: ``"lpips"``, or with options ``"lpips:net=vgg,fetch=true"``. One of clips takes the
            images of a folder, in natural order, for its frames.
        scale: Of the super-resolution.
        template: Stem of a result from that of its ground truth: ``"{}_x4"``.
        subset: Whether there may be ground truth without a result.
        limits: What ``Scores.require`` will be asked; their metrics must be among ``metrics``.
        device: Where metrics are computed; default the CPU.

    Raises:
        UserError: for every fault of names, files and options.
        RunError: if a metric cannot be computed on this machine.
    """
    rules, chosen = get_protocol(protocol), build_metrics(metrics)
    for limit in limits:
        if limit.metric not in chosen:
            raise UserError(
                f"a limit on '{limit.metric}', which is not scored: {', '.join(chosen)} are"
            )
    for name, metric in chosen.items():
        if reason := metric.available():
            raise RunError(f"{name}: {reason}")
    pairs = pair_files(
        sr, gt, scale=scale, template=template, subset=subset, skip_frames=rules.skip_frames
    )
    scorer = _Scorer(chosen, rules, scale, device or torch.device("cpu"))
    records: list[Record] = []
    total = sum(map(len, pairs.values()))
    with counting("scoring") as progress:
        for clip, some in pairs.items():
            start = len(records)
            for pair in some:
                records.append(scorer.image(pair))
                progress(len(records), total)
            whole = scorer.clip(clip or str(sr), some)
            for record in records[start:]:
                scores = record["metrics"] | whole
                record["metrics"] = {name: scores[name] for name in chosen}
    name = Path(str(sr).partition("{clip}")[0]).resolve().name
    return Scores(name, records, chosen, rules, scale)


def build_metrics(texts: Sequence[str]) -> dict[str, Metric | ClipMetric]:
    """Metrics by what they are called on the command line, ``"psnr"`` or ``"lpips:net=vgg"``.

    Raises:
        UserError: for an unknown metric or option.
    """
    known = {name.lower(): name for name in METRIC_REGISTRY}
    specs = {}
    for text in texts:
        name, _, options = text.partition(":")
        given = plain(read(None, options.split(","))) if options else {}
        specs[text] = {"type": known.get(name.lower(), name), **given}
    section = check(as_tree({"metrics": specs}, "--metrics"), _Section)
    return {text: build("metric", spec) for text, spec in section.metrics.items()}


def read_limit(text: str, below: bool) -> Limit:
    """``"psnr=30"`` as a limit.

    Raises:
        UserError: if it is something else.
    """
    metric, _, value = text.rpartition("=")
    with suppress(ValueError):
        if metric:
            return Limit(metric, float(value), below)
    raise UserError(f"a limit is written METRIC=NUMBER, such as psnr=30; got '{text}'")


class _Scorer:
    """Reads pairs and scores them."""

    def __init__(
        self,
        metrics: Mapping[str, Metric | ClipMetric],
        protocol: Protocol,
        scale: int,
        device: torch.device,
    ) -> None:
        self._of_images = {n: m for n, m in metrics.items() if isinstance(m, Metric)}
        self._of_clips = {n: m for n, m in metrics.items() if isinstance(m, ClipMetric)}
        self._how = {"protocol": protocol, "scale": scale}
        self._device = device

    def image(self, pair: Pair) -> Record:
        """The record of one image, with what can be said of it alone."""
        scores = {}
        if self._of_images:
            sr, gt = self._read(pair)
            with _naming(pair.key):
                scores = {name: one(sr, gt, **self._how) for name, one in self._of_images.items()}
        return {"key": pair.key, "metrics": scores}

    def clip(self, name: str, pairs: Sequence[Pair]) -> dict[str, float]:
        """The scores of a whole clip."""
        if not self._of_clips:
            return {}
        if pairs[-1].position - pairs[0].position != len(pairs) - 1:
            raise UserError(
                f"{name}: {', '.join(self._of_clips)} compare neighbouring frames, but some "
                f"between {pairs[0].key} and {pairs[-1].key} have no result"
            )
        with _naming(name):
            scores = {}
            for metric, one in self._of_clips.items():
                sr, gt = tee(map(self._read, pairs))
                truths = (truth for _, truth in gt)
                scores[metric] = one((result for result, _ in sr), truths, **self._how)
            return scores

    def _read(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Result and truth (C, H, W), the truth cut to the result's size."""
        sr, gt = (
            to_float(torch.from_numpy(np.array(read_image(path), order="C")).to(self._device))
            for path in (pair.sr, pair.gt)
        )
        return sr, gt[:, : sr.shape[1], : sr.shape[2]]


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Says which image or clip an error is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


_Side = dict[str, dict[str, Path]]  # files by clip and frame; images by themselves in clip ""


class Pair(NamedTuple):
    """A result and its ground truth.

    Attributes:
        key: Stem of the ground truth, of clips as ``clip/frame``.
        position: Of the frame among the clip's ground truth.
        sr: File of the result.
        gt: File of the ground truth.
    """

    key: str
    position: int
    sr: Path
    gt: Path


def pair_files(
    sr: Path,
    gt: Path,
    *,
    scale: int = 4,
    template: str = "{}",
    subset: bool = False,
    skip_frames: int = 0,
) -> dict[str, list[Pair]]:
    """The pairs of two folders in natural order, by clip; images that lie in no clip are in "".

    A folder holds images, or else a sub-folder for each clip; ``{clip}`` in it says where those
    are: ``Vid4/{clip}/GT``.

    Args:
        sr: Folder of the results.
        gt: Folder of the ground truth.
        scale: Of the results; the ground truth may be larger by less.
        template: Stem of a result from that of its ground truth: ``"{}_x4"``.
        subset: Whether there may be ground truth without a result.
        skip_frames: Frames at each end of a clip that need no result and are not paired.

    Raises:
        UserError: with every fault, one a line.
    """
    if "{}" not in template:
        raise UserError(
            f"template '{template}' must hold {{}}, the place of the ground truth's stem"
        )
    faults: list[Fault] = []
    truths, results = _collect(gt, "{}", faults), _collect(sr, template, faults)
    if not (truths and results):
        raise UserError(report_faults(faults, f"{sr} for {gt}", limit=len(faults)))
    if ("" in truths) != ("" in results):
        flat, deep = (gt, sr) if "" in truths else (sr, gt)
        raise UserError(
            f"{flat} holds images, {deep} a folder for each clip; give two of a kind, or say with "
            "{clip} where the clips are, as in DIR/{clip}/GT"
        )
    pairs: dict[str, list[Pair]] = {}
    for clip in sorted({*truths, *results}, key=natural):
        truth, result = truths.get(clip, {}), results.get(clip, {})
        frames = sorted(truth, key=natural)
        skip = skip_frames if clip else 0
        wanted = range(skip, len(frames) - skip)
        faults += _strangers(truth, result, gt)
        if not subset:
            faults += _lacking(clip, [frames[i] for i in wanted], truth, result, template)
        pairs[clip] = [
            Pair(
                f"{clip}/{frames[i]}" if clip else frames[i], i, result[frames[i]], truth[frames[i]]
            )
            for i in wanted
            if frames[i] in result
        ]
    faults += _check([pair for some in pairs.values() for pair in some], scale)
    if faults:
        raise UserError(report_faults(faults, f"{sr} for {gt}", limit=len(faults)))
    return {clip: some for clip, some in pairs.items() if some}


def _collect(folder: Path, template: str, faults: list[Fault]) -> _Side:
    """The images of one side."""
    root = Path(*takewhile(lambda part: "{clip}" not in part, folder.parts))
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    below = folder.relative_to(root).as_posix()
    if below == ".":
        flat = any(file.suffix.lower() in IMAGE_SUFFIXES for file in root.iterdir())
        below = "" if flat else "{clip}"
    files = Files(below, template.replace("{}", "{frame}"))
    side: _Side = {}
    for found in walk(files, root, 1, faults):
        clip = found.key if below else ""
        path = Path(found.path)
        other = side.setdefault(clip, {}).setdefault(found.frame, path)
        if other != path:
            text = f"stands for the same image as {other.name}; remove one of them"
            faults.append(Fault(path, "duplicate stem", text))
    if not side:
        named = "" if template == "{}" else f" named {template}"
        text = f"no images{named} here, nor in its folders; {{clip}} says where clips are"
        faults.append(Fault(folder, "no files", text))
    return side


def _strangers(truth: dict[str, Path], result: dict[str, Path], gt: Path) -> list[Fault]:
    return [
        Fault(path, "missing partner", f"has no ground truth '{frame}' in {gt}")
        for frame, path in sorted(result.items())
        if frame not in truth
    ]


def _lacking(
    clip: str,
    wanted: list[str],
    truth: dict[str, Path],
    result: dict[str, Path],
    template: str,
) -> list[Fault]:
    if clip and wanted and not result:
        text = f"clip '{clip}' has no result; --subset scores what there is"
        return [Fault(truth[wanted[0]].parent, "missing partner", text)]
    return [
        Fault(
            truth[frame],
            "missing partner",
            f"has no result '{template.replace('{}', frame)}'; --subset scores what there is",
        )
        for frame in wanted
        if frame not in result
    ]


def _check(pairs: Sequence[Pair], scale: int) -> list[Fault]:
    """What is wrong with the files themselves, by their headers."""
    infos = map_threads(_examine, [path for pair in pairs for path in (pair.sr, pair.gt)])
    faults = []
    for pair, sr, gt in zip(pairs, infos, infos, strict=True):
        unreadable = [one for one in (sr, gt) if isinstance(one, Fault)]
        if unreadable:
            faults += unreadable
        elif sr.channels == 1 and gt.channels == 3:
            faults.append(Fault(pair.sr, "wrong channels", f"is grey, but {pair.gt} is RGB"))
        elif not all(0 <= b - a < scale for a, b in zip(sr[1:3], gt[1:3], strict=True)):
            text = (
                f"is {sr.width}×{sr.height}, but {pair.gt} is {gt.width}×{gt.height} (it may be "
                f"larger by less than the scale, {scale})"
            )
            faults.append(Fault(pair.sr, "wrong size", text))
    return faults


def _examine(path: Path) -> ImageInfo | Fault:
    try:
        return image_info(path)
    except ImageFault as fault:
        return Fault(path, fault.kind, str(fault).removeprefix(f"{path}: "))
    except OSError as error:
        return Fault(path, "unreadable", f"cannot be read ({error.strerror})")

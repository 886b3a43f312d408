"""Scores folders of result images of any program against their ground truth."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile, tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor

from srtoolbox.config.files import as_tree, plain, read
from srtoolbox.config.schema import Component, check
from srtoolbox.data.files.checks import examine_file, report_faults
from srtoolbox.data.files.find import Fault
from srtoolbox.data.files.image_info import ImageInfo, ReadOptions
from srtoolbox.data.files.levels import Levels, check_levels_of_pairs
from srtoolbox.data.files.reader import IMAGE_SUFFIXES, image_info, read_image
from srtoolbox.data.files.walk import LeftOut, composed, name_template, natural, walk
from srtoolbox.data.stream import to_float
from srtoolbox.engine.evaluation.evaluator import Record, average, clip_of
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import ClipMetric, Metric, Protocol, build_metric, get_protocol
from srtoolbox.registry import METRIC_REGISTRY
from srtoolbox.utils.console import printable, progress_bar
from srtoolbox.utils.cpu import map_threads
from srtoolbox.utils.files import write_atomic
from srtoolbox.utils.portable import csv_text, to_json

if TYPE_CHECKING:
    from rich.table import Table

_log = logging.getLogger("srtoolbox")


@dataclass(frozen=True)
class _Options:
    metrics: dict[str, Annotated[dict, Component("metric")]]


class Limit(NamedTuple):
    """A limit on a mean score.

    Attributes:
        metric: Name of the metric.
        value: The limit.
        below: Whether a mean below the limit is a failure; otherwise a mean above it.
    """

    metric: str
    value: float
    below: bool

    def failure(self, mean: float) -> str | None:
        """Returns a message if ``mean`` is beyond the limit, or NaN; otherwise None."""
        if mean >= self.value if self.below else mean <= self.value:
            return None
        return f"{self.metric} is {mean:.4f}, {'below' if self.below else 'above'} {self.value:g}"


@dataclass(frozen=True)
class Scores:
    """The scores of a folder.

    Attributes:
        name: Name of the folder.
        records: ``{"key", "metrics": {name: value}}`` of each image. The value of a clip metric is
            in the records of all frames of the clip.
        metrics: The metrics by name.
        protocol: The protocol.
        scale: Super-resolution factor.
        levels: White and black level of uint16 files.
        notes: Sentences about the comparison: images that were cropped, options without effect.
    """

    name: str
    records: list[Record]
    metrics: Mapping[str, Metric | ClipMetric]
    protocol: Protocol
    scale: int
    levels: Levels = field(default_factory=Levels)
    notes: Sequence[str] = ()

    @property
    def mean(self) -> dict[str, float]:
        """Mean by metric, over images or over clips as the protocol defines."""
        return self._means(self.records, self.protocol.average)

    def by_folder(self) -> dict[str, list[Record]]:
        """Returns the records of each clip; images without clips are one entry."""
        folders: dict[str, list[Record]] = {}
        for record in self.records:
            folders.setdefault(clip_of(record["key"]) or self.name, []).append(record)
        return folders

    def table(self) -> Table:
        """Returns a table for the terminal: a row per folder, the mean, and the protocol."""
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=Text(printable(f"{self.name} (x{self.scale})")),
            caption=Text(printable(self.protocol.describe() + self._levels_text())),
            caption_justify="left",
        )
        table.add_column("folder", overflow="fold")
        table.add_column("images", justify="right")
        for name, metric in self.metrics.items():
            unit = f" [{metric.unit}]" if metric.unit else ""
            arrow = "↑" if metric.higher_is_better else "↓"
            header = Text(printable(f"{name.upper()}{unit} {arrow}"))
            # A truncated number would be wrong, so many columns make the table wider instead.
            table.add_column(header, justify="right", min_width=8, overflow="fold")
        folders = self.by_folder()
        for clip, records in folders.items():
            table.add_row(
                Text(printable(clip)), str(len(records)), *self._cells(self._means(records))
            )
        if len(folders) > 1:
            table.add_section()
            label = f"mean over {self.protocol.average}"
            table.add_row(label, str(len(self.records)), *self._cells(self.mean))
        return table

    def write_csv(self, path: Path) -> None:
        """Writes a row per image."""
        lines = [[record["key"], *record["metrics"].values()] for record in self.records]
        write_atomic(path, csv_text([["key", *self.metrics], *lines]))

    def write_json(self, path: Path) -> None:
        """Writes protocol, mean, means of the folders, and the scores of each image."""
        protocol, levels = self.protocol, {}
        if self.levels.changed:
            levels = {"white_level": self.levels.white, "black_level": self.levels.black}
        content = {
            "protocol": {"name": protocol.name, "hash": protocol.hash, "text": protocol.describe()},
            "scale": self.scale,
            **levels,
            "mean": self.mean,
            "folders": {clip: self._means(records) for clip, records in self.by_folder().items()},
            "images": self.records,
        }
        write_atomic(path, to_json(content, indent=1) + "\n")

    def require(self, limits: Sequence[Limit]) -> None:
        """Checks the means.

        Raises:
            RunError: with a message about each mean that is beyond its limit.
        """
        failures = [limit.failure(self.mean[limit.metric]) for limit in limits]
        if any(failures):
            raise RunError("; ".join(filter(None, failures)))

    @property
    def lower_is_better(self) -> list[str]:
        """Names of the metrics whose lower values are better."""
        return [name for name, metric in self.metrics.items() if not metric.higher_is_better]

    def _means(self, records: Sequence[Record], over: str = "images") -> dict[str, float]:
        means = average(records, over, self.lower_is_better)
        return {name: value for name, value in means.items() if value is not None}  # none missing

    def _levels_text(self) -> str:
        if not self.levels.changed:
            return ""
        return f" uint16 files: white level {self.levels.white}, black level {self.levels.black}."

    def _cells(self, means: Mapping[str, float]) -> list[str]:
        return [f"{means[name]:.{max(4, metric.digits)}f}" for name, metric in self.metrics.items()]


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
    white_level: int | None = None,
    black_level: int = 0,
    convert: bool = False,
) -> Scores:
    """Scores the images of a folder; see ``pair_files`` for its structure.

    Args:
        sr: Folder of the results.
        gt: Folder of the ground truth.
        protocol: Name of the protocol.
        metrics: Metrics as ``build_metrics`` reads them. The frames of a clip metric are the images
            of a folder in natural order.
        scale: Super-resolution factor.
        template: Stem of a result, made from that of its ground truth: ``"{}_x4"``.
        subset: Whether ground truth without a result is allowed.
        limits: Limits that ``Scores.require`` will check; their metrics must be among ``metrics``.
        device: Device of the metrics; default: the CPU.
        white_level: Value of uint16 files that becomes 1, of results and ground truth; None: 65535.
        black_level: Value of uint16 files that becomes 0.
        convert: As of ``read_image``.

    Raises:
        UserError: for faulty names, files or options.
        RunError: if a metric is not available on this machine.
    """
    rules, built = get_protocol(protocol), build_metrics(metrics)
    levels = Levels(white_level, black_level)
    for limit in limits:
        if limit.metric not in built:
            raise UserError(
                f"a limit is set on '{limit.metric}', but the metrics are {', '.join(built)}"
            )
    for name, metric in built.items():
        if reason := metric.available():
            raise RunError(f"{name}: {reason}")
    clips = pair_files(
        sr,
        gt,
        scale=scale,
        template=template,
        subset=subset,
        skip_frames=rules.skip_frames,
        convert=convert,
    )
    read = partial(read_image, options=ReadOptions(convert=convert))
    all_pairs = [pair for pairs in clips.values() for pair in pairs]
    results, truths = [pair.sr for pair in all_pairs], [pair.gt for pair in all_pairs]
    names = str(sr), str(gt)
    if not levels.changed and (warning := check_levels_of_pairs(results, truths, read, names)):
        _log.warning("%s", warning)
    infos = _infos(all_pairs, convert)
    notes = _cropped(all_pairs, infos)
    if levels.changed and all(info.dtype != "uint16" for both in infos for info in both):
        given = {"white": white_level is not None, "black": black_level != 0}
        unused = " and ".join(level for level, is_given in given.items() if is_given)
        notes.append(f"no uint16 files: {unused} level not used")
        levels = Levels()
    image_metrics = {name: m for name, m in built.items() if isinstance(m, Metric)}
    clip_metrics = {name: m for name, m in built.items() if isinstance(m, ClipMetric)}
    if clip_metrics and "" in clips:
        notes.append(
            f"{', '.join(clip_metrics)}: the {len(all_pairs)} images of {sr.name or sr} were "
            "scored as the frames of one clip; if they are several clips, give a folder with a "
            "sub-folder for each clip"
        )
    load = partial(_load, device=device or torch.device("cpu"), read=read, levels=levels)
    records: list[Record] = []
    total = len(all_pairs)
    with progress_bar("scoring") as progress:
        for clip, pairs in clips.items():
            scores: dict[str, float] = {}
            if clip_metrics:
                _check_neighbours(clip or str(sr), pairs, clip_metrics)
            for name, metric in clip_metrics.items():
                first, second = tee(map(load, pairs))  # few frames are in memory at a time
                frames = (result for result, _ in first), (truth for _, truth in second)
                with _naming(clip or str(sr)):
                    scores[name] = metric(*frames, protocol=rules, scale=scale)
            for pair in pairs:
                image = load(pair) if image_metrics else ()
                with _naming(pair.key):
                    for name, metric in image_metrics.items():
                        scores[name] = metric(*image, protocol=rules, scale=scale)
                records.append({"key": pair.key, "metrics": {name: scores[name] for name in built}})
                progress(len(records), total)
    name = Path(str(sr).partition("{clip}")[0]).resolve().name
    return Scores(name, records, built, rules, scale, levels, notes)


def _infos(pairs: Sequence[Pair], convert: bool) -> list[tuple[ImageInfo, ImageInfo]]:
    """Returns the forms of the files of checked pairs."""
    paths = [path for pair in pairs for path in (pair.sr, pair.gt)]
    infos = list(map_threads(partial(image_info, options=ReadOptions(convert=convert)), paths))
    return list(zip(infos[::2], infos[1::2], strict=True))


def _cropped(pairs: Sequence[Pair], infos: Sequence[tuple[ImageInfo, ImageInfo]]) -> list[str]:
    """Returns a note if ground truth is larger than its result, and so was cropped."""
    cropped = [
        f"{pair.key} ({gt.width}×{gt.height} to {sr.width}×{sr.height})"
        for pair, (sr, gt) in zip(pairs, infos, strict=True)
        if gt.size != sr.size
    ]
    if not cropped:
        return []
    names = ", ".join(cropped[:3]) + (", …" if len(cropped) > 3 else "")
    return [
        f"{len(cropped)} of {len(pairs)} ground truth images are larger than the results by less "
        f"than the scale; they were cropped at the right and lower edge: {names}"
    ]


def build_metrics(texts: Sequence[str]) -> dict[str, Metric | ClipMetric]:
    """Builds metrics from texts of the command line: ``"psnr"``, ``"lpips:net=vgg,fetch=true"``.

    Raises:
        UserError: for an unknown metric or option.
    """
    known = {name.lower(): name for name in METRIC_REGISTRY}
    specs = {}
    for text in texts:
        name, _, options = text.partition(":")
        given = plain(read(None, options.split(","))) if options else {}
        specs[text] = {"type": known.get(name.lower(), name), **given}
    checked = check(as_tree({"metrics": specs}, "--metrics"), _Options)
    return {text: build_metric(spec) for text, spec in checked.metrics.items()}


def read_limit(text: str, below: bool) -> Limit:
    """Reads a limit such as ``"psnr=30"``.

    Raises:
        UserError: for any other text.
    """
    metric, _, value = text.rpartition("=")
    with suppress(ValueError):
        if metric and not math.isnan(limit := float(value)):
            return Limit(metric, limit, below)
    raise UserError(f"a limit is written METRIC=NUMBER, such as psnr=30; got '{text}'")


def _check_neighbours(clip: str, pairs: Sequence[Pair], metrics: Iterable[str]) -> None:
    """Checks that every frame between the first and the last pair has a result.

    Raises:
        UserError: if one has none.
    """
    if pairs[-1].position - pairs[0].position != len(pairs) - 1:
        raise UserError(
            f"{clip}: {', '.join(metrics)} compare neighbouring frames, but some between "
            f"{pairs[0].key} and {pairs[-1].key} have no result"
        )


def _load(
    pair: Pair, device: torch.device, read: Callable[[Path], np.ndarray], levels: Levels
) -> tuple[Tensor, Tensor]:
    """Returns result and ground truth (C, H, W), the latter cropped to the result's size."""
    sr, gt = (
        to_float(torch.from_numpy(np.array(levels.apply(read(path)), order="C")).to(device))
        for path in (pair.sr, pair.gt)
    )
    return sr, gt[:, : sr.shape[1], : sr.shape[2]]


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Adds the name of an image or clip to errors."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


class Pair(NamedTuple):
    """A result and its ground truth.

    Attributes:
        key: Stem of the ground truth; in clips ``clip/frame``.
        position: Index of the frame in the clip's ground truth.
        sr: File of the result.
        gt: File of the ground truth.
    """

    key: str
    position: int
    sr: Path
    gt: Path


_Side = dict[str, dict[str, Path]]  # files by clip and frame; images without clips in clip ""


def pair_files(
    sr: Path,
    gt: Path,
    *,
    scale: int = 4,
    template: str = "{}",
    subset: bool = False,
    skip_frames: int = 0,
    convert: bool = False,
) -> dict[str, list[Pair]]:
    """Returns the pairs of two folders by clip, in natural order; images without clips in "".

    A folder has either images, or a sub-folder with images for each clip. ``{clip}`` in its path
    stands for the name of a clip where it is not the last part: ``Vid4/{clip}/GT``.

    Args:
        sr: Folder of the results.
        gt: Folder of the ground truth.
        scale: Super-resolution factor; the ground truth may be larger than the result by less.
        template: Stem of a result, made from that of its ground truth: ``"{}_x4"``.
        subset: Whether ground truth without a result is allowed.
        skip_frames: Frames at each end of a clip that are not scored.
        convert: As of ``read_image``.

    Raises:
        UserError: with all faults, one per line.
    """
    name_template(template, "{frame}", "template")
    faults: list[Fault] = []
    truths, results = _collect(gt, "{}", faults), _collect(sr, template, faults)
    if not (truths and results):
        raise UserError(report_faults(faults, f"{sr} for {gt}", limit=len(faults)))
    if ("" in truths) != ("" in results):
        flat, deep = (gt, sr) if "" in truths else (sr, gt)
        raise UserError(
            f"{flat} has images, but {deep} has a folder for each clip; give two folders with the "
            "same structure, or write {clip} where the names of clips are, as in DIR/{clip}/GT"
        )
    clips: dict[str, list[Pair]] = {}
    for clip in sorted({*truths, *results}, key=natural):
        truth, result = truths.get(clip, {}), results.get(clip, {})
        frames = sorted(truth, key=natural)
        skip = skip_frames if clip else 0
        wanted = range(skip, len(frames) - skip)
        faults += [
            Fault(path, "missing partner", f"has no ground truth '{frame}' in {gt}")
            for frame, path in sorted(result.items())
            if frame not in truth
        ]
        missing = [frames[i] for i in wanted if frames[i] not in result and not subset]
        hint = "--subset scores the existing results"
        if clip and missing and not result:
            text = f"clip '{clip}' has no result; {hint}"
            faults.append(Fault(truth[missing[0]].parent, "missing partner", text))
            missing = []
        for frame in missing:
            text = f"has no result '{template.replace('{}', frame)}'; {hint}"
            faults.append(Fault(truth[frame], "missing partner", text))
        prefix = f"{clip}/" if clip else ""
        clips[clip] = [
            Pair(prefix + frames[i], i, result[frames[i]], truth[frames[i]])
            for i in wanted
            if frames[i] in result
        ]
    faults += _check([pair for pairs in clips.values() for pair in pairs], scale, convert)
    if faults:
        raise UserError(report_faults(faults, f"{sr} for {gt}", limit=len(faults)))
    return {clip: pairs for clip, pairs in clips.items() if pairs}


def _collect(folder: Path, template: str, faults: list[Fault]) -> _Side:
    """Returns the images of a folder; adds faults."""
    root = Path(*takewhile(lambda part: "{clip}" not in part, folder.parts))
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    below = folder.relative_to(root).as_posix()
    if below == ".":
        flat = any(file.suffix.lower() in IMAGE_SUFFIXES for file in root.iterdir())
        below = "" if flat else "{clip}"
    name = name_template(template, "{frame}", "template")
    side: _Side = {}
    left_out = LeftOut()
    for found in walk(f"{below}/{name}" if below else name, root, 1, faults, left_out=left_out):
        clip = composed(found.key) if below else ""
        path = Path(found.path)
        other = side.setdefault(clip, {}).setdefault(composed(found.frame), path)
        if other != path:
            text = f"has the same stem as {other.name}; remove one of them"
            faults.append(Fault(path, "duplicate stem", text))
    if not side:
        named = "" if template == "{}" else f" named {template}"
        if below == "{clip}":  # files beside the folders of clips
            list(walk(name, root, 1, [], left_out=left_out))
        text = f"no images{named} here or in its folders{left_out.clause()}"
        text += "; write {clip} where clips' names are"
        faults.append(Fault(folder, "no files", text))
    elif text := left_out.describe():
        _log.warning("%s: left out: %s", folder, text)
    return side


def _check(pairs: Sequence[Pair], scale: int, convert: bool) -> list[Fault]:
    """Returns the faults of the files themselves, read from their headers."""
    infos = map_threads(
        partial(examine_file, options=ReadOptions(convert=convert)),
        [path for pair in pairs for path in (pair.sr, pair.gt)],
    )
    faults: list[Fault] = []
    for pair, sr, gt in zip(pairs, infos, infos, strict=True):
        if isinstance(sr, Fault) or isinstance(gt, Fault):
            faults += [info for info in (sr, gt) if isinstance(info, Fault)]
        elif sr.channels == 1 and gt.channels == 3:
            faults.append(Fault(pair.sr, "wrong channels", f"is grey, but {pair.gt} is RGB"))
        elif not (0 <= gt.width - sr.width < scale and 0 <= gt.height - sr.height < scale):
            text = (
                f"is {sr.width}×{sr.height}, but {pair.gt} is {gt.width}×{gt.height} (it may be "
                f"larger by less than the scale, {scale})"
            )
            faults.append(Fault(pair.sr, "wrong size", text))
    return faults

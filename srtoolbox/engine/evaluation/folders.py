"""Scores folders of result images of any program, with and without their ground truth."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, tee
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from srtoolbox.config.files import as_tree, plain, read
from srtoolbox.config.schema import Component, check
from srtoolbox.data.files.image_info import ImageInfo, ReadOptions
from srtoolbox.data.files.levels import Levels, check_levels_of_pairs
from srtoolbox.data.files.reader import MASK_OPTIONS, as_mask, image_info, read_image
from srtoolbox.data.stream import to_float
from srtoolbox.engine.evaluation.pairs import Bands, Pair, pair_files
from srtoolbox.engine.evaluation.records import Record, average, clip_of
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import (
    AnyMetric,
    ClipMetric,
    Protocol,
    build_metric,
    get_protocol,
)
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
        levels: White and black level of 16-bit files.
        notes: Sentences about the comparison: images that were cropped, options without effect.
        options: Options of bands, missing pixels and masks that were given, for files.
        sources: The weights that metrics use: ``text`` and ``content`` hash by metric.
    """

    name: str
    records: list[Record]
    metrics: Mapping[str, AnyMetric]
    protocol: Protocol
    scale: int
    levels: Levels = field(default_factory=Levels)
    notes: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, dict[str, str]] = field(default_factory=dict)

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
            kind = f" ({metric.kind})" if metric.kind else ""
            unit = f" [{metric.unit}]" if metric.unit else ""
            arrow = "↑" if metric.higher_is_better else "↓"
            header = Text(printable(f"{name.upper()}{kind}{unit} {arrow}"))
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
        if self.levels.scale_floats:
            levels["scale_floats"] = True
        content = {
            "protocol": {"name": protocol.name, "hash": protocol.hash, "text": protocol.describe()},
            "scale": self.scale,
            **levels,
            **self.options,
            **({"sources": self.sources} if self.sources else {}),
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
        given = dict(self.options)
        texts = []
        if given.get("nodata") == "file":
            del given["nodata"]
            texts = ["pixels with the nodata value that they state are not scored"]
        texts = [f"{name} {_shown(value)}" for name, value in given.items()] + texts
        options = f" Files: {', '.join(texts)}." if texts else ""
        if not self.levels.changed:
            return options
        files = "16-bit and float" if self.levels.scale_floats else "16-bit"
        white, black = _shown(self.levels.white), _shown(self.levels.black)
        return f"{options} {files} files: white level {white}, black level {black}."

    def _cells(self, means: Mapping[str, float]) -> list[str]:
        return [f"{means[name]:.{max(4, metric.digits)}f}" for name, metric in self.metrics.items()]


def score_folders(
    sr: Path,
    gt: Path | None = None,
    *,
    protocol: str,
    metrics: Sequence[str] = ("psnr", "ssim"),
    scale: int = 4,
    template: str = "{}",
    subset: bool = False,
    limits: Sequence[Limit] = (),
    device: torch.device | None = None,
    white_level: float | Sequence[float] | None = None,
    black_level: float | Sequence[float] = 0,
    scale_floats: bool = False,
    convert: bool = False,
    bands: Sequence[int] | None = None,
    bands_gt: Sequence[int] | None = None,
    nodata: float | None = None,
    mask: Path | None = None,
) -> Scores:
    """Scores the images of a folder; see ``pair_files`` for its structure.

    Pixels that are missing in the ground truth, and those that a mask leaves out, are not scored.
    Without a ground truth the same is true of pixels that are missing in the results.

    Args:
        sr: Folder of the results.
        gt: Folder of the ground truth; None: there is none, for metrics that do not need it.
        protocol: Name of the protocol.
        metrics: Metrics as ``build_metrics`` reads them. The frames of a clip metric are the images
            of a folder in natural order.
        scale: Super-resolution factor.
        template: Stem of a result, made from that of its ground truth: ``"{}_x4"``.
        subset: Whether ground truth without a result is allowed.
        limits: Limits that ``Scores.require`` will check; their metrics must be among ``metrics``.
        device: Device of the metrics; default: the CPU.
        white_level: Value of 16-bit files that becomes 1, of results and ground truth, or a list
            with a value for each band; None: the largest value of the type.
        black_level: Value of 16-bit files that becomes 0, or a list.
        scale_floats: Whether the levels also apply to floats.
        convert: As of ``ReadOptions``.
        bands: Numbers from 1 of the bands of results and ground truth to read, in this order; None:
            all. Protocols of bands score any number, others grey and RGB.
        bands_gt: Those of the ground truth; None: as ``bands``.
        nodata: Value of missing pixels of the ground truth (without one, of the results); None: the
            value that GeoTIFF files state. Missing pixels of a result are those of the value that
            its own file states, and NaN; they are filled from their neighbours.
        mask: Folder of masks, which have the names of the ground truth; a pixel counts where a mask
            is not 0. None: there are none.

    Raises:
        UserError: for faulty names, files or options, or a metric that needs a ground truth without
            one.
        RunError: if a metric is not available on this machine, or a mask leaves nothing to score.
    """
    rules, built = get_protocol(protocol), build_metrics(metrics)
    levels = Levels(white_level, black_level, scale_floats)
    for limit in limits:
        if limit.metric not in built:
            raise UserError(
                f"a limit is set on '{limit.metric}', but the metrics are {', '.join(built)}"
            )
    if gt is None:
        given = {"template": template != "{}", "subset": subset, "bands_gt": bands_gt is not None}
        _check_alone(sr, built, [option for option, is_given in given.items() if is_given])
        gt = sr  # every image is its own partner
    chosen = Bands(bands, bands_gt, any_number=rules.color == "bands")
    shared = ReadOptions(convert=convert, any_range=levels.changed)
    clips = pair_files(
        sr,
        gt,
        scale=scale,
        template=template,
        subset=subset,
        skip_frames=rules.skip_frames,
        shared=shared,
        bands=chosen,
        mask=mask,
    )
    all_pairs = [pair for pairs in clips.values() for pair in pairs]
    results, truths = [pair.sr for pair in all_pairs], [pair.gt for pair in all_pairs]
    options = chosen.options(shared, results, truths)
    infos = _infos(all_pairs, options)
    for name, metric in built.items():
        if reason := metric.unsuited(infos[0][1].channels, rules):
            raise UserError(f"{gt}: {name}: {reason}")
    for name, metric in built.items():
        if reason := metric.available():
            raise RunError(f"{name}: {reason}")
    sources = {name: source for name, metric in built.items() if (source := metric.source())}
    names = str(sr), str(gt)
    if not levels.changed and (warning := _check_levels(results, truths, options, names)):
        _log.warning("%s", warning)
    notes = _cropped(all_pairs, infos)
    types = [{info.dtype for info in side} for side in zip(*infos, strict=True)]
    used = {"uint16", "int16", *(["float32"] if scale_floats else [])}
    if levels.changed and not any(side & used for side in types):
        given = {"white": white_level is not None, "black": black_level != 0}
        unused = " and ".join(level for level, is_given in given.items() if is_given)
        floats = any("float32" in side for side in types)
        advice = "; --scale-floats applies it to float files" if floats else ""
        notes.append(f"no 16-bit files: {unused or 'white'} level not used{advice}")
        levels = Levels()
    missing: float | Literal["file"] | None = nodata
    if nodata is None and any(truth.nodata is not None for _, truth in infos):
        missing = "file"
    # Floats to which no level applies must be in [0, 1].
    wide = [levels.changed and (scale_floats or "float32" not in found) for found in types]
    # A result of an ordinary file may have the value of missing pixels anywhere.
    of_results = replace(options[0], nodata=None if missing is None else "file", any_range=wide[0])
    of_truths = replace(options[1], nodata=missing, any_range=wide[1])
    loader = _Loader(device or torch.device("cpu"), levels, of_results, of_truths, gt != sr)
    image_metrics = {name: m for name, m in built.items() if not isinstance(m, ClipMetric)}
    clip_metrics = {name: m for name, m in built.items() if isinstance(m, ClipMetric)}
    if clip_metrics and "" in clips:
        notes.append(
            f"{', '.join(clip_metrics)}: the {len(all_pairs)} images of {sr.name or sr} were "
            "scored as the frames of one clip; if they are several clips, give a folder with a "
            "sub-folder for each clip"
        )
    masked = missing is not None or mask is not None
    records: list[Record] = []
    total = len(all_pairs)
    with progress_bar("scoring") as progress:
        for clip, pairs in clips.items():
            scores: dict[str, float] = {}
            if clip_metrics:
                _check_neighbours(clip or str(sr), pairs, clip_metrics)
            for name, metric in clip_metrics.items():
                parts = tee(map(loader, pairs), 3)  # few frames are in memory at a time
                frames = [map(itemgetter(i), part) for i, part in enumerate(parts)]
                with _naming(clip or str(sr)):
                    scores[name] = metric(
                        *frames[:2],
                        protocol=rules,
                        scale=scale,
                        mask=frames[2] if masked else None,
                        key=clip,
                    )
            for pair in pairs:
                if image_metrics:
                    result, truth, valid = loader(pair)
                    rest = {"protocol": rules, "scale": scale, "mask": valid, "key": pair.key}
                    with _naming(pair.key):
                        for name, metric in image_metrics.items():
                            scores[name] = metric(result, truth, **rest)
                records.append({"key": pair.key, "metrics": {name: scores[name] for name in built}})
                progress(len(records), total)
    files = {"bands": bands, "bands_gt": bands_gt, "nodata": missing, "mask": mask and str(mask)}
    return Scores(
        Path(str(sr).partition("{clip}")[0]).resolve().name,
        records,
        built,
        rules,
        scale,
        levels,
        notes + loader.notes() + [f"{name} uses {s['text']}" for name, s in sources.items()],
        {name: value for name, value in files.items() if value is not None},
        sources,
    )


def _check_alone(sr: Path, metrics: Mapping[str, AnyMetric], options: Sequence[str]) -> None:
    """Checks that results can be scored without a ground truth.

    Raises:
        UserError: if a metric or an option that was given needs it.
    """
    if names := [name for name, metric in metrics.items() if metric.needs_gt]:
        raise UserError(
            f"{sr}: {', '.join(names)} {'needs' if len(names) == 1 else 'need'} the ground truth: "
            "give its folder too, or choose metrics that need none, such as niqe"
        )
    if options:
        raise UserError(f"{', '.join(options)}: for a ground truth, but its folder is not given")


def _infos(
    pairs: Sequence[Pair], options: tuple[ReadOptions, ReadOptions]
) -> list[tuple[ImageInfo, ImageInfo]]:
    """Returns the forms of the files of checked pairs."""
    of_results, of_truths = options
    results = map_threads(partial(image_info, options=of_results), [pair.sr for pair in pairs])
    truths = map_threads(partial(image_info, options=of_truths), [pair.gt for pair in pairs])
    return list(zip(results, truths, strict=True))


def _check_levels(
    results: Sequence[Path],
    truths: Sequence[Path],
    options: tuple[ReadOptions, ReadOptions],
    names: tuple[str, str],
) -> str | None:
    """Returns a warning if results or ground truth are dark; see ``check_levels_of_pairs``."""
    ways = {**dict.fromkeys(truths, options[1]), **dict.fromkeys(results, options[0])}
    common = options[0]
    if options[1] != common:  # any band shows the type of a file
        common = ReadOptions(convert=common.convert, bands=(1,), any_range=True)
    read = partial(_read_by, ways)
    return check_levels_of_pairs(results, truths, read, names, common)


def _read_by(ways: Mapping[Path, ReadOptions], path: Path) -> np.ndarray:
    return read_image(path, ways[path])


def _shown(value: Any) -> str:
    """Returns an option's value for tables; a list in brackets."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return f"[{', '.join(map(str, value))}]" if is_list else str(value)


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


def build_metrics(texts: Sequence[str]) -> dict[str, AnyMetric]:
    """Builds metrics from texts of the command line, see ``metric_specs``.

    Raises:
        UserError: for an unknown metric or option.
    """
    checked = check(as_tree({"metrics": metric_specs(texts)}, "--metrics"), _Options)
    return {text: build_metric(spec) for text, spec in checked.metrics.items()}


def metric_specs(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Reads metrics from texts of the command line; returns type and options by the metric's text.

    A text is one metric or several, separated by commas: ``"psnr,ssim"``. Options follow a colon:
    ``"lpips:net=vgg,fetch=true"``. The first of them may be the metric's ``name`` alone:
    ``"pyiqa:musiq"``.

    Raises:
        UserError: for faulty options.
    """
    known = {name.lower(): name for name in METRIC_REGISTRY}
    specs = {}
    for text in chain.from_iterable(map(_split_metrics, texts)):
        name, _, rest = text.partition(":")
        options = _COMMA.split(rest) if rest else []
        if options and "=" not in options[0]:
            options[0] = f"name={options[0]}"
        given = plain(read(None, options)) if options else {}
        specs[text] = {"type": known.get(name.lower(), name), **given}
    return specs


_COMMA = re.compile(r",(?![^\[{]*[\]}])")  # outside of brackets


def _split_metrics(text: str) -> list[str]:
    """Splits ``"psnr,lpips:net=vgg,fetch=true"`` into metrics with their options."""
    metrics: list[str] = []
    for part in _COMMA.split(text):
        if metrics and "=" in part.partition(":")[0]:  # an option of the metric before
            metrics[-1] += f",{part}"
        else:
            metrics.append(part)
    return metrics


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


class _Loader:
    """Reads pairs; counts their pixels that are not scored.

    Args:
        device: Device of the images.
        levels: Values that become 0 and 1.
        of_results: How results are read.
        of_truths: How ground truth is read.
        has_gt: Whether there is one; otherwise each result is its own partner.
    """

    def __init__(
        self,
        device: torch.device,
        levels: Levels,
        of_results: ReadOptions,
        of_truths: ReadOptions,
        has_gt: bool,
    ) -> None:
        self._device, self._levels = device, levels
        self._of_results, self._of_truths = of_results, of_truths
        self._what = "ground truth" if has_gt else "images"
        self._pixels: dict[str, tuple[int, int, int]] = {}  # all, not scored, lost in the result

    def __call__(self, pair: Pair) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns result, ground truth (C, H, W), cropped to the result's size, and its mask.

        The mask is bool (1, H, W); None if there are no masks and no missing pixels.
        """
        gt, valid = self._read(pair.gt, self._of_truths)
        # Without a ground truth, a result is its own partner.
        sr, found = self._read(pair.sr, self._of_results) if pair.sr != pair.gt else (gt, valid)
        if pair.mask is not None:
            mask = torch.from_numpy(as_mask(read_image(pair.mask, MASK_OPTIONS)))
            valid = mask if valid is None else valid & mask
        gt = gt[:, : sr.shape[1], : sr.shape[2]]
        if valid is None:
            return sr, gt, None
        valid = valid[:, : sr.shape[1], : sr.shape[2]]
        lost = 0 if found is None else int((valid & ~found).sum())
        self._pixels[pair.key] = valid.numel(), int((~valid).sum()), lost
        return sr, gt, valid.to(self._device)

    def notes(self) -> list[str]:
        """Returns sentences on pixels that are not scored, or that results lack."""
        counts = list(self._pixels.values())
        number, masked, lost = (sum(count[i] for count in counts) for i in range(3))
        notes = []
        if masked:
            share = f"{masked / number:.1%}" if masked >= 0.001 * number else "less than 0.1%"
            notes.append(f"{share} of the {self._what} is missing or masked and was not scored")
        if lost:
            notes.append(
                f"results lack {lost} pixels that are not missing in the ground truth; they were "
                "filled from their neighbours"
            )
        return notes

    def _read(self, path: Path, options: ReadOptions) -> tuple[Tensor, Tensor | None]:
        """Returns the intensities of a file, and which pixels are known, (1, H, W) bool."""
        pixels, known = read_image(path, options), None
        if options.num_extra:
            pixels, extra = pixels[:-1], pixels[-1:]
            known = torch.from_numpy(extra != 0)
        stored = torch.from_numpy(np.array(self._levels.apply(pixels), order="C"))
        return to_float(stored.to(self._device)), known


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Adds the name of an image or clip to errors."""
    try:
        yield
    except (UserError, RunError) as error:
        kind = UserError if isinstance(error, UserError) else RunError
        raise kind(f"{key}: {error}") from error

"""Scores images that any program has made against their ground truth."""

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

from srtoolbox.data.examine import counting
from srtoolbox.data.reader import read_image
from srtoolbox.data.stream import to_float
from srtoolbox.engine.evaluator import Record, average
from srtoolbox.engine.files import write_atomic
from srtoolbox.engine.scored_files import Pair, pair_files
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import ClipMetric, Metric, Protocol, get_protocol
from srtoolbox.options import as_tree, plain, read
from srtoolbox.registry import METRIC_REGISTRY
from srtoolbox.schema import Component, build, check

if TYPE_CHECKING:
    from rich.table import Table


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
